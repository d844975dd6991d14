"""A career centre's portal on top of django_bi_integration: the demo, and a trial deployment."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
