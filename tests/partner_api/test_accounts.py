"""Accounts: the API key can be used but never read, and stays usable when the encryption key is rotated."""

import json
import re
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from django_bi_integration import sso
from django_bi_integration.exceptions import KeyRejected, NoAccount, UndecryptableKey
from django_bi_integration.models import BigInterviewAccount, SSOSession
from tests.helpers.partner_api import API_KEY, answer, partner_api

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

ADD = "/admin/django_bi_integration/biginterviewaccount/add/"
LIST = "/admin/django_bi_integration/biginterviewaccount/"
OLD, NEW = "o" * 40, "n" * 40


def account(subdomain="xyz", **fields):
    made = BigInterviewAccount(subdomain=subdomain, **fields)
    made.set_api_key(API_KEY)
    made.save()
    return made


def usable(made):
    """Return whether the account's client sends the right key to the API."""
    with partner_api(answer(404)) as api, pytest.MonkeyPatch.context() as patch:
        patch.setattr(BigInterviewAccount, "base_url", api.url)
        made.client().check_key()
        return api.requests[0].headers["authorization"] == API_KEY


def column():
    """Return the stored ciphertext, read without the model."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_key_encrypted FROM django_bi_integration_biginterviewaccount")
        return cursor.fetchone()[0]


def keys(settings, *ring):
    """Set the encryption keys, the newest one first."""
    settings.BI_INTEGRATION = {"ENCRYPTION_KEYS": list(ring)}


def test_the_stored_key_is_encrypted_and_usable():
    """Invariant 9: the database does not contain the key itself."""
    made = account()
    assert API_KEY not in column()
    assert usable(BigInterviewAccount.objects.get(pk=made.pk))


def test_two_ciphertexts_of_one_key_differ():
    first = account().api_key_encrypted
    assert first != account("other").api_key_encrypted


@pytest.mark.parametrize("raw", ["", "  ", "a\nb", "a\x00b", "schlüssel", "two words", f"Bearer {API_KEY}"])
def test_setting_a_key_that_no_header_can_carry_is_an_error(raw):
    with pytest.raises(ValueError, match="The key"):
        BigInterviewAccount().set_api_key(raw)


def test_stored_keys_stay_usable_after_a_rotation_and_then_need_only_the_new_encryption_key(settings):
    keys(settings, OLD)
    made = account()
    keys(settings, NEW, OLD)
    assert usable(made)
    output = StringIO()
    call_command("bi_rotate_keys", stdout=output)
    assert output.getvalue() == "1 encrypted with the newest key, 0 cannot be decrypted.\n"
    keys(settings, NEW)
    assert usable(BigInterviewAccount.objects.get())
    output = StringIO()
    call_command("bi_rotate_keys", "--json", stdout=output)
    assert json.loads(output.getvalue()) == {"renewed": [], "unreadable": []}


def test_djangos_secret_key_is_used_until_there_are_encryption_keys(settings):
    made = account()
    keys(settings, NEW)
    assert usable(made), "setting ENCRYPTION_KEYS makes no stored key unreadable"
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [settings.SECRET_KEY]
    assert usable(made)


def test_a_lost_encryption_key_is_reported_and_the_ciphertext_is_kept(settings):
    keys(settings, OLD)
    made = account()
    stored = column()
    keys(settings, NEW)
    with pytest.raises(UndecryptableKey, match="Put it back there, or enter the API key again"):
        made.client()
    errors = StringIO()
    with pytest.raises(CommandError) as end:
        call_command("bi_rotate_keys", stdout=StringIO(), stderr=errors)
    assert end.value.returncode == 1
    assert "xyz: The stored API key cannot be decrypted" in errors.getvalue()
    assert column() == stored


@pytest.mark.parametrize(
    "subdomain",
    ["", "a.b", "a/b", "-a", "a-", "a b", "a@b", "evil.example/", "a\n", "a?b", "a#b", "ä", "x" * 64, "{org}", "a_b"],
    ids=ascii,
)
def test_a_subdomain_is_one_label_of_a_host_name(subdomain):
    """The form validates it, and ``base_url`` again before the key is sent."""
    made = BigInterviewAccount(subdomain=subdomain)
    with pytest.raises(NoAccount):
        _ = made.base_url
    if subdomain.strip() == subdomain:
        with pytest.raises(ValidationError):
            made.full_clean()


def test_a_subdomain_is_stored_in_lower_case():
    made = BigInterviewAccount(subdomain=" XYZ ")
    made.full_clean()
    assert made.base_url == "https://xyz.biginterview.com"


def test_the_setting_base_url_contains_the_host_of_a_sister_brand(settings):
    settings.BI_INTEGRATION = {"BASE_URL": "https://{org}.biginterviewmedical.com/"}
    assert account().base_url == "https://xyz.biginterviewmedical.com"


def test_the_default_account_is_the_one_marked_last_or_else_the_oldest_usable_one():
    first, second = account("one", is_default=True), account("two", is_default=True)
    assert BigInterviewAccount.objects.default() == second
    assert not BigInterviewAccount.objects.get(pk=first.pk).is_default
    BigInterviewAccount.objects.filter(pk=second.pk).update(is_active=False)
    assert BigInterviewAccount.objects.default() == first


def texts(response):
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def form(**fields):
    return {"subdomain": "xyz", "is_active": "on", **fields}


@pytest.fixture
def api(settings):
    with partner_api(answer(404)) as running:
        settings.BI_INTEGRATION = {"BASE_URL": running.url}
        yield running


def test_a_key_entered_in_the_admin_is_checked_and_never_shown_again(admin_client, api):
    page = admin_client.post(ADD, form(api_key=f" {API_KEY} "), follow=True)
    made = BigInterviewAccount.objects.get()
    assert re.search(r"Big Interview accepts the API key of “xyz”; the response took \d+ ms\.", texts(page))
    assert api.requests[0].headers["authorization"] == API_KEY
    change = admin_client.get(f"{LIST}{made.pk}/change/")
    assert "Current key: set" in texts(change)
    shown = [page.content.decode(), change.content.decode(), str(LogEntry.objects.values())]
    assert all(API_KEY not in text for text in shown)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (answer(401), "rejects the API key of “xyz”. The Partner API answered 401."),
        (answer(200, "x"), "could not be checked. The API"),
    ],
)
def test_a_key_that_is_not_accepted_is_stored_and_reported(admin_client, api, script, text):
    api.scripts[:] = [script]
    page = admin_client.post(ADD, form(api_key=API_KEY), follow=True)
    assert text in texts(page)
    assert BigInterviewAccount.objects.get().has_api_key


def test_the_form_stores_a_subdomain_in_lower_case(admin_client):
    admin_client.post(ADD, form(subdomain=" XYZ "))
    assert BigInterviewAccount.objects.get().subdomain == "xyz"


def test_saving_without_a_key_keeps_it_and_sends_no_request(admin_client, api):
    made = account()
    admin_client.post(f"{LIST}{made.pk}/change/", form(subdomain=" XYZ ", is_default="on"))
    assert usable(BigInterviewAccount.objects.get(subdomain="xyz", is_default=True))
    assert api.requests == []


def test_another_subdomain_is_another_host_and_needs_the_key_again(admin_client, api):
    """Otherwise anyone who may change an account could send its key to another host."""
    made = account()
    page = admin_client.post(f"{LIST}{made.pk}/change/", form(subdomain="abc"))
    assert "The stored key belongs to “xyz” and is sent to no other host. Enter the key of “abc”." in texts(page)
    assert BigInterviewAccount.objects.get().subdomain == "xyz"
    admin_client.post(f"{LIST}{made.pk}/change/", form(subdomain="abc", api_key=API_KEY[::-1]))
    assert BigInterviewAccount.objects.get().subdomain == "abc"
    assert [request.headers["authorization"] for request in api.requests] == [API_KEY[::-1]]


def test_a_subdomain_that_was_changed_without_the_form_does_not_receive_the_key(admin_client, api):
    made = account()
    BigInterviewAccount.objects.filter(pk=made.pk).update(subdomain="abc")
    made.refresh_from_db()
    with pytest.raises(UndecryptableKey, match="not entered for the subdomain 'abc'"):
        made.client().check_key()
    assert api.requests == []
    assert "entered for another subdomain, so it is not used" in texts(admin_client.get(LIST))
    BigInterviewAccount.objects.filter(pk=made.pk).update(subdomain="xyz")
    assert usable(BigInterviewAccount.objects.get())


def test_a_key_copied_to_another_account_cannot_be_used(api):
    """A fixture, or someone with access to the database, may have copied it."""
    other = BigInterviewAccount.objects.create(subdomain="abc", api_key_encrypted=account().api_key_encrypted)
    with pytest.raises(UndecryptableKey):
        other.client()


def test_a_rotation_keeps_a_key_bound_to_its_subdomain(settings):
    keys(settings, OLD)
    account()
    keys(settings, NEW, OLD)
    BigInterviewAccount.objects.update(subdomain="abc")
    call_command("bi_rotate_keys", stdout=StringIO())
    with pytest.raises(UndecryptableKey):
        BigInterviewAccount.objects.get().client()


def test_a_key_stays_usable_after_the_setting_base_url_changed(settings):
    made = account()
    settings.BI_INTEGRATION = {"BASE_URL": "https://{org}.biginterviewmedical.com"}
    assert usable(made)


def test_a_key_cannot_be_set_without_a_subdomain():
    with pytest.raises(ValueError, match="Set it first"):
        BigInterviewAccount().set_api_key(API_KEY)


def key_state(admin_client):
    """Return what the admin's list shows about the key of the only account."""
    return re.search(r'class="field-key_state">([^<]*)<', admin_client.get(LIST).content.decode())[1]


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_shown_as_rejected_until_it_is_accepted_again(admin_client, api, status):
    made = account()
    check = {"action": "check_keys", "_selected_action": made.pk}
    api.scripts[:] = [answer(status)]
    admin_client.post(LIST, check)
    shown = key_state(admin_client)
    assert re.fullmatch(r"rejected by Big Interview since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown)
    first = BigInterviewAccount.objects.get().key_rejected_at
    admin_client.post(LIST, check)
    assert BigInterviewAccount.objects.get().key_rejected_at == first, "the time is not that of the first rejection"
    api.scripts[:] = [answer(503)]
    admin_client.post(LIST, check)
    assert key_state(admin_client) == shown, "an outage changed the state of the key"
    api.scripts[:] = [answer(404, {"error": {"message": "no such user"}})]
    admin_client.post(LIST, check)
    assert key_state(admin_client) == "set"


def test_a_new_key_is_not_shown_as_rejected(admin_client, api):
    made = account()
    api.scripts[:] = [answer(401)]
    admin_client.post(LIST, {"action": "check_keys", "_selected_action": made.pk})
    api.scripts[:] = [answer(503)]
    admin_client.post(f"{LIST}{made.pk}/change/", form(api_key=API_KEY[::-1]))
    assert key_state(admin_client) == "set"


def test_a_launch_records_that_the_key_is_rejected(api, django_user_model):
    account()
    user = django_user_model.objects.create_user("student", "s@example.edu", first_name="A", last_name="B")
    api.scripts[:] = [answer(401)]
    with pytest.raises(KeyRejected):
        sso.start(user)
    assert BigInterviewAccount.objects.get().key_rejected_at is not None


def test_a_rejection_of_the_previous_key_does_not_mark_the_new_key_as_rejected(api):
    made = account()
    client = made.client()
    made.set_api_key(API_KEY[::-1])
    made.save()
    api.scripts[:] = [answer(401)]
    with pytest.raises(KeyRejected):
        client.check_key()
    assert BigInterviewAccount.objects.get().key_rejected_at is None


def test_a_403_for_an_anonymous_user_does_not_mark_the_key_as_rejected(api):
    """Big Interview may not have approved anonymous users for this account."""
    made = account()
    api.scripts[:] = [answer(403)]
    with pytest.raises(KeyRejected):
        made.client().create_anonymous_user()
    assert BigInterviewAccount.objects.get().key_rejected_at is None


def test_an_account_without_a_key_is_stored_with_a_warning(admin_client):
    assert "cannot be used for single sign-on until it has an API key" in texts(
        admin_client.post(ADD, form(), follow=True)
    )


def test_a_form_with_an_error_does_not_show_the_key(admin_client):
    page = admin_client.post(ADD, form(subdomain="a.b", api_key=API_KEY))
    assert "Give the part before" in texts(page)
    assert API_KEY not in page.content.decode()


def test_keys_can_be_checked_from_the_list(admin_client, api):
    made = account()
    page = admin_client.post(LIST, {"action": "check_keys", "_selected_action": made.pk}, follow=True)
    assert "Big Interview accepts the API key of “xyz”" in texts(page)
    assert LogEntry.objects.get().get_change_message() == "Checked the API key with Big Interview."


def test_the_admins_list_shows_what_is_wrong_with_a_key(admin_client, settings):
    keys(settings, OLD)
    made = account()
    keys(settings, NEW, OLD)
    assert "with a previous encryption key: run bi_rotate_keys" in texts(admin_client.get(LIST))
    keys(settings, NEW)
    assert "cannot be decrypted: enter it again" in texts(admin_client.get(LIST))
    made.api_key_encrypted = ""
    made.save()
    assert "xyz none" in texts(admin_client.get(LIST))


def test_an_account_without_a_key_has_no_client():
    with pytest.raises(NoAccount, match="has no API key"):
        BigInterviewAccount(subdomain="xyz").client()


def test_saving_a_form_that_was_opened_before_a_rotation_does_not_undo_it(admin_client, settings, monkeypatch):
    keys(settings, OLD)
    made = account()
    keys(settings, NEW, OLD)
    clean = BigInterviewAccount.clean

    def rotate_meanwhile(self):
        call_command("bi_rotate_keys", stdout=StringIO())
        clean(self)

    monkeypatch.setattr(BigInterviewAccount, "clean", rotate_meanwhile)
    admin_client.post(f"{LIST}{made.pk}/change/", form(is_default="on"))
    keys(settings, NEW)
    made.refresh_from_db()
    assert made.is_default
    assert usable(made)


@pytest.mark.parametrize("stored", ["ünlesbar", "x", "gAAAA"])
def test_text_that_was_never_encrypted_cannot_be_decrypted(stored, admin_client):
    BigInterviewAccount.objects.create(subdomain="xyz", api_key_encrypted=stored)
    with pytest.raises(UndecryptableKey):
        BigInterviewAccount.objects.get().client()
    assert "cannot be decrypted" in texts(admin_client.get(LIST))


def test_deleting_a_user_or_an_account_in_the_admin_deletes_its_single_sign_ons(admin_client, django_user_model):
    student = django_user_model.objects.create_user("student")
    made = account()
    for user in (student, None):
        SSOSession.objects.create(user=user, account=made, requested_at=timezone.now())
    admin_client.post(f"/admin/auth/user/{student.pk}/delete/", {"post": "yes"})
    assert SSOSession.objects.get().user is None
    admin_client.post(f"{LIST}{made.pk}/delete/", {"post": "yes"})
    assert not SSOSession.objects.exists()
