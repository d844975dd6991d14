"""The app's configuration, which connects the receivers."""

from django.apps import AppConfig


class ChaosConfig(AppConfig):
    name = "tests.chaos"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from tests.chaos import receivers  # noqa: F401, PLC0415
