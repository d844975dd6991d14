"""The host project's own app: what its receivers write, and its Celery app, here with a broker in memory."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
