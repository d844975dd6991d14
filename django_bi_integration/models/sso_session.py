"""SSOSession: one launch of single sign-on into Big Interview, and its outcome."""

import uuid

from django.conf import settings as django_settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_bi_integration.models.account import BigInterviewAccount
from django_bi_integration.models.managers import Manager


class SSOSession(models.Model):
    """One launch: the user, the page, and the outcome. The token is never stored.

    The launch is ``requested`` while the Partner API is asked for a token, ``redirected`` once the browser is sent to
    Big Interview, ``returned`` once the student has returned, and ``failed``, with its ``error``, if no token was
    available. A failure that happens again is counted in ``failures`` and not stored again.
    """

    class Status(models.TextChoices):
        REQUESTED = "requested", _("requested")
        REDIRECTED = "redirected", _("redirected")
        RETURNED = "returned", _("returned")
        FAILED = "failed", _("failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=_("user"),
    )
    account = models.ForeignKey(
        BigInterviewAccount,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="sso_sessions",
        verbose_name=_("account"),
    )
    partner_id = models.CharField(_("partner id"), max_length=64, blank=True)
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.REQUESTED)
    redirect_to = models.TextField(_("page at Big Interview"), blank=True)
    return_url = models.TextField(_("return URL"), blank=True)
    token_expires_at = models.DateTimeField(_("token expires"), null=True, blank=True)
    requested_at = models.DateTimeField(_("requested"))
    redirected_at = models.DateTimeField(_("redirected"), null=True, blank=True)
    returned_at = models.DateTimeField(_("returned"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    last_failed_at = models.DateTimeField(_("last failure"), null=True, blank=True)
    # A digest of the user, the account, the class of error and the hour whose failures are counted here.
    failure_key = models.CharField(max_length=64, null=True, unique=True, editable=False)
    # A digest of the user and the account, as long as another launch would be a double click.
    in_progress = models.CharField(max_length=64, null=True, unique=True, editable=False)

    objects = Manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("single sign-on")
        verbose_name_plural = _("single sign-ons")
        indexes = [
            models.Index(fields=["requested_at"], name="bi_sso_requested"),
            models.Index(fields=["partner_id", "user"], name="bi_sso_partner"),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def reference(self) -> str:
        """The eight characters that a student quotes to the help desk. The admin's search finds the session by them."""
        return self.pk.hex[:8]
