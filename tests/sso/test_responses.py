"""Error codes: each exception that can end a launch has a status and a code, and the documentation lists them."""

import re
from pathlib import Path

import pytest

from django_bi_integration import exceptions
from django_bi_integration.exceptions import (
    GiveUp,
    InvalidAttributes,
    KeyOfAnotherAccount,
    KeyRejected,
    LaunchFailure,
    LaunchInProgress,
    MissingDetails,
    NoAccount,
    NoPartnerID,
    NotAllowed,
    RateLimited,
    SharedPartnerID,
    TooManyLaunches,
    TooManyVisits,
    Unavailable,
    UndecryptableKey,
    UnexpectedResponse,
    UnknownUser,
)
from django_bi_integration.sso.responses import OUTCOMES
from tests.helpers.sign_on import client_of, new_student

PAGE = (Path(__file__).parent.parent.parent / "docs" / "single-sign-on.md").read_text()

ERRORS = [
    (NotAllowed("x"), 400, "not_allowed"),
    (NoPartnerID("x"), 403, "no_partner_id"),
    (SharedPartnerID("x"), 403, "shared_partner_id"),
    (LaunchInProgress("x"), 409, "in_progress"),
    (MissingDetails(["email"]), 422, "missing_details"),
    (InvalidAttributes("x", fields={}), 422, "invalid_attributes"),
    (TooManyVisits("x", retry_after=1), 429, "too_many_visits"),
    (NoAccount("x"), 502, "no_account"),
    (UndecryptableKey("x"), 502, "key_unreadable"),
    (KeyOfAnotherAccount("x"), 502, "key_unreadable"),
    (KeyRejected("x"), 502, "key_rejected"),
    (UnknownUser("x"), 502, "unknown_user"),
    (UnexpectedResponse("x"), 502, "unexpected_answer"),
    (GiveUp("x"), 502, "internal_error"),  # for example, raised by a function of the host project
    (TooManyLaunches("x", retry_after=1), 503, "too_many_launches"),
    (RateLimited("x"), 503, "rate_limited"),
    (Unavailable("x"), 503, "unavailable"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_a_front_end_gets_the_status_and_the_code_of_the_exception(monkeypatch, error, status, code):
    def start(*arguments, **options):
        raise error

    monkeypatch.setattr("django_bi_integration.sso.start", start)
    response = client_of(new_student()).post("/bi/sso/launch/")
    assert (response.status_code, response.json()["error"]) == (status, code)
    assert response.json()["message"]
    # Only a rejected link has the exception's message; other messages could reveal too much to a stranger.
    assert (response.json()["message"] == str(error)) == isinstance(error, NotAllowed)
    assert response.json()["reference"] is None
    assert ("Retry-After" in response) == (status in (409, 429, 503))


def test_every_exception_of_a_launch_is_tested():
    bases = {"LaunchFailure", "LaunchError", "PartnerAPIError", "TemporaryFailure"}
    names = {name for name in exceptions.__all__ if issubclass(getattr(exceptions, name), LaunchFailure)}
    assert {type(error).__name__ for error, *_ in ERRORS} - {"GiveUp"} == names - bases


def test_every_code_is_documented_with_its_status():
    codes = {(outcome.status, outcome.code) for outcome in OUTCOMES.values()} | {(401, "not_logged_in")}
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert {(int(status), code) for status, code in rows} == codes
