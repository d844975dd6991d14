"""The Django app."""

from celery.app import app_or_default
from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class BIIntegrationConfig(AppConfig):
    """Big Interview and Innovative Educators."""

    name = "django_bi_integration"
    verbose_name = _("Big Interview and Innovative Educators")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Models and what uses them can only be imported once the app registry is ready.
        from django_bi_integration import checks, sign_on_checks, tasks  # noqa: F401, PLC0415
        from django_bi_integration.webhooks.wake_up import publisher  # noqa: PLC0415

        publisher.use(app_or_default())
        for check in [*checks.ALL, *sign_on_checks.ALL]:
            register(check, "django_bi_integration")
        for check in [*checks.OF_THE_DATABASE, *sign_on_checks.OF_THE_DATABASE]:
            register(check, Tags.database)
        for check in checks.ON_DEPLOYMENT:
            register(check, "django_bi_integration", deploy=True)
