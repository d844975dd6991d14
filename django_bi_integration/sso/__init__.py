"""Single sign-on into Big Interview, and the return from there."""

from django_bi_integration.sso.accounts import is_open_to_visitors
from django_bi_integration.sso.destinations import destination
from django_bi_integration.sso.launch import Launch, start
from django_bi_integration.sso.returns import record_return

__all__ = ["Launch", "destination", "is_open_to_visitors", "record_return", "start"]
