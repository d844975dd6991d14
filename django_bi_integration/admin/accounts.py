"""The screen of Big Interview accounts: the organisation, and the key to its Partner API."""

import time
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_bi_integration.admin.base import KeyAdmin, KeyField
from django_bi_integration.admin.values import exact_time
from django_bi_integration.exceptions import BIIntegrationError, KeyOfAnotherAccount, KeyRejected, UndecryptableKey
from django_bi_integration.models import BigInterviewAccount
from django_bi_integration.partner_api import encryption

#: Seconds that an administrator waits for the check of one key.
CHECK_BUDGET = 5
#: The columns that a new key changes.
KEY_COLUMNS = ["api_key_encrypted", "key_rejected_at"]


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # takes an argument in the stubs only
    """A form with a key that is never shown again."""

    api_key = KeyField(
        label=_("API key"),
        help_text=_(
            "From Big Interview: your name, then “API Settings”. It is stored encrypted and never shown again."
            " When you save, it is checked with Big Interview."
        ),
    )

    class Meta:
        model = BigInterviewAccount
        fields = ["subdomain", "is_default", "is_active", "allows_anonymous"]

    def clean(self) -> Any:
        cleaned = super().clean()
        subdomain, previous = self.cleaned_data.get("subdomain", ""), self.instance.subdomain
        is_moved = subdomain and subdomain.strip().lower() != previous
        if is_moved and self.instance.has_api_key and not self.cleaned_data.get("api_key") and not self.errors:
            text = _(
                "The stored key belongs to “%(previous)s” and is sent to no other host. Enter the key of “%(new)s”."
            )
            self.add_error("api_key", forms.ValidationError(text, params={"previous": previous, "new": subdomain}))
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if key := self.cleaned_data.get("api_key"):
            self.instance.set_api_key(key)
        return super().save(commit)


@admin.register(BigInterviewAccount)
class BigInterviewAccountAdmin(KeyAdmin):
    form = AccountForm
    fields = ["subdomain", "key_state", "api_key", "is_default", "is_active", "allows_anonymous"]
    readonly_fields = ["key_state"]
    list_display = ["subdomain", "key_state", "is_default", "is_active", "allows_anonymous"]
    search_fields = ["subdomain"]
    hidden = ("api_key_encrypted",)
    actions = ["check_keys"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_default": not BigInterviewAccount.objects.exists()}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_fields(request, obj)
        return fields if obj else [name for name in fields if name != "key_state"]

    def save_model(self, request: HttpRequest, obj: BigInterviewAccount, form: Any, change: bool) -> None:
        if change:
            # Save only what was changed: bi_rotate_keys may have run since the page was loaded.
            changed = [name for name in form.changed_data if name != "api_key"]
            obj.save(update_fields=[*changed, *(KEY_COLUMNS if "api_key" in form.changed_data else ())])
        else:
            super().save_model(request, obj, form, change)
        if form.cleaned_data.get("api_key"):
            # After the commit, because a slow response must not hold up the database.
            transaction.on_commit(partial(self._check_key, request, obj))
        elif not obj.has_api_key:
            warning = gettext("“%s” cannot be used for single sign-on until it has an API key.") % obj
            self.message_user(request, warning, messages.WARNING)

    @admin.action(description=_("Check the API key with Big Interview"), permissions=["change"])
    def check_keys(self, request: HttpRequest, queryset: QuerySet[BigInterviewAccount]) -> None:
        for account in queryset:
            self._check_key(request, account)
        self.log_changes(request, queryset, gettext("Checked the API key with Big Interview."))

    @admin.display(description=_("current key"))
    def key_state(self, account: BigInterviewAccount) -> str:
        if not account.has_api_key:
            return gettext("none")
        try:
            account.decrypted_key()
        except KeyOfAnotherAccount:
            return gettext("entered for another subdomain, so it is not used: enter it again")
        except UndecryptableKey:
            return gettext("cannot be decrypted: enter it again, or put the previous encryption key back")
        if account.key_rejected_at:
            return gettext("rejected by Big Interview since %s") % exact_time(account.key_rejected_at)
        if not encryption.is_current(account.api_key_encrypted):
            return gettext("set, with a previous encryption key: run bi_rotate_keys")
        return gettext("set")

    def _check_key(self, request: HttpRequest, account: BigInterviewAccount) -> None:
        started = time.perf_counter()
        try:
            account.client(budget=CHECK_BUDGET).check_key()
        except KeyRejected as error:
            text = gettext("Big Interview rejects the API key of “%(account)s”. %(error)s")
            self.message_user(request, text % {"account": account, "error": error}, messages.ERROR)
        except BIIntegrationError as error:
            text = gettext("The API key of “%(account)s” could not be checked. %(error)s")
            self.message_user(request, text % {"account": account, "error": error}, messages.WARNING)
        else:
            duration = round((time.perf_counter() - started) * 1000)
            text = gettext("Big Interview accepts the API key of “%(account)s”; the response took %(duration)d ms.")
            self.message_user(request, text % {"account": account, "duration": duration}, messages.SUCCESS)
