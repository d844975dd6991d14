"""Paths and return URLs of a launch: none leads to another host, and a valid path leads to the requested page."""

from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_bi_integration.dispatch.worker import dispatch_pending
from django_bi_integration.exceptions import NotAllowed
from django_bi_integration.models import ObjectState
from django_bi_integration.sso.destinations import check_path, destination
from django_bi_integration.sso.returns import check_return_url
from tests.helpers.deliveries import big_interview, deliver, interview_event

HOST = "https://xyz.biginterview.com"
ORIGIN = "https://app.example.edu"

TRICKS = [
    "",
    "members",
    "https://evil.example/",
    "HTTPS://evil.example/",
    "//evil.example/",
    "///evil.example/",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/%2Fevil.example",
    "/%252Fevil.example",
    "/%25252Fevil.example",
    "/%2525252525252Fevil.example",
    "/%5Cevil.example",
    "/%255Cevil.example",
    "/.//evil.example",
    "/a//evil.example",
    "/a%2F%2Fevil.example",
    "/\N{PILE OF POO}",
    "/" + "é" * 1000,
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "/%09/evil.example",
    "/%0d%0aLocation:%20https://evil.example",
    "/%ff",
    "/%c0%afevil.example",  # a slash in overlong UTF-8, which lenient servers accept
    "/x\r\nSet-Cookie: a=b",
    "/\x00",
    "/%00",
    "/\x7f",
    "/\u2028",
    "/\ud800",
    "@evil.example",
    ".evil.example",
    ":@evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/a%25252520b",
    "/" + "a" * 4094,
    "/" + "a/" * 1100,  # a slash takes three characters when it is percent-encoded
]
PATHS = [
    "/",
    "/members/dashboard",
    "/members/curriculum?chapter=6",
    "/members/mock_interviews/95607/review",
    "/members/mock_interviews/interview_info/52",
    "/a%20b?c=%2Fd&e=//f#g",
    "/vidéo",
    "/100%",
    "/x?next=https://elsewhere.example/",
    "/a%252520b",  # decoded three times
    "/" + "a" * 4093,  # 4096 characters when it is percent-encoded
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_stays_on_its_host_is_accepted_unchanged(path):
    assert check_path(path) == path


@pytest.mark.parametrize("path", TRICKS, ids=ascii)
def test_a_path_to_another_host_is_rejected(path):
    with pytest.raises(NotAllowed):
        check_path(path)


#: The parts of which the paths in TRICKS consist.
CHARACTERS = st.sampled_from([*"/\\.:@?#%25fF2c5C0aA \t\r\n\0aé", "%2f", "%5C", "%25", "evil.example", "\ud800", "//"])


@given(st.lists(CHARACTERS, max_size=12).map("".join))
def test_no_accepted_path_leaves_the_host(path):
    """Neither as it is nor after it was decoded up to three times."""
    try:
        accepted = check_path(path)
    except NotAllowed:
        return
    for _ in range(4):
        # Browsers treat a backslash as a slash, and remove tabs and line breaks.
        seen = accepted.replace("\\", "/").translate(dict.fromkeys(b"\t\r\n"))
        assert urlsplit(urljoin(HOST + "/sso/login", seen)).netloc == "xyz.biginterview.com"
        assert not set(accepted) & {"\r", "\n", "\0"}
        accepted = unquote(accepted)


@given(st.text(max_size=40).map("/".__add__))
def test_an_accepted_path_is_the_same_after_percent_encoding_and_decoding(path):
    try:
        accepted = check_path(path)
    except NotAllowed:
        return
    assert unquote(quote(accepted, safe="")) == path


@pytest.fixture
def origins(settings):
    settings.BI_INTEGRATION = {"RETURN_URL_ORIGINS": [ORIGIN, "http://localhost:3000"]}


def test_an_origin_given_as_text_is_one_origin(settings):
    """A system check rejects this setting. If each character were an origin, other URLs would be accepted."""
    settings.BI_INTEGRATION = {"RETURN_URL_ORIGINS": ORIGIN}
    assert check_return_url(f"{ORIGIN}/x") == f"{ORIGIN}/x"
    with pytest.raises(NotAllowed):
        check_return_url("https:///evil.example/")


#: As long as a return URL may be: 4096 characters when it is percent-encoded.
LONGEST_URL = ORIGIN + "/".ljust(4097 - len(quote(f"{ORIGIN}/", safe="")), "a")


@pytest.mark.parametrize(
    "url", [ORIGIN, f"{ORIGIN}/", f"{ORIGIN}/a?b=c#d", "http://localhost:3000/x", "/portal/", LONGEST_URL]
)
def test_a_return_url_of_an_allowed_origin_is_accepted(origins, url):
    assert check_return_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *[trick for trick in TRICKS if trick],
        "http://app.example.edu/",
        "https://app.example.edu:8443/",
        "https://app.example.edu.evil.example/",
        "https://app.example.edu@evil.example/",
        "https://user@app.example.edu/",
        "https://app.example.edu\\@evil.example/",
        "https://app.example.edu\\.evil.example/",
        "https://evil.example/https://app.example.edu/",
        "https://evil.example?https://app.example.edu",
        "https://evil.example#@app.example.edu/",
        "https://app.example.edu%2eevil.example/",
        "https://app.example.edu\t.evil.example/",
        "https://app.example.edu\n/",
        "https:app.example.edu",
        "https:///app.example.edu/",
        "https://аpp.example.edu/",  # a Cyrillic letter that looks the same
        "https://app.example.edu /",
        "https://[app.example.edu/",
        "localhost:3000",
        "//app.example.edu/",
        f"{ORIGIN}/é",
        f"{ORIGIN}/a b",
        f"{LONGEST_URL}a",
    ],
    ids=ascii,
)
def test_a_return_url_elsewhere_is_rejected(origins, url):
    with pytest.raises(NotAllowed):
        check_return_url(url)


@given(
    st.lists(st.sampled_from([ORIGIN, *"/\\.:@?#%[] \t", "https:", "evil.example", "app.example.edu"]), max_size=8).map(
        "".join
    )
)
def test_no_accepted_return_url_has_another_origin(url):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.BI_INTEGRATION", {"RETURN_URL_ORIGINS": [ORIGIN]})
        try:
            accepted = check_return_url(url)
        except NotAllowed:
            return
    seen = urlsplit(urljoin("https://here.example/", accepted.replace("\\", "/")))
    assert (seen.scheme, seen.netloc) in {("https", "here.example"), ("https", "app.example.edu")}


@pytest.mark.database
@pytest.mark.django_db
class TestDestinations:
    """Pages of Big Interview that are given by name."""

    def test_the_dashboard_and_a_chapter_have_a_fixed_path(self):
        assert destination("dashboard", "abc123", {}) == "/members/dashboard"
        assert destination("track", "abc123", {"chapter": "6"}) == "/members/curriculum?chapter=6"

    def test_an_interviews_pages_have_the_paths_that_the_vendor_sent(self):
        deliver(big_interview(), interview_event("1"))
        dispatch_pending()
        assert destination("review", "abc123", {"interview": "95607"}) == "/members/mock_interviews/95607"
        assert destination("retake", "abc123", {"interview": 95607}) == "/members/mock_interviews/interview_info/52"

    @pytest.mark.parametrize(
        ("name", "partner_id", "options"),
        [
            ("review", "somebody-else", {"interview": "95607"}),
            ("review", "", {"interview": "95607"}),
            ("review", "abc123", {"interview": "\0"}),
            ("review", "abc123", {"interview": "1"}),
            ("review", "abc123", {}),
            ("track", "abc123", {"chapter": "6&x=y"}),
            ("track", "abc123", {}),
            ("nowhere", "abc123", {}),
        ],
    )
    def test_a_page_that_is_unknown_or_another_persons_is_rejected(self, name, partner_id, options):
        deliver(big_interview(), interview_event("1"))
        dispatch_pending()
        with pytest.raises(NotAllowed):
            destination(name, partner_id, options)

    def test_a_visitor_cannot_open_an_interview_that_has_no_partner_id(self):
        """A visitor has no partner id before the launch, and the vendor may report an interview without one."""
        deliver(big_interview(), interview_event("1").replace(b'"abc123"', b'""'))
        dispatch_pending()
        assert ObjectState.objects.get().subject_id == ""
        with pytest.raises(NotAllowed):
            destination("review", "", {"interview": "95607"})

    def test_a_link_to_another_host_is_rejected(self):
        """Even if the vendor sent the link."""
        deliver(big_interview(), interview_event("1").replace(b"/members/mock_interviews/95607", b"//evil.example/"))
        dispatch_pending()
        assert ObjectState.objects.get().data["review_path"] == "//evil.example/"
        with pytest.raises(NotAllowed):
            destination("review", "abc123", {"interview": "95607"})
