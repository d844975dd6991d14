"""The admin screens: registrations, received events, object states, rejections; accounts, single sign-ons."""

from django_bi_integration.admin.accounts import BigInterviewAccountAdmin
from django_bi_integration.admin.events import ReceivedEventAdmin
from django_bi_integration.admin.object_states import ObjectStateAdmin
from django_bi_integration.admin.registrations import WebhookRegistrationAdmin
from django_bi_integration.admin.rejections import RejectionAdmin
from django_bi_integration.admin.sso_sessions import SSOSessionAdmin

__all__ = [
    "BigInterviewAccountAdmin",
    "ObjectStateAdmin",
    "ReceivedEventAdmin",
    "RejectionAdmin",
    "SSOSessionAdmin",
    "WebhookRegistrationAdmin",
]
