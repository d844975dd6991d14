"""BigInterviewAccount: an organisation at Big Interview, with the key to its Partner API."""

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
from django_bi_integration.partner_api import encryption
from django_bi_integration.partner_api.client import PartnerClient

#: One label of a host name (RFC 1123). Anything else could make a base URL of somebody else's.
LABEL = re.compile(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


class BigInterviewAccountQuerySet(models.QuerySet["BigInterviewAccount"]):
    def usable(self) -> "BigInterviewAccountQuerySet":
        """Those that single sign-on may start with."""
        return self.filter(is_active=True).exclude(api_key_encrypted="")

    def default(self) -> "BigInterviewAccount | None":
        """The usable one that is marked as default; without a mark, the oldest."""
        return self.usable().order_by("-is_default", "pk").first()


class BigInterviewAccount(models.Model):
    """An organisation at Big Interview.

    The API key is stored encrypted, with the keys of the setting ``ENCRYPTION_KEYS`` or, where there are none,
    with Django's secret key; it is never shown again. It belongs to the subdomain that it was entered for: another
    subdomain is another host, which must not get it.
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
        _("default"), default=False, help_text=_("Taken where a link to Big Interview names no account.")
    )
    is_active = models.BooleanField(_("active"), default=True, help_text=_("An inactive account lets nobody through."))
    allows_anonymous = models.BooleanField(
        _("anonymous users"),
        default=False,
        help_text=_("Visitors who are not logged in may practise for a day. Big Interview has to approve of it first."),
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
        """Save it, and take the mark of the default from any other that has it."""
        with transaction.atomic():
            if self.is_default:
                # All of them, in one order: two that are saved at once would each leave the other its mark.
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
        """Where the organisation is, by the setting ``BASE_URL``; raises NoAccount for a subdomain that is none."""
        # It may have come past the validators, by update() or a fixture, and would be another host.
        if not LABEL.match(self.subdomain):
            raise NoAccount(f"{self.subdomain!r} is no subdomain.")
        template: str = settings.BASE_URL
        return template.replace("{org}", self.subdomain).rstrip("/")

    @property
    def has_api_key(self) -> bool:
        return bool(self.api_key_encrypted)

    @sensitive_variables()
    def set_api_key(self, raw: str) -> None:
        """Replace the Partner API key by ``raw``, encrypted; set the subdomain before and save afterwards.

        Raises ValueError if ``raw`` is blank, begins with a scheme such as "Bearer", contains white space or could
        not be sent in a header, or if there is no subdomain yet.
        """
        key = checked_key(raw)
        if not self._host:
            raise ValueError("The account has no subdomain: set it first, since the key belongs to it.")
        self.api_key_encrypted = encryption.encrypt(f"{self._host}\n{key}")
        self.key_rejected_at = None

    @property
    def _host(self) -> str:
        """What the key is bound to. A change of ``BASE_URL`` is the developer's own, and needs no new key."""
        return self.subdomain.strip().lower()

    @sensitive_variables()
    def decrypted_key(self) -> str:
        """Return the API key.

        Raise UndecryptableKey if the encryption key is lost, and KeyOfAnotherAccount if the subdomain is not the one
        that it was entered for.
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
        """A client for this organisation.

        It notes when the API rejects the key, and when it accepts it again.

        Raises NoAccount if it has no API key, UndecryptableKey if the encryption key is lost, and KeyOfAnotherAccount
        if the subdomain was changed without entering the key again.
        """
        if not self.has_api_key:
            raise NoAccount(f"The Big Interview account {self} has no API key.")
        noted = partial(self._note_answer, self.api_key_encrypted)
        key = self.decrypted_key()
        return PartnerClient(self.base_url, key, budget=budget, transport=transport, on_key_answer=noted)

    def _note_answer(self, api_key_encrypted: str, accepted: bool) -> None:
        """Store that the API rejected the key, or accepted it again; only a change costs a statement."""
        if accepted == (self.key_rejected_at is None):
            return
        moment = None if accepted else timezone.now()
        # Somebody may have entered another key meanwhile. The time of the first rejection stays, so that launches do
        # not all write to one row.
        row = BigInterviewAccount.objects.filter(pk=self.pk, api_key_encrypted=api_key_encrypted)
        if row.filter(key_rejected_at__isnull=not accepted).update(key_rejected_at=moment):
            self.key_rejected_at = moment

    def renew_encryption(self) -> bool:
        """Encrypt the API key with the newest key; save afterwards. False where it is so already.

        Raises UndecryptableKey where the key that encrypted it is lost.
        """
        if not self.has_api_key or encryption.is_current(self.api_key_encrypted):
            return False
        self.api_key_encrypted = encryption.encrypt(encryption.decrypt(self.api_key_encrypted))
        return True
