"""PartnerClient: the requests that it sends, how it interprets each response, and its time budget."""

import gzip
import json
import resource
import socket
import threading
import time

import pytest
from requests.adapters import HTTPAdapter

from django_bi_integration.exceptions import (
    BIIntegrationError,
    InvalidAttributes,
    KeyRejected,
    PartnerAPIError,
    RateLimited,
    Unavailable,
    UnexpectedResponse,
    UnknownUser,
)
from django_bi_integration.partner_api import PartnerClient
from django_bi_integration.vendors import BIG_INTERVIEW
from tests.helpers.partner_api import API_KEY, TOKEN, answer, partner_api, reset, user

SAM = {"first_name": "Bob", "last_name": "Johnson", "email": "learner@example.edu"}
#: The samples in the vendor's reference, "Tracks" and "Interviews".
TRACKS = {
    "tracks": [
        {
            "title": "Fast Track",
            "progress": 0.25,
            "tracks": [
                {"step": "1", "title": "Welcome", "link": "/members/curriculum?chapter=6", "completed": False},
            ],
        }
    ]
}
INTERVIEWS = {"interviews": [BIG_INTERVIEW.sample("interview.created", "1", "abc123")["webhook"]["api_object"]]}


@pytest.fixture
def refresh():
    """Return a function that requests a user from an API with these scripts, and returns the user and the API."""

    def ask(*scripts, partner_id="abc123", **options):
        with partner_api(*scripts) as api:
            client = PartnerClient(api.url, API_KEY, **{"budget": 3, **options})
            try:
                return client.create_or_refresh_user(partner_id, **SAM), api
            except PartnerAPIError as error:
                error.api = api
                raise

    return ask


def test_a_user_is_requested_as_documented(refresh):
    """The key is the whole Authorization header, and the three attributes are sent as JSON."""
    found, api = refresh(answer(201, user()))
    (request,) = api.requests
    assert (request.method, request.path) == ("POST", "/api/users/abc123")
    assert request.headers["authorization"] == API_KEY
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.body) == SAM
    assert (found.partner_id, found.token, found.is_new) == ("abc123", TOKEN, True)
    assert found.token_expires_at.isoformat() == "2016-05-18T16:37:13+00:00"


def test_attributes_can_be_sent_as_a_form(refresh, settings):
    settings.BI_INTEGRATION = {"API_ENCODING": "form"}
    _, api = refresh()
    assert api.requests[0].headers["content-type"] == "application/x-www-form-urlencoded"
    assert api.requests[0].body == b"first_name=Bob&last_name=Johnson&email=learner%40example.edu"


def test_a_netrc_file_does_not_replace_the_key(refresh, tmp_path, monkeypatch):
    """By default, requests would send the credentials of the file."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login x password y\n")
    monkeypatch.setenv("NETRC", str(netrc))
    _, api = refresh()
    assert api.requests[0].headers["authorization"] == API_KEY


def test_an_id_stays_one_segment_of_the_path_whatever_its_characters():
    with partner_api(answer(404)) as api, pytest.raises(UnknownUser):
        PartnerClient(api.url, API_KEY).tracks("../../x?y#z")
    assert api.requests[0].path == "/api/users/..%2F..%2Fx%3Fy%23z/tracks"


def test_tracks_are_read():
    with partner_api(answer(200, TRACKS)) as api:
        (track,) = PartnerClient(api.url, API_KEY).tracks("abc123")
    assert api.requests[0].path == "/api/users/abc123/tracks"
    assert (track.title, track.progress, track.steps[0].link) == ("Fast Track", 0.25, "/members/curriculum?chapter=6")


def test_interviews_are_read_like_those_of_webhooks():
    with partner_api(answer(200, INTERVIEWS)) as api:
        (interview,) = PartnerClient(api.url, API_KEY).interviews("abc123")
    assert (interview.id, interview.partner_id, interview.completed) == ("95607", "abc123", True)
    assert interview.review_path == "/members/mock_interviews/95607"


def test_creating_an_anonymous_user_is_never_retried():
    """A second try would create a second user."""
    with partner_api(answer(503)) as api, pytest.raises(Unavailable):
        PartnerClient(api.url, API_KEY).create_anonymous_user()
    assert [request.path for request in api.requests] == ["/api/users/anonymous"]
    with partner_api(answer(201, user("anon_abc123"))) as api:
        assert PartnerClient(api.url, API_KEY).create_anonymous_user().partner_id == "anon_abc123"


@pytest.mark.parametrize(
    "fault", [answer(500), answer(503), answer(429, Retry_After="0"), reset], ids=["500", "503", "429", "reset"]
)
def test_a_temporary_failure_is_retried(refresh, fault):
    found, api = refresh(fault, fault, answer(200, user()))
    assert (found.token, len(api.requests)) == (TOKEN, 3)


def test_a_lasting_failure_is_raised_after_three_tries(refresh):
    with pytest.raises(Unavailable, match="answered 503") as failure:
        refresh(answer(503))
    assert (len(failure.value.api.requests), failure.value.status) == (3, 503)


def test_a_request_is_not_retried_if_retry_after_exceeds_the_budget(refresh):
    with pytest.raises(RateLimited) as failure:
        refresh(answer(429, {"error": {"type": "rate", "message": "slow down"}}, Retry_After="3600"))
    assert (failure.value.retry_after, len(failure.value.api.requests)) == (3600, 1)


def test_retry_after_may_be_a_date(refresh):
    with pytest.raises(RateLimited) as failure:
        refresh(answer(429, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT"))
    assert failure.value.retry_after > 3600


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_is_not_retried(refresh, status):
    with pytest.raises(KeyRejected) as failure:
        refresh(answer(status))
    assert len(failure.value.api.requests) == 1


@pytest.mark.parametrize(
    ("message", "fields", "text"),
    [
        ({"email": ["is invalid", "is taken"]}, {"email": ("is invalid", "is taken")}, "email: is invalid, is taken"),
        ({"email": "is invalid"}, {"email": ("is invalid",)}, "email: is invalid"),
        ("Something is wrong", {}, "Something is wrong"),
        (["a", "b"], {}, "answered 422."),
        (None, {}, "answered 422."),
    ],
)
def test_a_422_names_the_rejected_attributes(refresh, message, fields, text):
    """The vendor's reference calls the message human-readable, but shows an object with a list for each attribute."""
    with pytest.raises(InvalidAttributes) as failure:
        refresh(answer(422, {"error": {"type": "validation_error", "message": message}}))
    assert failure.value.fields == fields
    assert text in str(failure.value)


@pytest.mark.parametrize(
    "script",
    [
        answer(200, "<html>Sign in</html>"),
        answer(200, ""),
        answer(200, "[]"),
        answer(200, {"user": None}),
        answer(200, user(token="")),
        answer(200, user(token=None)),
        answer(200, user(token="a b")),
        answer(200, user(token="a\nb")),
        answer(200, user(partner_id=None)),
        answer(200, user(partner_id="somebody-else")),
        answer(200, user(partner_id="ABC123")),
        answer(404, "<html>", Content_Type="text/html"),
        answer(200, "[" * 100_000),
        answer(302, Location="http://127.0.0.1:1/"),
        answer(204),
        answer(418),
        answer(400, {"error": "x"}),
    ],
    ids=lambda script: script[:12].decode() + script[-20:].decode(),
)
def test_an_invalid_response_raises_unexpected_response_and_is_not_retried(refresh, script):
    with pytest.raises(UnexpectedResponse) as failure:
        refresh(script)
    assert len(failure.value.api.requests) == 1


def test_a_redirect_is_not_followed(refresh):
    """Otherwise the key would be sent to the other host."""
    with partner_api() as elsewhere, pytest.raises(UnexpectedResponse):
        refresh(answer(307, Location=elsewhere.url + "/api/users/abc123"))
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "script",
    [
        lambda line, request: None,
        lambda line, request: line.sendall(answer(200, user())[:-20]),
        lambda line, request: line.sendall(b"HTTP/1.1 200 x\r\nContent-Length: x\r\n\r\n"),
        lambda line, request: line.sendall(b"SSH-2.0-OpenSSH\r\n"),
    ],
    ids=["hung up", "truncated", "nonsense length", "another protocol"],
)
def test_a_broken_response_raises_unavailable_or_unexpected_response(refresh, script):
    with pytest.raises((Unavailable, UnexpectedResponse)):
        refresh(script)


def test_a_server_that_is_not_running_raises_unavailable():
    with partner_api() as api:
        pass
    with pytest.raises(Unavailable, match="cannot be reached"):
        PartnerClient(api.url, API_KEY, budget=2).tracks("abc123")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 x\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 x\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
    ],
    ids=["silent", "dripping body", "endless body", "dripping chunk"],
)
def test_an_answer_that_never_ends_is_cut_off(data):
    """Timeouts of sockets are not enough, because each byte starts them again."""
    with partner_api() as api:
        api.scripts[:] = [api.drip(data) if data else api.silence]
        client = PartnerClient(api.url, API_KEY, budget=0.5)
        before = time.monotonic()
        with pytest.raises(Unavailable, match="no answer in time"):
            client.create_or_refresh_user("abc123", **SAM)
        elapsed = time.monotonic() - before
        assert not api.ended.is_set(), "the server ended the response before the client did"
    assert elapsed < 10 * client.budget, "the call took much longer than its budget"


def test_a_body_that_stalls_is_cut_off():
    """The socket's timeout ends the wait for the rest."""
    with partner_api() as api:

        def stall(line, request):
            line.sendall(answer(200, user())[:-20])
            api.silence(line, request)

        api.scripts[:] = [stall]
        before = time.monotonic()
        with pytest.raises(Unavailable, match="no answer in time"):
            PartnerClient(api.url, API_KEY, budget=0.5).create_or_refresh_user("abc123", **SAM)
        assert time.monotonic() - before < 5


def test_headers_that_drip_hold_a_call_until_they_end(refresh):
    """Python reads all headers in one call, so only MAX_CONCURRENT_LAUNCHES limits how many launches wait for them."""

    def drip_headers(line, request):
        line.sendall(b"HTTP/1.1 200 x\r\nX-Slow: ")
        for _ in range(30):
            line.sendall(b"x")
            time.sleep(0.05)
        line.sendall(b"\r\nConnection: close\r\n\r\n" + json.dumps(user()).encode())

    before = time.monotonic()
    with pytest.raises(Unavailable, match="no answer in time"):
        refresh(drip_headers, budget=0.5)
    assert 1.5 < time.monotonic() - before < 10, "the call did not end when the headers ended"


def test_a_slow_name_lookup_counts_towards_the_budget(monkeypatch):
    """Here, the lookup takes longer than the budget, and the call ends soon after it."""
    look_up = socket.getaddrinfo

    def look_up_slowly(*arguments, **options):
        waited.wait(1)
        return look_up(*arguments, **options)

    waited = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", look_up_slowly)
    with partner_api() as api:
        api.scripts[:] = [api.drip(b"HTTP/1.1 200 x\r\n\r\n")]
        before = time.monotonic()
        with pytest.raises(Unavailable, match="no answer in time"):
            PartnerClient(api.url, API_KEY, budget=0.5).create_anonymous_user()
    assert time.monotonic() - before < 10, "the call lasted as long as the server kept sending"


def test_the_body_of_a_redirect_is_not_read(refresh):
    """It is not decompressed either, because 300 kB would become 300 MB."""
    bomb = gzip.compress(b"0" * 300_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnexpectedResponse):
        refresh(answer(302, bomb, Location="/x", Content_Encoding="gzip"), budget=8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_an_answer_without_end_does_not_fill_the_memory():
    """A response of more than 10 MiB is an error."""
    with (
        partner_api(answer(200, b"[" + b"1," * 6_000_000)) as api,
        pytest.raises(UnexpectedResponse, match="too large"),
    ):
        PartnerClient(api.url, API_KEY, budget=60).tracks("abc123")


def test_another_transport_can_be_passed(refresh):
    """Tests of host projects can pass a fake one."""

    class Counting(HTTPAdapter):
        calls = 0

        def send(self, *arguments, **options):
            self.calls += 1
            return super().send(*arguments, **options)

    transport = Counting()
    refresh(transport=transport)
    assert transport.calls == 1


@pytest.mark.parametrize("key", ["", " ", "schlüssel", "a\0b", "a\nb"])
def test_a_key_that_cannot_be_sent_is_rejected_and_not_quoted(key):
    with pytest.raises(ValueError, match="The key") as rejection:
        PartnerClient("https://xyz.biginterview.com", key)
    assert not key.strip() or key not in str(rejection.value)


def test_a_key_that_the_api_quotes_is_redacted(refresh):
    with pytest.raises(KeyRejected) as failure:
        refresh(answer(401, {"error": {"message": f"The API key {API_KEY} is not valid"}}))
    assert str(failure.value) == "The Partner API answered 401: The API key *** is not valid"


def test_a_key_is_checked_with_a_user_that_cannot_exist():
    with partner_api(answer(404)) as api:
        PartnerClient(api.url, API_KEY).check_key()
    with partner_api(answer(401)) as api, pytest.raises(KeyRejected):
        PartnerClient(api.url, API_KEY).check_key()


@pytest.mark.parametrize(
    "script", [answer(401), answer(500), answer(200, "x"), reset], ids=["401", "500", "not JSON", "reset"]
)
def test_neither_exceptions_nor_reprs_contain_the_key_or_a_token(refresh, script):
    """Invariant 9: not even through an exception's attributes."""
    with pytest.raises(BIIntegrationError) as failure:
        refresh(script)
    del failure.value.api
    assert API_KEY not in f"{failure.value} {failure.value!r} {failure.value.__dict__}"
    assert failure.value.__context__ is None, "the context refers to the request, which contains the key"
    client = PartnerClient("https://xyz.biginterview.com", API_KEY)
    found, _ = refresh()
    assert API_KEY not in repr(client)
    assert TOKEN not in repr(found)
