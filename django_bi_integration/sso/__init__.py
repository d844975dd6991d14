"""Single sign-on into Big Interview, out and back."""

from django_bi_integration.sso.launch import Launch, come_back, is_open_to_visitors, start

__all__ = ["Launch", "come_back", "is_open_to_visitors", "start"]
