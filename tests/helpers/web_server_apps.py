"""The example project inside a wrapper that believes its clients."""

from hypercorn.middleware import ProxyFixMiddleware

from example_project.asgi import application

proxy_fix = ProxyFixMiddleware(application)
