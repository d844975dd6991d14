"""The portal's app configuration, which connects the receivers."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    name = "example_project.portal"
    label = "portal"
    verbose_name = _("Career centre portal")
    # The default of Django 6.0, so that Django 5.2 needs no other migration.
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from example_project.portal import receivers  # noqa: F401, PLC0415 - the import connects them
