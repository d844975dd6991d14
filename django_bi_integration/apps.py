"""The configuration of the Django app."""

from celery.app import app_or_default
from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BIIntegrationConfig(AppConfig):
    """Big Interview and Innovative Educators."""

    name = "django_bi_integration"
    verbose_name = _("Big Interview and Innovative Educators")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Modules that use models can only be imported when the app registry is ready.
        from django_bi_integration import tasks  # noqa: F401, PLC0415
        from django_bi_integration.dispatch.notify import notifier  # noqa: PLC0415
        from django_bi_integration.operations.checks import register_checks  # noqa: PLC0415

        notifier.use(app_or_default())
        register_checks()
