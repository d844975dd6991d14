"""The ASGI application: ``uvicorn example_project.asgi:application``."""

import os

from django.core.asgi import get_asgi_application

from django_bi_integration.asgi import limit_body

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

# Under ASGI, Django reads a body of any size before the webhook view can reject it. limit_body ends it early.
application = limit_body(get_asgi_application())
