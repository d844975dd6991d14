"""The models of this package, one file each."""

from django_bi_integration.models.account import BigInterviewAccount
from django_bi_integration.models.event import ReceivedEvent
from django_bi_integration.models.object_state import ObjectState
from django_bi_integration.models.registration import WebhookRegistration
from django_bi_integration.models.rejection import Rejection
from django_bi_integration.models.sso_session import SSOSession

__all__ = [
    "BigInterviewAccount",
    "ObjectState",
    "ReceivedEvent",
    "Rejection",
    "SSOSession",
    "WebhookRegistration",
]
