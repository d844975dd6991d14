"""Bodies that a database, an interpreter or a page may fail on: JSON is stored as received, others are rejected."""

import gzip
import json
from datetime import datetime, timedelta

import pytest
from django.core.management import call_command
from django.db import DataError, connection
from django.urls import reverse

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.json_body import MAX_DEPTH, MAX_NESTING
from django_bi_integration.models import ObjectState, ReceivedEvent
from django_bi_integration.signals import event_received
from django_bi_integration.vendors import BIG_INTERVIEW, INNOVATIVE_EDUCATORS
from tests.helpers.deliveries import (
    CREATED,
    big_interview,
    deliver,
    deliver_completion,
    innovative_educators,
    stored,
    subscribed,
)
from tests.helpers.hostile import LEAVES, PLACES, TIMES, body_with, keep

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LARGEST = 262_144
NO_JSON = {"detail": "The body is not a JSON object in UTF-8."}
#: JSON values as written in a body, and whether every database can store them parsed.
VALUES = {
    "NUL": ('"a\\u0000b"', False),
    "high surrogate": ('"a\\ud800b"', False),
    "low surrogate": ('"\\udc00"', False),
    "surrogates the wrong way round": ('"\\udc00\\ud800"', False),
    "surrogate pair": ('"\\ud83d\\ude01"', True),
    "escaped backslash before u0000": ('"\\\\u0000"', True),
    "emoji": ('"\N{GRINNING FACE}"', True),
    "long text": ('"' + "x" * 10_000 + '"', True),
    "long text of four bytes": ('"' + "\N{GRINNING FACE}" * 300 + '"', True),
    "control characters": ('"\\u0001\\u001b\\u007f\\u0085\\u2028\\u202e"', True),
    "markup": ('"</pre><script>\'{{ x }}%s"', True),
    "blank": ('" \\t\\n"', True),
    "empty": ('""', True),
    "2^63": ("9223372036854775808", True),
    "-2^63-1": ("-9223372036854775809", True),
    "2^64": ("18446744073709551616", True),
    "4,300 digits": ("9" * 4_300, True),
    "-4,300 digits": ("-" + "9" * 4_300, True),
    "5,000 digits": ("9" * 5_000, False),
    "100,000 digits": ("-" + "9" * 100_000, False),
    "1e400": ("1e400", False),
    "-1e400": ("-1e400", False),
    "1e22": ("1e22", True),
    "1e-400": ("1e-400", True),
    "-0.0": ("-0.0", True),
    "fraction": ("0.1", True),
    "true": ("true", True),
    "null": ("null", True),
    "list": ('[1, "a", null]', True),
    "object": ('{"id": {"id": []}}', True),
    "nested": ("[" * 25 + "]" * 25, True),
    "nested too deep": ("[" * 100 + "]" * 100, False),
}


def post(bodies):
    """Deliver each body to a registration of its vendor, and assert that it is stored as a new event."""
    ways = {
        BIG_INTERVIEW: (deliver, big_interview()),
        INNOVATIVE_EDUCATORS: (deliver_completion, innovative_educators()),
    }
    for count, (vendor, body) in enumerate(bodies, start=1):
        send, to = ways[vendor]
        assert send(to, body).json() == {"status": "stored"}
        assert ReceivedEvent.objects.count() == count, body


def expected_payload(body, is_plain):
    return json.loads(body) if is_plain else None


@pytest.mark.parametrize(("value", "is_plain"), VALUES.values(), ids=VALUES)
def test_json_is_stored_as_received_and_reaches_receivers(value, is_plain):
    """Invariant 3: the bytes always, the payload if every database can store it, whichever field has the value."""
    bodies = [
        (vendor, body_with(vendor, value, [place], f"id {number}"))
        for vendor, places in PLACES.items()
        for number, place in enumerate(places)
    ]
    post(bodies)
    events = ReceivedEvent.objects.order_by("pk")
    assert [bytes(event.body) for event in events] == [body for _, body in bodies]
    assert [event.payload for event in events] == [expected_payload(body, is_plain) for _, body in bodies]
    with subscribed(event_received, keep):
        assert dispatch_pending() == {"dispatched": len(bodies)}


@pytest.mark.parametrize("vendor", PLACES, ids=lambda vendor: vendor.slug)
@pytest.mark.parametrize(
    "key", ["a\\u0000b", "\\ud800", "\N{GRINNING FACE}", "", "x" * 100_000, "__proto__", "</script>"]
)
def test_an_object_with_any_key_is_stored(vendor, key):
    body = body_with(vendor, "1", [("other",)]).replace(b'"other"', f'"{key}"'.encode())
    post([(vendor, body)])
    assert bytes(stored().body) == body
    assert stored().payload == expected_payload(body, not key.startswith(("a", "\\ud")))
    assert dispatch_pending() == {"dispatched": 1}


@pytest.fixture
def _every_value(settings):
    """Store an event of each vendor for each value, with the value in every field."""
    settings.BI_INTEGRATION = {"MAX_BODY_BYTES": 2_000_000}
    post([(vendor, body_with(vendor, value, LEAVES[vendor])) for value, _ in VALUES.values() for vendor in PLACES])


@pytest.mark.usefixtures("_every_value")
def test_the_admin_shows_everything_that_is_stored(admin_client):
    """In the list, on the object's page and in the search."""
    dispatch_pending()
    for model in (ReceivedEvent, ObjectState):
        name = f"admin:django_bi_integration_{model._meta.model_name}"
        assert admin_client.get(reverse(f"{name}_changelist")).status_code == 200
        for row in model.objects.all():
            assert admin_client.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200
            found = admin_client.get(reverse(f"{name}_changelist"), {"q": row.object_id})
            assert found.status_code == 200


@pytest.mark.usefixtures("_every_value")
def test_dumpdata_and_loaddata_keep_everything_that_is_stored(tmp_path):
    def rows():
        events = ReceivedEvent.objects.order_by("pk")
        return [(bytes(event.body), event.payload, event.vendor_event_id) for event in events]

    before = rows()
    call_command("dumpdata", "django_bi_integration", output=str(tmp_path / "dump.json"))
    ReceivedEvent.objects.all().delete()
    call_command("loaddata", str(tmp_path / "dump.json"), verbosity=0)
    assert rows() == before


@pytest.mark.parametrize("query", ["\0", "\N{GRINNING FACE}", "x" * 5_000, "%ED%A0%80", "9" * 5_000, '"', "'; --"])
def test_any_search_in_the_admin_gets_a_page(admin_client, query):
    deliver(big_interview())
    for model in (ReceivedEvent, ObjectState):
        page = admin_client.get(
            reverse(f"admin:django_bi_integration_{model._meta.model_name}_changelist"), {"q": query}
        )
        assert (page.status_code, page.context["cl"].result_count) in [(200, 0), (200, 1)]


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
@pytest.mark.parametrize("depth", [MAX_DEPTH - 1, MAX_DEPTH, 31, 32, 33, 100, MAX_NESTING - 1, MAX_NESTING, 100_000])
def test_any_depth_of_nesting_is_stored_or_rejected(settings, depth, opening, closing):
    settings.BI_INTEGRATION = {"MAX_BODY_BYTES": 1_000_000}
    body = f'{{"id": "1", "a": {opening * depth}1{closing * depth}}}'.encode()
    response = deliver_completion(innovative_educators(), body)
    if depth >= MAX_NESTING:
        assert (response.status_code, response.json()) == (400, NO_JSON)
        return
    assert (response.status_code, bytes(stored().body)) == (200, body)
    assert stored().payload == expected_payload(body, depth < MAX_DEPTH)
    assert dispatch_pending() == {"dispatched": 1}


def filled(piece, start=b'{"a":[', end=b"]}", between=b","):
    """Return a body of the largest accepted size that repeats a piece."""
    count = (LARGEST - len(start) - len(end)) // len(piece + between)
    return start + between.join([piece] * count) + end


WORST = {
    "brackets": b'{"a":' + b"[" * (LARGEST - 5),
    "objects": b'{"a":' * (LARGEST // 5),
    "deep, then wide": filled(b"0", b'{"a":' + b"[" * 150, b"]" * 150 + b"}"),
    "tiny lists": filled(b"[0]"),
    "tiny objects": filled(b'{"":0}'),
    "tiny keys": b"{" + b",".join(b'"%x":0' % number for number in range(LARGEST // 9)) + b"}",
    "equal keys": filled(b'"a":0', b"{", b"}"),
    "escapes": filled(b"\\u0041", b'{"a":"', b'"}', b""),
    "NULs": filled(b"\\u0000", b'{"a":"', b'"}', b""),
    "four bytes": filled("\N{GRINNING FACE}".encode(), b'{"a":"', b'"}', b""),
    "digits": filled(b"9", b'{"a":', b"}", b""),
    "digits of a fraction": filled(b"9", b'{"a":0.', b"}", b""),
    "digits of an exponent": filled(b"9", b'{"a":1e', b"}", b""),
    "numbers of 4,300 digits": filled(b"9" * 4_300),
    "numbers of 4,301 digits": filled(b"9" * 4_301),
    "blanks": filled(b" ", b'{"a":', b"1}", b""),
    "a long id": filled(b"9", b'{"id":"', b'"}', b""),
}


@pytest.mark.parametrize("body", WORST.values(), ids=WORST)
def test_the_largest_bodies_are_stored_or_rejected_and_their_admin_page_stays_small(admin_client, body):
    response = deliver(big_interview(), body)
    if response.status_code == 400:
        assert body.startswith((b'{"a":[[[[', b'{"a":{"a":'))
        return
    assert (response.status_code, bytes(stored().body)) == (200, body)
    assert dispatch_pending() == {"dispatched": 1}
    page = admin_client.get(reverse("admin:django_bi_integration_receivedevent_change", args=[stored().pk]))
    assert page.status_code == 200
    assert len(page.content) < 300_000


def test_the_admin_shows_an_infinite_number_as_received(admin_client):
    deliver(big_interview(), '{"a": 1e400}')
    page = admin_client.get(reverse("admin:django_bi_integration_receivedevent_change", args=[stored().pk]))
    assert "{&quot;a&quot;: 1e400}" in page.content.decode()


def test_a_very_large_number_keeps_its_value_as_a_float():
    """PostgreSQL returns it as an integer."""
    deliver(big_interview(), '{"a": 1e308}')
    assert float(stored().payload["a"]) == 1e308


IDS = ["abc", "ABC", "abc ", " abc", "äbc", "a\u0308bc", "abc\\u0000", "abc\\ud800", "abc\\udfff", "abc\ufffd", "abc?"]
IDS += ["x" * 255, "x" * 256, "x" * 100_000, "\N{GRINNING FACE}" * 255, "\N{GRINNING FACE}" * 256]


def test_ids_that_differ_in_any_way_are_separate_events():
    """Invariant 3: in case, accents, blanks, replaced characters, or only after the column's maximum length."""
    to = innovative_educators()
    for _ in range(2):
        assert {deliver_completion(to, f'{{"id": "{text}"}}').status_code for text in IDS} == {200}
    assert list(ReceivedEvent.objects.values_list("deliveries", flat=True)) == [2] * len(IDS)


NUMBERS = ["1", "2", "9" * 4_300, "9" * 4_299 + "8", "9" * 5_000, "8" * 5_000, "1.0", "1.00000000000000000001"]
NUMBERS += ["1e22", "10000000000000000000001e0", "1e400", "-1e400", "true", "false", "[]", "{}", "null"]


def test_ids_that_are_not_strings_are_separate_events():
    """If Python would round a number, the whole body identifies the event."""
    to = innovative_educators()
    for _ in range(2):
        assert {deliver_completion(to, f'{{"id": {text}}}').status_code for text in NUMBERS} == {200}
    assert list(ReceivedEvent.objects.values_list("deliveries", flat=True)) == [2] * len(NUMBERS)


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="only MariaDB has a character set without emoji")
@pytest.mark.django_db(transaction=True)
def test_an_emoji_is_stored_even_if_the_tables_character_set_lacks_it():
    body = body_with(BIG_INTERVIEW, '"\N{GRINNING FACE}"', LEAVES[BIG_INTERVIEW])
    tables = [model._meta.db_table for model in (ReceivedEvent, ObjectState)]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb3")
        try:
            assert deliver(big_interview(), body).status_code == 200
            assert bytes(stored().body) == body
            assert stored().vendor_event_id == "?"
            assert stored().payload == json.loads(body)
            assert dispatch_pending() == {"dispatched": 1}
        finally:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4")


def test_text_that_is_longer_than_its_column_is_truncated():
    places = [("webhook", name) for name in ("id", "event_name", "partner_id", "api_id", "api_type")]
    body = body_with(BIG_INTERVIEW, f'"{"x" * 300}"', places)
    assert deliver(big_interview(), body).status_code == 200
    event = stored()
    assert bytes(event.body) == body
    texts = [event.vendor_event_id, event.event_type, event.subject_id, event.object_id, event.object_type]
    assert texts == ["x" * 255, "x" * 100, "x" * 255, "x" * 255, "x" * 100]


def test_text_that_a_database_rejects_is_stored_as_ascii_beside_the_body():
    """A database whose encoding lacks a character raises DataError, for example PostgreSQL with LATIN1."""
    body = body_with(BIG_INTERVIEW, '"é"', LEAVES[BIG_INTERVIEW])

    def rejects_accents(execute, sql, params, many, context):
        if "é" in str(params):
            raise DataError("this character has no equivalent in encoding")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(rejects_accents):
        assert deliver(big_interview(), body).status_code == 200
    event = stored()
    assert bytes(event.body) == body
    texts = [event.vendor_event_id, event.event_type, event.subject_id, event.object_type, event.object_id]
    assert [text.isascii() for text in texts] == [True] * 5
    assert event.vendor_event_id == "?"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ('"2015-05-18T16:37:13.000Z"', "2015-05-18T16:37:13+00:00"),
        ('"2015-05-18 16:37:13"', "2015-05-18T16:37:13+00:00"),
        ('"2015-05-18T16:37:13+23:59"', "2015-05-17T16:38:13+00:00"),
        ('"9998-12-31T23:59:59-23:59"', "9999-01-01T23:58:59+00:00"),
        ('"1970-01-01T00:00:00+23:59"', "1969-12-31T00:01:00+00:00"),
        ('"2015-05-18T16:37:13+99:99"', None),
        ('"2015-05-18T16:37:13-00:60"', None),
        ('"2016-12-31T23:59:60Z"', "2016-12-31T23:59:59.999999+00:00"),
        ('"2017-01-01T05:29:60.5+05:30"', "2016-12-31T23:59:59.999999+00:00"),
        ('"2016-12-31T20:50:60Z"', None),
        ('"2016-12-31T23:59:61Z"', None),
        ('"2015-02-30T00:00:00Z"', None),
        ('"0000-01-01T00:00:00Z"', None),
        ('"0001-01-01T00:00:00+23:59"', None),
        ('"99999-01-01T00:00:00Z"', None),
        ('"9999-12-31T23:59:59-23:59"', None),
        ('"2015-05-18T16:37\\u000013"', None),
        ('"2015-05-18T16:37:13\\ud800"', None),
        ('"' + "1" * 100_000 + '"', None),
        ('"2015-05-18t16:37:13z"', "2015-05-18T16:37:13+00:00"),
        ('"2015-05-18 16:37:13 UTC"', "2015-05-18T16:37:13+00:00"),
        ('" 2015-05-18 18:37:13.5 +0200 "', "2015-05-18T16:37:13.500000+00:00"),
        ('"2015-05-18T16:37:13,123456789Z"', "2015-05-18T16:37:13.123456+00:00"),
        ('"20150518T163713Z"', "2015-05-18T16:37:13+00:00"),
        ('"2015-05-18"', "2015-05-18T00:00:00+00:00"),
        ('"Mon, 18 May 2015 18:37:13 +0200"', "2015-05-18T16:37:13+00:00"),
        ('"18 may 2015 16:37:13 GMT"', "2015-05-18T16:37:13+00:00"),
        ("1431967033", "2015-05-18T16:37:13+00:00"),
        ("1431967033.25", "2015-05-18T16:37:13.250000+00:00"),
        ("1431967033000", "2015-05-18T16:37:13+00:00"),
        ("1.431967033125e12", "2015-05-18T16:37:13.125000+00:00"),
        ('"1431967033"', "2015-05-18T16:37:13+00:00"),
        ('"1431967033125"', "2015-05-18T16:37:13.125000+00:00"),
        # With another number of digits, it could be seconds, milliseconds, or a date without dashes.
        ("143196703", None),
        ("14319670330", None),
        ("201505181637", None),
        ('"20150518163713"', None),
        ('"0001431967033"', None),
        ("-1431967033", None),
        ("1431967033125000", None),
        # The day could be the month, and the abbreviation could mean several time zones.
        ('"05/06/2015 16:37:13"', None),
        ('"2015-05-18T16:37:13 IST"', None),
        ('"Mon, 18 May 15 16:37:13 GMT"', None),
        ('"Mon, 18 May 2015 16:37:13"', None),
        ('"2015-05-18T24:00:00Z"', None),
        ('"2015-05-18T16:37:13+02:00:30"', None),
        ('"\u0662\u0660\u0661\u0665-05-18T16:37:13Z"', None),
        ("1e400", None),
        ("true", None),
        ('["2015-05-18"]', None),
    ],
)
def test_an_unambiguous_time_is_parsed_and_any_other_is_left_empty(admin_client, text, moment):
    """No database can store a leap second, so it becomes the last microsecond of the second before."""
    post([(vendor, body_with(vendor, text, places)) for vendor, places in TIMES.items()])
    for event in ReceivedEvent.objects.all():
        capped = moment and min(datetime.fromisoformat(moment), event.received_at + timedelta(days=1))
        assert event.occurred_at == capped
        page = reverse("admin:django_bi_integration_receivedevent_change", args=[event.pk])
        assert admin_client.get(page).status_code == 200
    assert dispatch_pending() == {"dispatched": 2}


def test_a_byte_order_mark_is_accepted():
    body = b"\xef\xbb\xbf" + CREATED
    assert deliver(big_interview(), body).status_code == 200
    assert (stored().vendor_event_id, bytes(stored().body)) == ("123456789", body)


def test_the_last_of_duplicate_keys_wins():
    assert deliver(big_interview(), '{"id": "1", "id": "2"}').status_code == 200
    assert (stored().vendor_event_id, stored().payload) == ("2", {"id": "2"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        CREATED[:-20],
        b"[]",
        b"[{}]",
        b"null",
        b"true",
        b"1",
        b"1" * 5_000,
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": +1}',
        b'{"a": .5}',
        b"{'a': 1}",
        b'{"a": 1,}',
        b'{"a": 1 /* one */}',
        b'{"a": "\n"}',
        b'{"a": "\\x41"}',
        b'{"a": "\\ud8"}',
        b'{"a": "\0"}',
        b"\0{}",
        b"{}\0",
        b"{} {}",
        b"webhook=1",
        b"webhook=%7B%7D",
        b"--x\r\nContent-Disposition: form-data; name=webhook\r\n\r\n{}\r\n--x--\r\n",
        b'{"a": "\xff"}',  # not UTF-8
        b'{"a": "\xe4"}',  # Latin-1
        b'{"a": "\xc0\x80"}',  # overlong
        b'{"a": "\xe0\x80\xaf"}',
        b'{"a": "\xed\xa0\x80"}',  # a surrogate
        b'{"a": "\xed\xa0\xbd\xed\xb8\x80"}',  # a surrogate pair in CESU-8
        b'{"a": "\xf4\x90\x80\x80"}',  # beyond Unicode
        b'{"a": "\xf0\x9f\x98"}',  # cut
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b"\xff\xfe{}",
        *["{}".encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")],
        "{}".encode("utf-7") + b"+AAA-",
        gzip.compress(CREATED, mtime=0),
    ],
)
def test_a_body_that_is_not_a_json_object_in_utf_8_is_a_400(body):
    response = deliver(big_interview(), body)
    assert (response.status_code, response.json()) == (400, NO_JSON)
    assert not ReceivedEvent.objects.exists()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(CREATED, mtime=0), {"content-encoding": "gzip"}, 400),
        (CREATED, {"content-encoding": "gzip"}, 200),
        ("{}".encode("utf-16"), {"content-type": "application/json; charset=utf-16"}, 400),
        (b'{"a": "\xe4"}', {"content-type": "application/json; charset=latin-1"}, 400),
        (CREATED, {"content-type": "application/json; charset=latin-1"}, 200),
    ],
)
def test_headers_that_describe_the_body_have_no_effect(body, headers, status):
    assert deliver(big_interview(), body, headers=headers).status_code == status


@pytest.mark.parametrize("length", ["9" * 5_000, "262145"])
def test_a_declared_length_over_the_limit_is_a_413(length):
    assert deliver(big_interview(), CREATED, CONTENT_LENGTH=length).status_code == 413


@pytest.mark.parametrize("length", ["abc", "-1", "0", "0x10", "1.5", "²", "1" + " " * 10])
def test_an_invalid_content_length_is_a_400(length):
    """Django reads no body then."""
    assert deliver(big_interview(), CREATED, CONTENT_LENGTH=length).status_code == 400
