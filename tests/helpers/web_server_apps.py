"""The example project inside ProxyFixMiddleware, which trusts the forwarding headers of every client."""

from hypercorn.middleware import ProxyFixMiddleware

from example_project.asgi import application

proxy_fix = ProxyFixMiddleware(application)
