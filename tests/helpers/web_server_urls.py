"""The example project's URLs, a view that dispatches pending events, and an async receiver that raises."""

from django.dispatch import receiver
from django.http import HttpResponse
from django.urls import path

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.signals import event_received
from example_project.urls import urlpatterns as example_urls


@receiver(event_received, dispatch_uid="async receiver that raises")
async def fail(**arguments):
    raise LookupError("as asked")


def dispatch(request):
    dispatch_pending()
    return HttpResponse("done")


urlpatterns = [path("dispatch/", dispatch), *example_urls]
