"""BigInterviewAccount: an organisation at Big Interview, with the API key of its Partner API."""

import re
from functools import partial
from typing import Any

from django.core.validators import RegexValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from requests.adapters import BaseAdapter

from django_bi_integration.conf import settings
from django_bi_integration.exceptions import KeyOfAnotherAccount, NoAccount
from django_bi_integration.keys import checked_key
from django_bi_integration.models.managers import Manager
from django_bi_integration.partner_api import PartnerClient, encryption

#: One label of a host name (RFC 1123). Anything else could turn the base URL into one of another host.
LABEL = re.compile(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class BigInterviewAccountQuerySet(models.QuerySet["BigInterviewAccount"]):
    def usable(self) -> "BigInterviewAccountQuerySet":
        """Return the accounts that single sign-on can use."""
        return self.filter(is_active=True).exclude(api_key_encrypted="")

    def default(self) -> "BigInterviewAccount | None":
        """Return the usable account that is marked as default, or else the oldest usable one."""
        return self.usable().order_by("-is_default", "pk").first()


class BigInterviewAccount(models.Model):
    """An organisation at Big Interview.

    The API key is stored encrypted, with the newest of ``ENCRYPTION_KEYS`` or, without that setting, with Django's
    secret key, and it is never shown again. It belongs to the subdomain that it was entered for: another subdomain is
    another host, which must not receive it.
    """

    subdomain = models.CharField(
        _("subdomain"),
        max_length=63,
        unique=True,
        validators=[RegexValidator(LABEL, _("Give the part before “.biginterview.com”: letters, digits, hyphens."))],
        help_text=_("The part before “.biginterview.com” in your organisation’s address, such as “xyz”."),
    )
    api_key_encrypted = models.TextField(blank=True, editable=False)
    key_rejected_at = models.DateTimeField(_("API key rejected"), null=True, blank=True, editable=False)
    is_default = models.BooleanField(
        _("default"), default=False, help_text=_("Used by links to Big Interview that name no account.")
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Nobody can sign in to Big Interview through an inactive account.")
    )
    allows_anonymous = models.BooleanField(
        _("anonymous users"),
        default=False,
        help_text=_("Visitors who are not logged in may practise for a day. Big Interview has to approve this first."),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = Manager.from_queryset(BigInterviewAccountQuerySet)()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("Big Interview account")
        verbose_name_plural = _("Big Interview accounts")
        ordering = ["subdomain"]

    def __str__(self) -> str:
        return self.subdomain

    def save(self, *arguments: Any, **options: Any) -> None:
        """Save the account. If it is the default one, no other account stays the default."""
        with transaction.atomic():
            if self.is_default:
                # Lock all rows, in one order: two accounts saved at the same time could otherwise both stay default.
                list(BigInterviewAccount.objects.select_for_update().order_by("pk").values_list("pk"))
                BigInterviewAccount.objects.exclude(pk=self.pk).update(is_default=False)
            super().save(*arguments, **options)

    def clean(self) -> None:
        self.subdomain = self.subdomain.strip().lower()

    def clean_fields(self, exclude: Any = None) -> None:
        self.clean()
        super().clean_fields(exclude)

    @property
    def base_url(self) -> str:
        """The organisation's URL, from the setting ``BASE_URL``. Raises NoAccount if the subdomain is not valid."""
        # update() and fixtures bypass the validators, and the URL could be one of another host.
        if not LABEL.match(self.subdomain):
            raise NoAccount(f"{self.subdomain!r} is not a subdomain.")
        template: str = settings.BASE_URL
        return template.replace("{org}", self.subdomain).rstrip("/")

    @property
    def has_api_key(self) -> bool:
        return bool(self.api_key_encrypted)

    @sensitive_variables()
    def set_api_key(self, raw: str) -> None:
        """Replace the API key with ``raw``, encrypted. Set the subdomain before, and save afterwards.

        Raise ValueError if ``raw`` is blank, begins with a scheme such as "Bearer", contains white space or could
        not be sent in a header, or if there is no subdomain yet.
        """
        key = checked_key(raw)
        if not self._host:
            raise ValueError("The account has no subdomain. Set it first, because the key belongs to it.")
        self.api_key_encrypted = encryption.encrypt(f"{self._host}\n{key}")
        self.key_rejected_at = None

    @property
    def _host(self) -> str:
        """The host that the key is bound to. Only developers can change ``BASE_URL``, so it is not included."""
        return self.subdomain.strip().lower()

    @sensitive_variables()
    def decrypted_key(self) -> str:
        """Return the API key.

        Raise UndecryptableKey if the encryption key is lost, and KeyOfAnotherAccount if the API key was entered for
        another subdomain.
        """
        host, _separator, key = encryption.decrypt(self.api_key_encrypted).rpartition("\n")
        if host != self._host:
            raise KeyOfAnotherAccount(
                f"The stored API key was not entered for the subdomain {self._host!r}, so it is not sent to that host."
                " Enter the API key again in the admin."
            )
        return key

    @sensitive_variables()
    def client(self, *, budget: float | None = None, transport: BaseAdapter | None = None) -> PartnerClient:
        """Return a client for this organisation, which records in ``key_rejected_at`` whether the API accepts the key.

        Raise NoAccount if there is no API key, UndecryptableKey if the encryption key is lost, and KeyOfAnotherAccount
        if the subdomain was changed and the API key was not entered again.
        """
        if not self.has_api_key:
            raise NoAccount(f"The Big Interview account {self} has no API key.")
        record = partial(self._record_key_answer, self.api_key_encrypted)
        key = self.decrypted_key()
        return PartnerClient(self.base_url, key, budget=budget, transport=transport, on_key_answer=record)

    def _record_key_answer(self, api_key_encrypted: str, accepted: bool) -> None:
        """Store that the API rejected the key, or accepted it again. Only a change executes SQL."""
        if accepted == (self.key_rejected_at is None):
            return
        moment = None if accepted else timezone.now()
        # Someone may have entered another key in the meantime. The time of the first rejection stays, so that launches
        # do not all write to one row.
        row = BigInterviewAccount.objects.filter(pk=self.pk, api_key_encrypted=api_key_encrypted)
        if row.filter(key_rejected_at__isnull=not accepted).update(key_rejected_at=moment):
            self.key_rejected_at = moment

    def renew_encryption(self) -> bool:
        """Encrypt the API key with the newest encryption key. Save afterwards. Return False if nothing had to change.

        Raise UndecryptableKey if the key that encrypted it is lost.
        """
        if not self.has_api_key or encryption.is_current(self.api_key_encrypted):
            return False
        self.api_key_encrypted = encryption.encrypt(encryption.decrypt(self.api_key_encrypted))
        return True
