"""The WSGI application with every Django receiver."""

from django.core.wsgi import get_wsgi_application

from benchmarks import celery

__all__ = ["application", "celery"]

application = get_wsgi_application()
