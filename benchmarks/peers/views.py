"""Receivers as a good Django developer would write them by hand, and the least that Django can do."""

import json
import uuid
from functools import partial

from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseForbidden, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, Serializer
from rest_framework.views import APIView

from benchmarks.peers.models import Event, Registration
from benchmarks.peers.tasks import process


@csrf_exempt
@require_POST
def function_view(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Compare the key of a row, ``get_or_create``, ``on_commit`` and ``.delay()``."""
    registration = get_object_or_404(Registration, pk=pk, is_active=True)
    if not constant_time_compare(request.headers.get("Authorization", ""), registration.key):
        return HttpResponseForbidden()
    try:
        webhook = json.loads(request.body)["webhook"]
        event_id, event_type = webhook["id"], webhook["event_name"]
    except (ValueError, KeyError, TypeError):
        return HttpResponseBadRequest()
    with transaction.atomic():
        event, created = Event.objects.get_or_create(
            registration=registration, event_id=event_id, defaults={"event_type": event_type, "payload": webhook}
        )
        if created:
            transaction.on_commit(partial(process.delay, event.pk))
    return JsonResponse({"status": "ok"})


class KeyAuthentication(BaseAuthentication):
    """Authenticate by the key of the registration in the URL."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, Registration]:
        """Return no user and the registration."""
        pk = request.parser_context["kwargs"]["pk"]
        registration = get_object_or_404(Registration, pk=pk, is_active=True)
        if not constant_time_compare(request.headers.get("Authorization", ""), registration.key):
            raise AuthenticationFailed
        return AnonymousUser(), registration


class WebhookSerializer(Serializer):
    """The fields that every event has."""

    id = CharField(max_length=255)
    event_name = CharField(max_length=100)


class DeliverySerializer(Serializer):
    """The outermost object."""

    webhook = WebhookSerializer()


class DRFView(APIView):
    """The same as a view of Django REST framework, with an authentication class and serializers, as in its tutorial."""

    authentication_classes = (KeyAuthentication,)
    permission_classes = (AllowAny,)

    def post(self, request: Request, pk: uuid.UUID) -> Response:
        """Store the event and send a task."""
        serializer = DeliverySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        webhook = serializer.validated_data["webhook"]
        with transaction.atomic():
            event, created = Event.objects.get_or_create(
                registration=request.auth,
                event_id=webhook["id"],
                defaults={"event_type": webhook["event_name"], "payload": request.data["webhook"]},
            )
            if created:
                transaction.on_commit(partial(process.delay, event.pk))
        return Response({"status": "ok"})


@csrf_exempt
def plain_view(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Insert a row without authentication and without recognising duplicates: the upper limit with Django."""
    webhook = json.loads(request.body)["webhook"]
    Event.objects.create(registration_id=pk, event_id=webhook["id"], event_type=webhook["event_name"], payload=webhook)
    return HttpResponse()
