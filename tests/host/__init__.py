"""The host project's app: the tables that its receivers write, and its Celery app with an in-memory broker."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
