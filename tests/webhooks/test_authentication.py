"""Authentication of deliveries by key and allowlist, and how rejected deliveries are counted."""

from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import Error as DatabaseFailure
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from django_bi_integration.models import ReceivedEvent, Rejection, WebhookRegistration
from django_bi_integration.webhooks.rejection_counter import RejectionCounter
from tests.helpers.deliveries import (
    KEY,
    VENDOR_ADDRESS,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    interview_event,
    registration,
    stored,
)

pytestmark = pytest.mark.django_db

STRANGER = "203.0.113.9"


@pytest.mark.parametrize(
    "key", [None, "", KEY.upper(), f"Bearer {KEY}", f"{KEY},{KEY}", KEY[:-1], KEY + "0", "schlüssel", "ключ"]
)
def test_a_wrong_or_missing_key_is_a_401(key):
    """Invariant 2: nothing is stored, and the response reveals only its status."""
    response = deliver(big_interview(), key=key)
    assert (response.status_code, response.json()) == (401, {"detail": "Unauthorized."})
    assert response["www-authenticate"] == "Key"
    assert not ReceivedEvent.objects.exists()


@pytest.mark.parametrize("key", [KEY, f"  {KEY}", f"{KEY}\t"])
def test_the_key_is_accepted_with_white_space_around_it(key):
    assert deliver(big_interview(), key=key).status_code == 200


def test_a_key_beyond_ascii_is_compared_by_its_bytes():
    """Servers decode the header's UTF-8 bytes as Latin-1."""
    key = "schlüsselschlüssel"
    to = registration(key=key)
    assert deliver(to, key=key.encode().decode("latin-1")).status_code == 200


def test_only_a_digest_of_the_key_is_stored():
    """Invariant 9: the key itself is not stored, and two digests of one key differ."""
    to = big_interview()
    to.refresh_from_db()
    assert KEY not in repr(vars(to))
    assert registration(key=KEY).key_digest != to.key_digest


@pytest.mark.parametrize("blank", ["", "  ", "\n", "a\nb", "\0"])
def test_setting_a_key_that_no_header_can_carry_is_an_error(blank):
    with pytest.raises(ValueError, match="key"):
        registration().set_key(blank)


@pytest.mark.parametrize(
    ("pasted", "message"),
    [
        *((f"{scheme} {KEY}", f"“{scheme}” is not part of it") for scheme in ("Bearer", "token", "Basic", "KEY")),
        *((f"{scheme} {KEY}", f"“{scheme}” is not part of it") for scheme in ("ApiKey", "Api-Key", "Key:")),
        (f"Authorization:{KEY}", "“Authorization:” is not part of it"),
        (f"authorization: Bearer\t{KEY}", "“authorization: Bearer” is not part of it"),
        (f"{KEY[:20]} {KEY[20:]}", "white space"),
        ("short", "fewer than 16 characters"),
        (KEY[:15], "fewer than 16 characters"),
    ],
)
def test_setting_a_key_that_was_pasted_wrongly_is_an_error_that_names_the_mistake(pasted, message):
    """The message does not contain the key, and the registration keeps the key that it has."""
    to = registration()
    with pytest.raises(ValueError, match=message) as error:
        to.set_key(pasted)
    assert KEY[:15] not in str(error.value)
    assert to.check_key(KEY)


@pytest.mark.parametrize("unusual", ["Bearer" + KEY, "keyring-of-the-year", "a:b/c=d+e.f~g_h-i", "x" * 16])
def test_a_key_of_an_unusual_format_is_accepted(unusual):
    """The vendor may issue keys of another format, so the admin form only warns about it."""
    to = registration(key=f" {unusual}\n")
    assert deliver(to, key=unusual).status_code == 200


def test_the_previous_key_is_accepted_until_its_overlap_ends():
    to = big_interview()
    to.set_key("0" * 32, overlap=timedelta(days=1))
    to.save()
    assert [deliver(to, key=key).status_code for key in (KEY, "0" * 32)] == [200, 200]
    with time_machine.travel(to.previous_key_until + timedelta(seconds=1)):
        assert [deliver(to, key=key).status_code for key in (KEY, "0" * 32)] == [401, 200]


def test_setting_the_same_key_twice_keeps_the_overlap():
    """An administrator may submit the form twice. Without an overlap, the second one ends the previous key."""
    to = big_interview()
    for _ in range(2):
        to.set_key("0" * 32, overlap=timedelta(days=1))
        to.save()
    assert [deliver(to, key=key).status_code for key in (KEY, "0" * 32)] == [200, 200]
    to.set_key("0" * 32)
    to.save()
    assert deliver(to, key=KEY).status_code == 401


def test_without_an_overlap_the_previous_key_is_rejected_at_once():
    to = big_interview()
    to.set_key("0" * 32)
    to.save()
    assert deliver(to).status_code == 401


@pytest.mark.database
@pytest.mark.parametrize("repeated", [False, True], ids=["another event", "a duplicate"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"key_digest": "0" * 64}, 401),
        ({"is_active": False}, 403),
        ({"allowed_networks": ["192.0.2.0/24"]}, 403),
        ({"allowed_networks": [], "key_digest": ""}, 403),
        ({"allowed_networks": [VENDOR_ADDRESS]}, 200),
        ({"name": "Another"}, 200),
    ],
)
def test_a_change_made_by_another_process_applies_to_the_next_delivery(change, status, repeated):
    """This process has cached the registration, but rejects what it no longer allows."""
    to = registration(networks=(VENDOR_ADDRESS, "127.0.0.1"))
    for event in ("1", "2"):
        assert deliver(to, interview_event(event), REMOTE_ADDR=VENDOR_ADDRESS).status_code == 200
    WebhookRegistration.objects.filter(pk=to.pk).update(**change)
    latest = interview_event("2" if repeated else "3")
    assert deliver(to, latest, REMOTE_ADDR=VENDOR_ADDRESS).status_code == status
    deliveries = ReceivedEvent.objects.aggregate(total=Sum("deliveries"))["total"]
    assert deliveries == (3 if status == 200 else 2)


@pytest.mark.database
@pytest.mark.parametrize("body", [b"nope", b"", b"x" * 300_000], ids=["no JSON", "empty", "too large"])
@pytest.mark.parametrize(
    ("change", "status"),
    [({"key_digest": "0" * 64}, 401), ({"is_active": False}, 403), ({"allowed_networks": ["192.0.2.0/24"]}, 403)],
)
def test_revoked_credentials_are_rejected_with_the_same_status_whatever_the_body(
    change, status, body, rejection_counter
):
    """An error about the body would reveal that the key was valid earlier."""
    to = big_interview()
    assert deliver(to).status_code == 200
    WebhookRegistration.objects.filter(pk=to.pk).update(**change)
    assert deliver(to, body, CONTENT_LENGTH=str(len(body) or "")).status_code == status
    assert Rejection.objects.get().reason in {"key_wrong", "inactive", "address"}


@pytest.mark.database
def test_rejecting_a_revoked_key_causes_no_database_error():
    """PostgreSQL would log the failed statement, with the body of the rejected delivery in it."""
    to = big_interview()
    assert deliver(to).status_code == 200
    WebhookRegistration.objects.filter(pk=to.pk).update(key_digest="0" * 64)
    failed = []

    def watch(execute, sql, params, many, context):
        try:
            return execute(sql, params, many, context)
        except DatabaseFailure as error:
            failed.append(error)
            raise

    with connection.execute_wrapper(watch):
        assert deliver(to, interview_event("2")).status_code == 401
    assert not failed


@pytest.mark.django_db(transaction=True)
def test_a_delivery_with_a_new_key_costs_one_statement_during_and_after_the_overlap(django_assert_num_queries):
    """As many as any delivery; databases other than PostgreSQL need two."""
    connection.close()  # a connection that stays open prepares the statement once
    to = big_interview()
    to.set_key("another" * 4, overlap=timedelta(days=1))
    to.save()
    for event, moment in enumerate([timedelta(0), timedelta(days=2)]):
        with time_machine.travel(timezone.now() + moment):
            assert deliver(to, interview_event(f"first {event}"), key="another" * 4).status_code == 200
            with django_assert_num_queries(1 if connection.vendor == "postgresql" else 2):
                assert deliver(to, interview_event(f"second {event}"), key="another" * 4).status_code == 200


def test_a_deleted_registration_responds_404_at_once():
    to = big_interview()
    assert deliver(to).status_code == 200
    ReceivedEvent.objects.all().delete()
    WebhookRegistration.objects.filter(pk=to.pk).delete()
    assert [deliver(to, body).status_code for body in ("nope", interview_event("2"))] == [404, 404]


def test_a_new_key_is_accepted_at_once_and_a_previous_key_until_it_ends():
    to = big_interview()
    assert deliver(to).status_code == 200
    to.set_key("another" * 4, overlap=timedelta(minutes=1))
    to.save()
    assert [deliver(to, key=key).status_code for key in ("another" * 4, KEY)] == [200, 200]
    WebhookRegistration.objects.filter(pk=to.pk).update(previous_key_until=timezone.now())
    assert [deliver(to, key=key).status_code for key in ("another" * 4, KEY)] == [200, 401]


@pytest.mark.parametrize("key", [None, "", KEY])
def test_a_registration_with_neither_key_nor_allowlist_rejects_everything(key):
    """Invariant 2: whichever key the request has, and even if it comes from the vendor's address."""
    assert deliver(registration(key=""), key=key, REMOTE_ADDR=VENDOR_ADDRESS).status_code == 403
    assert not ReceivedEvent.objects.exists()


def test_an_inactive_registration_rejects_everything():
    to = big_interview()
    to.is_active = False
    to.save()
    assert deliver(to).status_code == 403


def test_an_unknown_url_is_a_404(client):
    path = "/bi/webhooks/00000000-0000-4000-8000-000000000000/"
    response = client.post(path, "{}", "application/json")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})


def test_a_registration_with_key_and_allowlist_requires_both():
    to = registration(networks=("198.51.100.0/24",))
    assert deliver(to, REMOTE_ADDR="198.51.100.7").status_code == 200
    assert deliver(to, REMOTE_ADDR=STRANGER).status_code == 403
    assert deliver(to, REMOTE_ADDR="198.51.100.7", key="x").status_code == 401


def test_rejections_are_counted_with_their_reason_and_address(rejection_counter):
    """Invariant 2: an administrator sees rejections, and the first one at once."""
    to = innovative_educators()
    deliver_completion(to, REMOTE_ADDR=STRANGER)
    rejection = Rejection.objects.get()
    assert (rejection.registration, rejection.reason, rejection.address, rejection.count) == (
        to,
        "address",
        STRANGER,
        1,
    )


def test_a_rejection_shows_the_forwarding_header_and_the_peer_as_received(settings, rejection_counter):
    """Even if they yield no client address, so that an administrator can see what TRUSTED_PROXIES should be."""
    settings.BI_INTEGRATION = {"TRUSTED_PROXIES": ["192.0.2.99"]}
    deliver_completion(innovative_educators(), REMOTE_ADDR="10.0.0.5", HTTP_X_FORWARDED_FOR=f"{STRANGER}, 192.0.2.1")
    rejection = Rejection.objects.get()
    assert (rejection.address, rejection.peer, rejection.forwarded_for) == ("", "10.0.0.5", f"{STRANGER}, 192.0.2.1")


def test_the_peer_of_a_rejection_through_a_unix_socket_is_shown_as_unix(rejection_counter):
    deliver_completion(innovative_educators(), REMOTE_ADDR="")
    assert (Rejection.objects.get().address, Rejection.objects.get().peer) == ("", "unix:")


@pytest.mark.database
@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("x" * 9_000 + ", 192.0.2.1", "…" + "x" * 188 + ", 192.0.2.1"),
        ("\0\x1b\ud800😀ö, <b>", "?????, <b>"),
        ("", ""),
    ],
)
def test_the_forwarding_header_of_a_rejection_is_shortened_and_stripped_of_unsafe_characters(header, kept):
    deliver_completion(innovative_educators(), REMOTE_ADDR=STRANGER, HTTP_X_FORWARDED_FOR=header)
    assert Rejection.objects.get().forwarded_for == kept


@pytest.mark.parametrize(
    ("change", "request_", "reason"),
    [
        ({}, {"key": None}, "key_missing"),
        ({}, {"key": "x"}, "key_wrong"),
        ({"is_active": False}, {}, "inactive"),
        ({"key_digest": ""}, {}, "no_credentials"),
        ({"allowed_networks": ["192.0.2.0/24"]}, {}, "address"),
        ({}, {"body": "no"}, "form"),
        ({}, {"body": b"{" + b" " * 262_144 + b"}"}, "size"),
        ({}, {"body": b"", "CONTENT_LENGTH": ""}, "length"),
    ],
)
def test_each_rejection_has_its_reason(change, request_, reason):
    to = big_interview()
    for name, value in change.items():
        setattr(to, name, value)
    to.save()
    deliver(to, **request_)
    assert Rejection.objects.get().reason == reason


def test_a_flood_of_rejections_writes_few_rows(rejection_counter):
    """Invariant 2: the number of rows is bounded, however many requests and sources there are."""
    to = big_interview()
    for number in range(500):
        deliver(to, key="x", REMOTE_ADDR=f"10.0.{number // 256}.{number % 256}", HTTP_X_FORWARDED_FOR="192.0.2.1")
    assert Rejection.objects.count() == 1
    rejection_counter._next_write = 0  # as if the interval were over
    deliver(to, key="x", HTTP_X_FORWARDED_FOR="192.0.2.1")
    rows = Rejection.objects.order_by("pk")[1:]
    assert len(rows) <= rejection_counter.SOURCES + 1
    assert sum(row.count for row in rows) == 500
    assert Rejection.objects.filter(address="", peer="", forwarded_for="").count() == 1


def test_a_client_that_varies_its_forwarding_header_adds_no_rows(rejection_counter):
    to = big_interview()
    for number in range(50):
        deliver(to, key="x", REMOTE_ADDR=STRANGER, HTTP_X_FORWARDED_FOR=f"10.0.0.{number}")
    rejection_counter._next_write = 0  # as if the interval were over
    deliver(to, key="x", REMOTE_ADDR=STRANGER, HTTP_X_FORWARDED_FOR="10.0.0.99")
    rows = Rejection.objects.order_by("pk").values_list("count", "forwarded_for")
    assert list(rows) == [(1, "10.0.0.0"), (50, "10.0.0.99")]


@pytest.mark.database
@pytest.mark.django_db(transaction=True)
def test_waiting_rejections_are_written_even_if_a_registration_among_them_was_deleted(rejection_counter):
    to, deleted = big_interview(), big_interview()
    rejection_counter._next_write = float("inf")  # as if the interval did not end
    for registration_ in (to, deleted, to):
        deliver(registration_, key="x")
    deleted.delete()
    rejection_counter._next_write = 0  # as if the interval were over
    deliver(to, key="x")
    assert set(Rejection.objects.values_list("registration_id", "count")) == {(to.pk, 3), (None, 1)}


def test_old_rejections_make_room(rejection_counter, monkeypatch):
    """Only the newest ROWS rows of a kind are kept."""
    monkeypatch.setattr(RejectionCounter, "ROWS", 3)
    to = big_interview()
    for _ in range(5):
        rejection_counter._next_write = 0
        deliver(to, key="x")
    assert Rejection.objects.count() == 3


@pytest.mark.database
@pytest.mark.parametrize("rows", [20, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_flood_pushes_out_no_rejection_of_another_kind(rejection_counter, monkeypatch, rows):
    """Invariant 2: requests to unknown URLs push out no registration's rejections, wrong keys none for an address."""
    monkeypatch.setattr(RejectionCounter, "ROWS", rows)
    to, other = registration(networks=("192.0.2.0/24",)), big_interview()
    for request in ({"to": to}, {"to": other, "body": "no"}):
        deliver(**request, REMOTE_ADDR=STRANGER)
        rejection_counter._next_write = 0
    for number in range(rows + 100):
        address = f"10.0.{number // 256}.{number % 256}"
        deliver(other, path=f"/bi/webhooks/{uuid4()}/", REMOTE_ADDR=address)
        deliver(to, key="x", REMOTE_ADDR=address)
        if number % 10 == 0:
            rejection_counter._next_write = 0
    kept = Counter(Rejection.objects.values_list("registration", "reason"))
    assert kept[to.pk, "address"] == kept[other.pk, "form"] == 1
    assert {kept[None, "unknown_url"], kept[to.pk, "key_wrong"]} == {rows}
    assert len(kept) == 4


def test_a_flood_of_one_kind_does_not_hide_the_address_of_another_kind_in_the_same_batch(rejection_counter):
    """Rejections that wait in memory have a limit for each kind, too."""
    to = registration(networks=("192.0.2.0/24",))
    rejection_counter._next_write = float("inf")
    for number in range(rejection_counter.SOURCES + 50):
        deliver(to, path=f"/bi/webhooks/{uuid4()}/", REMOTE_ADDR=f"10.0.0.{number}")
        deliver(to, key="x", REMOTE_ADDR=f"10.0.0.{number}")
    rejection_counter._next_write = 0
    deliver(to, REMOTE_ADDR=STRANGER)
    assert Rejection.objects.get(reason="address").address == STRANGER
    assert Rejection.objects.count() == 2 * (rejection_counter.SOURCES + 1) + 1


def test_an_accepted_delivery_stores_an_event_and_no_rejection():
    deliver(big_interview())
    assert stored()
    assert not Rejection.objects.exists()
