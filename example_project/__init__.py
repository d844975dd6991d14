"""A career centre's portal built on django_bi_integration. README.md says in which order to read it."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
