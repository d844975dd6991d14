"""The portal's app configuration; it connects the receivers."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    name = "example_project.portal"
    label = "portal"
    verbose_name = _("Career centre portal")
    # Django 6 has this by default, Django 5 does not; the migration is the same for both.
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from example_project.portal import receivers  # noqa: F401, PLC0415 - importing it connects them
