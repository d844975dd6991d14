"""The fake Big Interview behaves as the documentation of the real one, and its pages work in a browser."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from itertools import count
from types import SimpleNamespace
from urllib.parse import quote, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from django_bi_integration.partner_api.client import PartnerClient
from fake_vendors import web
from fake_vendors.site import Call, Site, running_site
from tests.helpers.stack import ROOT, Program
from tests.helpers.waiting import wait_until

FORM = "application/x-www-form-urlencoded"
#: The key of Big Interview's documentation.
KEY = "935d85189822bf96c28c4fa79d3d8f31"
NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
MARA = {"first_name": "Mara", "last_name": "Quillfeather", "email": "mara.quillfeather@students.example"}
TOBIAS = {"first_name": "Tobias", "last_name": "Ostrowind", "email": "tobias.ostrowind@students.example"}
PORTAL = "https://careers.example.edu/back?from=bi"


class Client:
    """Sends requests to one site, follows no redirect, and keeps the cookie."""

    def __init__(self, url):
        self.url, self.cookie = url, ""

    def send(self, method, path, body=b"", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            headers.setdefault("Cookie", self.cookie)
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            text = response.read().decode()
        connection.close()
        if "Set-Cookie" in response.headers:
            self.cookie = response.headers["Set-Cookie"].partition(";")[0]
        return SimpleNamespace(status=response.status, headers=response.headers, text=text)

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, **fields):
        return self.send("POST", path, urlencode(fields), Origin=self.url, Content_Type=FORM)

    def api(self, method, path, fields=None, key=KEY):
        body = b"" if fields is None else json.dumps(fields)
        response = self.send(method, path, body, Authorization=key, Content_Type="application/json")
        response.json = json.loads(response.text)
        return response

    def token(self, partner_id="stu-1001", person=MARA):
        return self.api("POST", f"/api/users/{partner_id}", person).json["user"]["token"]["token"]

    def sign_in(self, partner_id="stu-1001", person=MARA, **more):
        """Sign in with a new token, and return the response."""
        return self.get("/sso/login?" + urlencode({"token": self.token(partner_id, person), **more}, quote_via=quote))

    def start(self, exercise=52):
        """Start an interview, and return its path."""
        return self.post("/members/mock_interviews", exercise=exercise).headers["Location"]


@pytest.fixture
def clock():
    """Return a clock whose time changes only if a test sets ``now``."""
    return SimpleNamespace(now=NOW)


@pytest.fixture
def sent():
    """Return the list of events that the site has sent."""
    return []


@pytest.fixture
def site(clock, sent):
    return Site(api_key=KEY, clock=lambda: clock.now, send=sent.append)


@pytest.fixture
def client(site):
    with running_site(site) as url:
        yield Client(url)


@pytest.fixture
def other(client):
    """Return another client of the same site."""
    return Client(client.url)


@pytest.fixture
def mara(client):
    """Return a client that is signed in as Mara."""
    client.sign_in()
    return client


# The Partner API


def test_a_user_is_created_and_then_refreshed(client):
    created = client.api("POST", "/api/users/stu-1001", MARA)
    refreshed = client.api("POST", "/api/users/stu-1001", MARA)
    assert (created.status, refreshed.status) == (201, 200)
    tokens = [response.json["user"].pop("token") for response in (created, refreshed)]
    assert created.json == refreshed.json
    assert created.json == {
        "user": {"partner_id": "stu-1001", "created_at": "2026-03-01T12:00:00.250Z", "anonymous": False}
    }
    assert all(re.fullmatch("[0-9a-f]{64}", token["token"]) for token in tokens)
    assert tokens[0]["token"] != tokens[1]["token"]
    assert tokens[0]["expires_at"] == "2026-03-03T12:00:00.250Z"


@pytest.mark.parametrize("key", ["", "0" * 32, f"Bearer {KEY}", f"Token {KEY}", KEY.upper(), "ü"])
def test_anything_but_the_bare_key_is_rejected(client, key):
    response = client.api("POST", "/api/users/stu-1001", MARA, key=key)
    assert response.status == 401
    assert response.json["error"]["type"] == "unauthorized"
    assert "must be a valid API key" in response.json["error"]["message"]
    assert client.api("GET", "/api/users/stu-1001/tracks").status == 404


def test_the_key_is_checked_before_the_path(client):
    assert client.api("GET", "/api/nothing", key="").status == 401


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps(MARA)),
        ("application/json; charset=utf-8", json.dumps(MARA)),
        (FORM, urlencode(MARA)),
    ],
)
def test_names_are_accepted_as_json_and_as_a_form(client, content_type, body):
    response = client.send("POST", "/api/users/stu-1001", body, Authorization=KEY, Content_Type=content_type)
    assert response.status == 201


def test_names_are_ignored_once_the_user_exists(client):
    client.api("POST", "/api/users/stu-1001", MARA)
    assert client.api("POST", "/api/users/stu-1001", {"first_name": 7, "email": ""}).status == 200
    client.sign_in(person=TOBIAS)
    page = client.get("/members/dashboard").text
    assert "Mara Quillfeather" in page
    assert "Tobias" not in page


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"email": None}, {"email": ["is required"]}),
        ({"email": " "}, {"email": ["is required"]}),
        ({"email": "mara"}, {"email": ["is invalid"]}),
        ({"first_name": ["Mara"]}, {"first_name": ["is invalid"]}),
        ({"last_name": "\ud800"}, {"last_name": ["is invalid"]}),
        ({"last_name": "x" * 256}, {"last_name": ["is too long (at most 255 characters)"]}),
        ({"first_name": "", "last_name": ""}, {"first_name": ["is required"], "last_name": ["is required"]}),
    ],
)
def test_errors_of_a_new_user_are_reported_by_field(client, changed, message):
    response = client.api("POST", "/api/users/stu-1001", MARA | changed)
    assert response.status == 422
    assert response.json == {"error": {"type": "validation_error", "message": message}}


@pytest.mark.parametrize("content_type", ["", "text/plain"])
def test_without_readable_fields_all_three_are_missing(client, content_type):
    response = client.send("POST", "/api/users/stu-1001", b"x", Authorization=KEY, Content_Type=content_type)
    assert response.status == 422
    assert set(json.loads(response.text)["error"]["message"]) == set(MARA)


@pytest.mark.parametrize("partner_id", ["a", "A-z_09", "x" * 64])
def test_a_valid_partner_id_is_accepted(client, partner_id):
    assert client.api("POST", f"/api/users/{partner_id}", MARA).status == 201


@pytest.mark.parametrize("partner_id", ["x" * 65, "a.b", "a%20b", "a%2Fb", "mara@students.example", "%C3%B3", "a%0A"])
def test_an_invalid_partner_id_is_rejected(client, partner_id):
    response = client.api("POST", f"/api/users/{partner_id}", MARA)
    assert response.status == 422
    assert list(response.json["error"]["message"]) == ["partner_id"]


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "\xff", "[" * 60_000])
def test_a_body_that_is_not_a_json_object_is_rejected(client, body):
    response = client.send(
        "POST", "/api/users/stu-1001", body.encode("latin-1"), Authorization=KEY, Content_Type="application/json"
    )
    assert response.status == 400
    assert json.loads(response.text)["error"]["type"] == "bad_request"


def test_one_of_two_concurrent_requests_creates_the_user():
    """Neither finds the user, and both look at the clock before they add the user."""
    together, looks = threading.Barrier(2, timeout=60), count()

    def clock():
        if next(looks) < 2:
            together.wait()
        return NOW

    with running_site(Site(api_key=KEY, clock=clock)) as url, ThreadPoolExecutor(2) as pool:
        people = [MARA, TOBIAS]
        responses = list(pool.map(lambda person: Client(url).api("POST", "/api/users/stu-1001", person), people))
    assert sorted(response.status for response in responses) == [200, 201]


def test_anonymous_users_need_approval(client):
    response = client.api("POST", "/api/users/anonymous", MARA)
    assert response.status == 403
    assert response.json == {
        "error": {"type": "forbidden", "message": "Anonymous users have not been approved for this organization."}
    }


def test_an_approved_anonymous_user_gets_an_id_that_works_like_any_other():
    with running_site(Site(api_key=KEY, allows_anonymous=True)) as url:
        client = Client(url)
        created = client.api("POST", "/api/users/anonymous")
        user = created.json["user"]
        refreshed = client.api("POST", f"/api/users/{user['partner_id']}")
        assert client.get(f"/sso/login?token={user['token']['token']}").status == 302
        assert "Anonymous Guest" in client.get("/members/dashboard").text
    assert (created.status, refreshed.status) == (201, 200)
    assert re.fullmatch("anon_[0-9a-f]{16}", user["partner_id"])
    # As documented: the response of this endpoint has false.
    assert user["anonymous"] is False
    assert refreshed.json["user"]["anonymous"] is True


def test_anonymous_is_not_a_partner_id(client):
    assert client.api("GET", "/api/users/anonymous/tracks").status == 404


def test_tracks_are_listed_with_the_documented_fields(mara):
    mara.post("/members/curriculum?chapter=6")
    response = mara.api("GET", "/api/users/stu-1001/tracks")
    assert response.status == 200
    fast, mastery = response.json["tracks"]
    assert fast == {
        "title": "Fast Track",
        "progress": 0.5,
        "tracks": [
            {
                "step": 1,
                "title": "Tell me about yourself",
                "link": "/members/curriculum?chapter=5",
                "completed": False,
            },
            {
                "step": 2,
                "title": "Why do you want to work here?",
                "link": "/members/curriculum?chapter=6",
                "completed": True,
            },
        ],
    }
    assert (mastery["title"], mastery["progress"]) == ("Mastery Track", 0.33)


def test_interviews_are_listed_with_the_documented_fields_the_latest_change_first(mara, clock):
    first, second = mara.start(), mara.start(443)
    clock.now += timedelta(minutes=5)
    mara.post(f"{first}/finish")
    response = mara.api("GET", "/api/users/stu-1001/interviews")
    assert response.status == 200
    finished, started = response.json["interviews"]
    number = int(first.rsplit("/", 1)[1])
    assert finished == {
        "id": number,
        "title": "Top 10 Questions",
        "interviewer_name": "Jordan",
        "category": "Top 10 Questions: 1",
        "completed": True,
        "created_at": "2026-03-01T12:00:00.250Z",
        "updated_at": "2026-03-01T12:05:00.250Z",
        "links": {
            "review": f"/members/mock_interviews/{number}/review",
            "retake": "/members/mock_interviews/interview_info/52",
        },
    }
    assert started["links"]["review"] == f"{second}/review"
    assert started["links"]["retake"] == "/members/mock_interviews/interview_info/443"
    assert started["completed"] is False


@pytest.mark.parametrize("kind", ["tracks", "interviews"])
def test_lists_of_an_unknown_user_are_not_found(client, kind):
    response = client.api("GET", f"/api/users/nobody/{kind}")
    assert response.status == 404
    assert response.json == {"error": {"type": "not_found", "message": "No user has this partner_id."}}


def test_lists_of_a_new_user_are_empty(client):
    client.api("POST", "/api/users/stu-1001", MARA)
    assert client.api("GET", "/api/users/stu-1001/interviews").json == {"interviews": []}


def test_an_undocumented_address_or_method_is_rejected_in_json(client):
    client.api("POST", "/api/users/stu-1001", MARA)
    assert client.api("GET", "/api/users/stu-1001/track").json["error"]["type"] == "not_found"
    deletion = client.api("DELETE", "/api/users/stu-1001")
    assert (deletion.status, deletion.headers["Allow"]) == (405, "POST")
    assert deletion.json["error"]["type"] == "method_not_allowed"


def test_each_call_of_the_partner_api_is_recorded_for_tests(client, site):
    client.api("POST", "/api/users/stu-1001", MARA)
    client.api("GET", "/api/users/nobody/tracks", key="")
    client.get("/")
    assert site.calls == [Call("POST", "/api/users/stu-1001", 201), Call("GET", "/api/users/nobody/tracks", 401)]


# Single sign-on


def test_a_token_signs_in_and_leads_to_the_dashboard(client):
    response = client.get(f"/sso/login?token={client.token()}")
    assert (response.status, response.headers["Location"]) == (302, "/members/dashboard")
    assert re.fullmatch(r"fake_big_interview=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax", response.headers["Set-Cookie"])
    page = client.get("/members/dashboard")
    assert page.status == 200
    assert "<strong>Mara Quillfeather</strong>" in page.text
    assert "mara.quillfeather@students.example" in page.text
    assert requested_path(page) == "/members/dashboard"


def requested_path(page):
    """Return the path that the page says the member was sent to."""
    return re.search(r"You were sent to:</span> <code>(.*?)</code>", page.text)[1]


def test_redirect_to_leads_to_a_page_that_shows_the_path(client):
    response = client.sign_in(redirect_to="/members/curriculum?chapter=6")
    assert (response.status, response.headers["Location"]) == (302, "/members/curriculum?chapter=6")
    page = client.get("/members/curriculum?chapter=6")
    assert "Why do you want to work here?" in page.text
    assert requested_path(page) == "/members/curriculum?chapter=6"
    assert "You were sent to" not in client.get("/members/curriculum?chapter=6").text


@pytest.mark.parametrize(
    "target",
    [
        "https://elsewhere.example/",
        "//elsewhere.example/",
        r"/\elsewhere.example/",
        "/\t/elsewhere.example/",
        "members/dashboard",
        "/members/a b",
        "/members/\r\nSet-Cookie: a=b",
        "/members/ó",
    ],
)
def test_redirect_to_must_be_a_path_and_a_wrong_one_does_not_use_the_token(client, target):
    token = client.token()
    response = client.get(f"/sso/login?token={token}&redirect_to={quote(target, safe='')}")
    assert response.status == 400
    assert "redirect_to must be a path of this site" in response.text
    assert client.get(f"/sso/login?token={token}").status == 302


@pytest.mark.parametrize("url", ["javascript:alert(1)", "/back", "https://", "http://[", "https://a\r\nb", "ftp://a/"])
def test_return_url_must_be_an_absolute_url(client, url):
    response = client.sign_in(return_url=url)
    assert response.status == 400
    assert "return_url must be an absolute URL" in response.text


def test_a_token_works_once(client):
    path = f"/sso/login?token={client.token()}"
    assert client.get(path).status == 302
    again = client.get(path)
    assert again.status == 403
    assert "has been used already" in again.text


@pytest.mark.parametrize(("age", "status"), [(timedelta(hours=47, minutes=59), 302), (timedelta(hours=48), 403)])
def test_a_token_is_valid_for_48_hours(client, clock, age, status):
    token = client.token()
    clock.now += age
    response = client.get(f"/sso/login?token={token}")
    assert response.status == status
    assert ("has expired" in response.text) is (status == 403)


@pytest.mark.parametrize("query", ["", "?token=", "?token=" + "0" * 64])
def test_an_unknown_token_is_rejected(client, query):
    response = client.get(f"/sso/login{query}")
    assert response.status == 403
    assert "is unknown" in response.text


def test_one_of_many_concurrent_requests_uses_the_token(client):
    path = f"/sso/login?token={client.token()}"
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: Client(client.url).get(path).status, range(16)))
    assert sorted(statuses) == [302] + [403] * 15


def test_a_head_request_does_not_use_the_token(client):
    path = f"/sso/login?token={client.token()}"
    ahead = client.send("HEAD", path)
    assert (ahead.status, ahead.text) == (405, "")
    assert client.get(path).status == 302


@pytest.mark.parametrize(("given", "location"), [({"return_url": PORTAL}, PORTAL), ({}, "/")])
def test_logging_out_leads_to_the_return_url(client, given, location):
    client.sign_in(**given)
    cookie = client.cookie
    assert ("takes you back" in client.get("/members/dashboard").text) == ("return_url" in given)
    response = client.get("/members/logout")
    assert (response.status, response.headers["Location"]) == (302, location)
    assert "Max-Age=0" in response.headers["Set-Cookie"]
    client.cookie = cookie
    assert client.get("/members/dashboard").status == 403


def test_logging_out_twice_is_not_an_error(client):
    response = client.get("/members/logout")
    assert (response.status, response.headers["Location"]) == (302, "/")


def test_cookies_of_servers_on_other_ports_are_ignored(mara):
    mara.cookie = f'session={{"a": "b,c"}}; =; x; {mara.cookie}; later=1'
    assert mara.get("/members/dashboard").status == 200


# The member pages


def test_a_member_starts_finishes_and_deletes_an_interview(mara, sent, clock):
    path = mara.start(61)
    assert "In progress" in mara.get(path).text
    clock.now += timedelta(minutes=20)
    finished = mara.post(f"{path}/finish")
    assert (finished.status, finished.headers["Location"]) == (303, f"{path}/review")
    assert "Completed" in mara.get(f"{path}/review").text
    deleted = mara.post(f"{path}/delete")
    assert (deleted.status, deleted.headers["Location"]) == (303, "/members/dashboard")
    assert "Nothing here yet." in mara.get("/members/dashboard").text
    wait_until(lambda: len(sent) == 3)
    created, updated, removed = (json.loads(event.body)["webhook"] for event in sent)
    number = path.rsplit("/", 1)[1]
    assert [event.name for event in sent] == ["interview.created", "interview.updated", "interview.deleted"]
    assert {(hook["partner_id"], hook["api_id"]) for hook in (created, updated, removed)} == {("stu-1001", number)}
    assert updated["api_object"] == {
        "id": int(number),
        "title": "Nursing",
        "interviewer_name": "Jordan",
        "category": "Nursing: 1",
        "completed": True,
        "created_at": "2026-03-01T12:00:00.250Z",
        "updated_at": "2026-03-01T12:20:00.250Z",
        "links": {"review": path, "retake": "/members/mock_interviews/interview_info/61"},
    }
    assert created["api_object"]["completed"] is False
    assert removed["api_object"] is None


def test_the_dashboard_offers_the_possible_actions(mara):
    path = mara.start()
    page = mara.get("/members/dashboard").text
    assert f'action="{path}/finish"' in page
    assert f'action="{path}/delete"' in page
    assert f'href="{path}/review"' in page
    assert 'href="/members/mock_interviews/interview_info/52"' in page
    mara.post(f"{path}/finish")
    assert f"{path}/finish" not in mara.get("/members/dashboard").text


def test_finishing_twice_sends_one_event(mara, sent):
    path = mara.start()
    for _ in range(2):
        assert mara.post(f"{path}/finish").status == 303
    mara.post(f"{path}/delete")
    wait_until(lambda: sent and sent[-1].name == "interview.deleted")
    assert [event.name for event in sent] == ["interview.created", "interview.updated", "interview.deleted"]


def test_following_retake_creates_a_new_interview(mara, sent):
    first = mara.start()
    response = mara.get("/members/mock_interviews/interview_info/52")
    assert response.status == 303
    assert response.headers["Location"] != first
    assert "Top 10 Questions" in mara.get(response.headers["Location"]).text
    wait_until(lambda: len(sent) == 2)
    assert len(mara.api("GET", "/api/users/stu-1001/interviews").json["interviews"]) == 2


def test_interview_ids_are_not_those_of_an_earlier_run(mara):
    with running_site(Site(api_key=KEY)) as url:
        later = Client(url)
        later.sign_in()
        paths = [mara.start(), later.start(), mara.start(), later.start()]
    assert len(set(paths)) == 4


def test_a_chapter_is_marked_as_done(mara):
    path = "/members/curriculum?chapter=1"
    assert "Mark as done" in mara.get(path).text
    response = mara.post(path)
    assert (response.status, response.headers["Location"]) == (303, path)
    assert "Mark as done" not in mara.get(path).text


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/members/curriculum", 400, "A chapter is a number"),
        ("GET", "/members/curriculum?chapter=x", 400, "A chapter is a number"),
        ("GET", "/members/curriculum?chapter=99", 404, "There is no chapter 99."),
        ("POST", "/members/curriculum?chapter=99", 404, "There is no chapter 99."),
        ("GET", "/members/mock_interviews/1", 404, "You have no such interview."),
        ("GET", "/members/mock_interviews/x", 404, "nothing at this address"),
        ("GET", "/members/mock_interviews/" + "9" * 5000, 404, "nothing at this address"),
        ("GET", "/members/mock_interviews/interview_info/1", 404, "There is no such exercise."),
        ("POST", "/members/mock_interviews/1/finish", 404, "You have no such interview."),
        ("POST", "/members/mock_interviews", 400, "Choose one of the exercises"),
        ("GET", "/members/mock_interviews", 405, "accepts POST, not GET"),
        ("PATCH", "/members/dashboard", 405, "accepts GET, not PATCH"),
        ("GET", "/static/../site.py", 404, "nothing at this address"),
        ("GET", "/%00<script>", 404, "nothing at this address"),
    ],
)
def test_an_error_is_shown_on_a_page(mara, method, path, status, words):
    response = mara.send(method, path, Origin=mara.url)
    assert response.status == status
    assert words in response.text
    assert "FAKE Big Interview: not the real site" in response.text
    assert "Mara Quillfeather" in response.text


@pytest.mark.parametrize(
    "path",
    [
        "/members/dashboard",
        "/members/curriculum?chapter=6",
        "/members/mock_interviews/1",
        "/members/mock_interviews/1/review",
        "/members/mock_interviews/interview_info/52",
    ],
)
def test_member_pages_require_a_login(client, path):
    response = client.get(path)
    assert response.status == 403
    assert "You are not signed in." in response.text


def test_another_members_interview_is_not_accessible(mara, other):
    path = mara.start()
    other.sign_in("stu-1002", TOBIAS)
    assert [other.get(path).status, other.get(f"{path}/review").status] == [404, 404]
    assert [other.post(f"{path}/finish").status, other.post(f"{path}/delete").status] == [404, 404]
    assert "In progress" in mara.get(path).text


@pytest.mark.parametrize("origin", [{}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}])
def test_a_form_of_another_site_changes_nothing(mara, origin):
    path = mara.start()
    response = mara.send("POST", f"{path}/delete", **origin)
    assert response.status == 403
    assert "did not come from a page of this site" in response.text
    assert mara.get(path).status == 200


def test_names_are_escaped(client):
    client.sign_in(person=MARA | {"first_name": "<b>Mara</b> $path"}, redirect_to="/members/dashboard?a=<i>&b=$x")
    page = client.get("/members/dashboard")
    assert "Welcome, &lt;b&gt;Mara&lt;/b&gt; $path" in page.text
    assert requested_path(page) == "/members/dashboard?a=&lt;i&gt;&amp;b=$x"


def test_pages_load_only_their_own_style_sheet_and_no_script(mara):
    page = mara.get("/members/dashboard")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'; form-action 'self'")
    assert page.headers["Cache-Control"] == "no-store"
    assert not re.search(r"<script|<style|style=|\son\w+=|https?:", page.text)
    for file, content_type in {"site.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}.items():
        assert f"/static/{file}" in page.text
        assert mara.get(f"/static/{file}").headers["Content-Type"] == content_type


# The web server


@pytest.mark.parametrize("path", ["/api/users/stu-1001", "/members/mock_interviews"])
@pytest.mark.parametrize(("size", "too_large"), [(64 * 1024, False), (64 * 1024 + 1, True), (1_000_000, True)])
def test_a_body_above_64_kib_is_rejected(mara, path, size, too_large):
    response = mara.send("POST", path, b"x" * size, Authorization=KEY, Origin=mara.url)
    assert (response.status == 413) is too_large
    assert ("A body may have 65536 bytes at most." in response.text) is too_large


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 411 "),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b" 400 "),
        ("POST / HTTP/1.1\r\nContent-Length: " + "9" * 5000 + "\r\n\r\n", b" 400 "),
        ("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort", b" 400 "),
        ("nonsense\r\n\r\n", b"400 "),
        ("GET http://[ HTTP/1.1\r\n\r\n", b" 404 "),
        ("GET /" + "x" * 70_000 + " HTTP/1.1\r\n\r\n", b" 414 "),
    ],
)
def test_a_malformed_request_gets_a_clear_response(client, request_text, status, capfd):
    with socket.create_connection(("127.0.0.1", urlsplit(client.url).port), timeout=60) as connection:
        connection.sendall(request_text.encode())
        connection.shutdown(socket.SHUT_WR)
        first = connection.recv(65536)
    assert status in first.partition(b"\r\n")[0]
    assert b"Traceback" not in first
    assert capfd.readouterr() == ("", "")


def test_a_body_that_does_not_arrive_times_out(client, monkeypatch, capfd):
    monkeypatch.setattr(web._Handler, "timeout", 1)
    with socket.create_connection(("127.0.0.1", urlsplit(client.url).port), timeout=60) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nshort")
        assert b" 408 " in connection.recv(65536).partition(b"\r\n")[0]
    assert capfd.readouterr() == ("", "")


def test_the_server_prints_nothing(mara, capfd):
    mara.get("/")
    mara.get("/nothing")
    assert capfd.readouterr() == ("", "")


def test_the_server_listens_only_on_this_machine(client):
    assert urlsplit(client.url).hostname == "127.0.0.1"


def test_a_port_in_use_is_an_error(client):
    with pytest.raises(OSError, match="in use") as in_use, running_site(Site(api_key=KEY), urlsplit(client.url).port):
        pass
    assert in_use.value.errno == errno.EADDRINUSE


def test_a_page_does_not_wait_for_its_event():
    release, arrived, order = threading.Event(), threading.Event(), []

    def send(event):
        arrived.set()
        release.wait(60)
        order.append(event.name)

    with running_site(Site(api_key=KEY, send=send)) as url:
        client = Client(url)
        client.sign_in()
        path = client.start()
        assert arrived.wait(60)
        assert client.post(f"{path}/finish").status == 303
        assert order == []
        release.set()
    assert order == ["interview.created", "interview.updated"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_event_that_cannot_be_sent_does_not_affect_others():
    sent = []

    def send(event):
        if event.name == "interview.created":
            raise ConnectionError
        sent.append(event.name)

    with running_site(Site(api_key=KEY, send=send)) as url:
        client = Client(url)
        client.sign_in()
        path = client.start()
        assert client.post(f"{path}/delete").status == 303
    assert sent == ["interview.deleted"]


# In a browser


@pytest.fixture
def visitor(page):
    """A page without errors, missing files or violations of the content security policy."""
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_a_student_practises_and_returns(client, visitor, sent, width, scheme):
    visitor.set_viewport_size({"width": width, "height": 800})
    visitor.emulate_media(color_scheme=scheme)
    with running_site(Site(api_key=KEY)) as home:  # another origin, like the portal
        visitor.goto(f"{client.url}/sso/login?token={client.token()}&return_url={quote(home + '/?back=1', safe='')}")
        expect(visitor.get_by_text("You were sent to:")).to_be_visible()
        visitor.get_by_label("My Best Analytical Interview").check()
        visitor.get_by_role("button", name="Start practice interview").click()
        expect(visitor.get_by_text("In progress")).to_be_visible()
        visitor.get_by_role("button", name="Finish").click()
        expect(visitor.get_by_text("Completed")).to_be_visible()
        assert visitor.evaluate("document.documentElement.scrollWidth") <= width
        visitor.get_by_role("link", name="Log out").click()
        visitor.wait_for_url(f"{home}/?back=1")
    wait_until(lambda: [event.name for event in sent] == ["interview.created", "interview.updated"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(client, visitor, scheme):
    """At least 4.5 to 1 for every text, on the pages that use all colours."""
    client.sign_in()
    client.start()
    client.post(f"{client.start()}/finish")
    client.post("/members/curriculum?chapter=6")
    visitor.emulate_media(color_scheme=scheme)
    for path in ("/members/dashboard", "/members/curriculum?chapter=6"):
        visitor.goto(f"{client.url}/sso/login?token={client.token()}&redirect_to={quote(path, safe='')}")
        assert visitor.evaluate(FAINT_TEXTS) == []


#: JavaScript that lists the texts with too little contrast. It skips pictures, whose background is a gradient.
FAINT_TEXTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const found = channels(getComputedStyle(element).backgroundColor);
      if (found.length === 3) return found;
    }
  };
  return [...document.querySelectorAll("body *")].filter((element) => {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest(".film")) return false;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((element) => element.textContent.trim());
}"""


def test_the_site_can_be_started_from_a_shell(tmp_path):
    """To try single sign-on without an account at Big Interview. It prints how to point a project at it."""
    command = [sys.executable, "-m", "fake_vendors", "site", "--api-key", KEY, "--port", "0"]
    program = Program("site", command, dict(os.environ), tmp_path / "log", lambda new: "Press Ctrl-C to stop." in new)
    program.start()
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+", program.output())[0]
        assert f'BI_INTEGRATION["BASE_URL"] = "{url}"' in program.output()
        PartnerClient(url, KEY).check_key()
        taken = subprocess.run([*command[:-1], url.rpartition(":")[2]], cwd=ROOT, capture_output=True, text=True)
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(60) == 0
    finally:
        program.stop()
    assert (taken.returncode, taken.stdout) == (1, "")
    assert "Choose another with --port." in taken.stderr
