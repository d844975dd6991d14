"""Unusual and invalid HTTP against a real server: each request gets a response, and none of them is a server error."""

import json
from urllib.parse import urlsplit

import pytest

from tests.helpers.deliveries import KEY
from tests.helpers.raw_http import exchange, post, statuses

CHUNKED = b"2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def url(live_stack):
    """Return the URL of a registration for Big Interview."""
    made = live_stack.manage("bi_register", "--vendor", "big_interview", "--name", "x", "--key", KEY)
    return live_stack.url + json.loads(made)["path"]


#: The statuses that the view responds with.
DECIDED = [
    # The length of the body.
    (["Transfer-Encoding: chunked"], {"body": CHUNKED}, 411),
    (["Transfer-Encoding: chunked"], {"body": b"zz\r\n{}\r\n0\r\n\r\n"}, 411),
    (["Content-Length: 300000"], {"body": b""}, 413),
    (["Content-Length: " + "9" * 100], {}, 413),
    (["Content-Length: 0"], {"body": b""}, 400),
    (["Content-Length: 10"], {"body": b'{"a":'}, 400),  # the client breaks off
    (["Content-Length: 10"], {"body": b"{}"}, 200),  # the client breaks off, but the object is complete
    (["Content-Length: 3"], {"body": b'{"a":1}'}, 400),
    (["Content-Length: 2"], {"body": b"{}{}"}, 200),
    (["Content-Encoding: gzip"], {}, 200),
    # Headers about the content, and others that do not matter.
    (["Content-Type: text/plain", "Accept: image/png"], {}, 200),
    (["Content-Type: application/json; charset=rot13"], {}, 200),
    (["Content-Type: application/json; charset=hex"], {}, 200),
    (["Content-Type: application/json; charset=undefined"], {}, 200),
    (["Content-Type: application/json; charset=no-such-thing\xff"], {}, 200),
    (["Content-Type: multipart/form-data"], {}, 200),
    (['Content-Type: multipart/form-data; boundary=\xff"'], {}, 200),
    (["Content-Type: multipart/form-data; boundary=" + "x" * 5_000], {}, 200),
    (["Content-Type: application/x-www-form-urlencoded"], {}, 200),
    (["Accept: ;;;q=x,\xff/*"], {}, 200),
    (["Accept-Language: " + "a-" * 2_000], {}, 200),
    (['Cookie: \xff=;;=a; sessionid="\\000'], {}, 200),
    (["X-Forwarded-For: " + ",".join(["1.2.3.4"] * 900)], {}, 200),
    (["X-Junk: " + "x" * 8_000], {}, 200),
    (["X-HTTP-Method-Override: DELETE"], {}, 200),
    # The key.
    ([f"Authorization: {KEY}"], {}, 401),
    ([], {"key": None}, 401),
    ([], {"key": ""}, 401),
    ([], {"key": "schl\xfcssel\xff"}, 401),
    ([], {"key": "a" * 8_000}, 401),
    ([], {"key": f"Bearer {KEY}"}, 401),
    # Methods and versions.
    *[
        ([], {"method": method}, 405)
        for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW", "M-SEARCH")
    ],
    (["X-HTTP-Method-Override: POST"], {"method": "GET"}, 405),
    ([], {"version": "HTTP/1.0"}, 200),
]


@pytest.mark.parametrize(("lines", "request_", "status"), DECIDED)
def test_an_unusual_request_gets_the_status_that_the_view_decides_on(url, lines, request_, status):
    answer = exchange(url, post(url, *lines, **request_))
    assert statuses(answer) == [status]
    assert "content-type: application/json" in answer.lower()


def test_a_client_that_sends_expect_100_continue_gets_100_and_then_200(url):
    assert statuses(exchange(url, post(url, "Expect: 100-continue"))) == [100, 200]


#: Requests that gunicorn rejects before Django sees them, with a status that depends on its version.
REJECTED_BY_THE_SERVER = [
    *[
        ([f"Content-Length: {length}"], {})
        for length in ("abc", "", "-1", "+2", "2, 2", "2\r\nContent-Length: 3", "9" * 5_000)
    ],
    (["Transfer-Encoding: chunked", "Content-Length: 12"], {"body": CHUNKED}),
    (["Transfer-Encoding: made-up"], {"body": CHUNKED}),
    (["Transfer-Encoding: chunked"], {"body": CHUNKED, "version": "HTTP/1.0"}),
    (["X-Junk: " + "x" * 10_000], {}),
    ([f"X-{number}: 1" for number in range(200)], {}),
    (["X-Junk : 1"], {}),
    ([], {"key": "a" * 10_000}),
    ([], {"key": "a\0b"}),
    ([], {"key": KEY[:5] + "\r\n " + KEY[5:]}),
    ([], {"method": "P\xd6ST"}),
    ([], {"method": "P@ST"}),
    ([], {"method": "A" * 300}),
    ([], {"version": "HTTP/9.9"}),
    ([], {"path": "*"}),
    ([], {"path": "/" + "a" * 9_000}),
]


@pytest.mark.parametrize(("lines", "request_"), REJECTED_BY_THE_SERVER)
def test_the_server_rejects_invalid_http_with_a_client_error(url, lines, request_):
    (status,) = statuses(exchange(url, post(url, *lines, **request_)))
    assert 400 <= status < 500 or status in (501, 505)


@pytest.mark.parametrize(
    "junk", [b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\r\n\r\n", b"{}"]
)
def test_bytes_that_are_not_an_http_request_get_a_client_error_or_no_response(url, junk):
    assert all(400 <= status < 500 or status in (501, 505) for status in statuses(exchange(url, junk)))


@pytest.mark.parametrize("host", ["evil.example", "http://127.0.0.1", "\xff", "a" * 300])
def test_a_host_that_is_not_in_allowed_hosts_is_a_400(url, host):
    assert statuses(exchange(url, post(url).replace(b"127.0.0.1", host.encode("latin-1"), 1))) == [400]


def paths(url):
    """Yield variants of the webhook's path, with the status that each gets."""
    path = urlsplit(url).path
    name = path.split("/")[3]
    yield from (
        (form, 200)
        for form in (
            path[:-1],
            path[:-1] + "%2F",
            path.replace(name, f"%{ord(name[0]):x}{name[1:]}"),
            path + "#x",
            "http://127.0.0.1" + path,
            *(f"{path}?{query}" for query in ("format=xml", "_method=PUT", "%ff&=&a[]=%00;x", "x" * 3_000)),
        )
    )
    yield from (
        (form, 404)
        for form in (
            f"/bi/webhooks/{name.upper()}/",
            f"/bi/webhooks/{name.replace('-', '')}/",
            f"/bi/webhooks/{{{name}}}/",
            f"/bi/webhooks//{name}/",
            f"/bi/webhooks/../webhooks/{name}/",
            f"/{path}",
            f"{path}/",
            f"{path}x",
            f"{path};a=b",
            *(f"{path[:-1]}%{code}/" for code in ("00", "0A", "zz", "ff%fe", "EF%BC%91")),
            "/bi/webhooks/",
            "/bi/webhooks/" + "a" * 3_900,
            "/bi/webhooks/00000000-0000-0000-0000-000000000000/",
        )
    )


def test_a_variant_of_the_path_is_accepted_or_a_404_but_never_redirected(url):
    expected = dict(paths(url))
    assert {path: statuses(exchange(url, post(url, path=path)))[0] for path in expected} == expected


def test_a_wrong_key_is_rejected_before_the_body_arrives(url):
    """The body of an unauthenticated request is not read."""
    head = post(url, "Content-Length: 100000", body=b"{", key="wrong")
    assert statuses(exchange(url, head, then_close=False)) == [401]


def test_a_second_request_on_a_connection_gets_a_response_or_is_dropped(url):
    assert statuses(exchange(url, post(url) + post(url, body=b"[]"))) in ([200], [200, 400])


def test_the_server_still_works_after_these_requests_and_has_logged_no_traceback(url, live_stack):
    exchange(url, post(url, body=b"[" * 200_000))
    assert statuses(exchange(url, post(url))) == [200]
    assert "Traceback" not in live_stack.web.output()
