"""Deeply nested JSON is a 400 and never crashes the process, on any interpreter and with a small stack."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from django_bi_integration.json_body import read_object
from django_bi_integration.models import ReceivedEvent
from tests.helpers.deliveries import big_interview, deliver, stored
from tests.helpers.partner_api import API_KEY

ROOT = Path(__file__).parent.parent.parent
DEPTH = 130_000
OBJECTS = 43_000  # as many as the largest accepted body can hold
NESTED = {
    "lists": b'{"a":' + b"[" * DEPTH + b"]" * DEPTH + b"}",
    "objects": b'{"a":' * OBJECTS + b"1" + b"}" * OBJECTS,
    "without an end": b'{"a":' + b"[" * DEPTH,
}

#: Runs in a separate process, because the parser might crash it. Prints the response to the nested body.
PROGRAM = f"""
import sys, threading
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from django_bi_integration.partner_api.client import PartnerClient
from django_bi_integration.exceptions import PartnerAPIError
from tests.helpers.deliveries import big_interview, deliver
from tests.helpers.partner_api import answer, partner_api

call_command("migrate", verbosity=0)
body = sys.stdin.buffer.read()

def webhook():
    return deliver(big_interview(), body).status_code

def launch():
    return Client().generic("POST", "/bi/sso/launch/", body, content_type="application/json").status_code

def partner():
    with partner_api(answer(200, body)) as api:
        try:
            PartnerClient(api.url, {API_KEY!r}).tracks("abc123")
        except PartnerAPIError as error:
            return type(error).__name__

threading.stack_size(2**20)
ways = {{"webhook": webhook, "launch": launch, "partner": partner}}
output = []
thread = threading.Thread(target=lambda: output.append(ways[sys.argv[1]]()))
thread.start()
thread.join()
print(output)
"""


@pytest.mark.parametrize(
    ("way", "body", "output"),
    [
        *[("webhook", body, "[400]") for body in NESTED],
        ("launch", "lists", "[400]"),
        ("partner", "lists", "['UnexpectedResponse']"),
    ],
)
def test_a_deeply_nested_body_does_not_kill_the_process(tmp_path, way, body, output):
    """It is parsed in a thread with 1 MiB of stack, because musl, macOS and many containers have no more."""
    environment = {
        **os.environ,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "DJANGO_ALLOWED_HOSTS": "testserver",
        "DJANGO_SECRET_KEY": "nesting",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
    }
    command = [sys.executable, "-c", PROGRAM, way]
    done = subprocess.run(command, cwd=ROOT, env=environment, input=NESTED[body], capture_output=True)
    assert (done.returncode, done.stdout.decode().strip()) == (0, output), done.stderr.decode()[-2000:]


def nested(depth, opening=b"[", closing=b"]"):
    """Return an object that the value of ``a`` makes ``depth`` levels deep."""
    return b'{"a":' + opening * (depth - 1) + b"1" + closing * (depth - 1) + b"}"


@pytest.mark.django_db
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"b":', b"}")], ids=["lists", "objects"])
def test_the_limit_is_200_levels_on_every_interpreter(opening, closing):
    to = big_interview()
    assert deliver(to, nested(200, opening, closing)).status_code == 200
    assert bytes(stored().body) == nested(200, opening, closing)
    assert deliver(to, nested(201, opening, closing)).status_code == 400
    assert ReceivedEvent.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b"[" * 5_000 + b'"}',
        b'{"a":"' + b'\\"[{' * 5_000 + b'"}',
        b'{"a":"\\\\","b":"' + b"{" * 5_000 + b'\\\\"}',
        b'{"' + b"[" * 5_000 + b'":1}',
        b'{"a":[' + b",".join([b"[]"] * 5_000) + b"]}",
        b'{"a":[' + b",".join([b'{"b":"]"}'] * 5_000) + b"]}",
        '{"a":["é", "'.encode() + b"[" * 5_000 + b'"]}',
    ],
    ids=lambda body: body[:16].decode("utf-8", "replace"),
)
def test_brackets_that_add_no_level_do_not_count(body):
    """They are inside a string or key, also after an escaped quotation mark or backslash, or side by side."""
    assert deliver(big_interview(), body).status_code == 200
    assert bytes(stored().body) == body


@pytest.mark.django_db
@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"\\\\","b":' + b"[" * 5_000,
        b'{"a":"]]]]","b":' + b"[" * 5_000 + b'"',
        b'{"a":' + b'["]",' * 5_000,
        b'\xef\xbb\xbf{"a":' + b"[" * 5_000,
        b"]" * 5_000 + b"[" * 5_000,
    ],
    ids=lambda body: body[:12].decode("utf-8", "replace"),
)
def test_deep_nesting_after_strings_with_brackets_is_rejected(body):
    assert deliver(big_interview(), body).status_code == 400


MANY = b"[" * 300  # as many brackets as it takes for read_object() to look for strings
SIZE = 4_000_000
HOSTILE = {
    "escaped quotation marks": MANY + b'"' + b'\\"' * (SIZE // 2),
    "backslashes": MANY + b'"' + b"\\" * SIZE,
    "a text without an end": MANY + b'"' + b"x" * SIZE,
    "many texts": MANY + b'""' * (SIZE // 2),
    "many openings": MANY + b'"\\' * (SIZE // 2),
    "brackets": b"[" * SIZE,
    "brackets up and down": b"[]" * (SIZE // 2),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_the_parsing_time_grows_in_proportion_to_the_length_of_the_body(body):
    """A body 64 times as long takes about 64 times as long. In quadratic time it would take 4,096 times as long."""

    def seconds(text):
        best = float("inf")
        for _ in range(3):
            started = time.thread_time()
            with suppress(ValueError):
                read_object(text)
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(body) < 1_000 * seconds(body[: SIZE // 64])
