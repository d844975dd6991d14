"""The Partner API of the fake Big Interview, as documented in "API Endpoints"."""

import json
import re
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from fake_vendors.events import interview_object, iso
from fake_vendors.members import Interview, Member, Members
from fake_vendors.practice import TRACKS, Track
from fake_vendors.web import Rejection, Request, Response, Route, find_route

REQUIRED = ("first_name", "last_name", "email")
LONGEST = 255


@dataclass(frozen=True)
class PartnerApi:
    """Responds to requests whose Authorization header is the key and nothing else."""

    api_key: str
    members: Members
    allows_anonymous: bool

    def respond(self, request: Request) -> Response:
        """Return the response, which is always JSON."""
        try:
            self._check_key(request)
            if request.rejection:
                raise request.rejection
            handler, arguments = find_route(ROUTES, request)
            return handler(self, request, **arguments)
        except Rejection as rejection:
            return _error(rejection)

    def _check_key(self, request: Request) -> None:
        if not secrets.compare_digest(request.header("Authorization").encode(), self.api_key.encode()):
            raise Rejection(
                HTTPStatus.UNAUTHORIZED, "The Authorization header must be a valid API key, and nothing else."
            )

    def member(self, partner_id: str) -> Member:
        if member := self.members.find(unquote(partner_id)):
            return member
        raise Rejection(HTTPStatus.NOT_FOUND, "No user has this partner_id.")


def create_anonymous(api: PartnerApi, request: Request) -> Response:
    """Create an anonymous user ("Create an Anonymous User")."""
    if not api.allows_anonymous:
        raise Rejection(HTTPStatus.FORBIDDEN, "Anonymous users have not been approved for this organization.")
    member = Member(f"anon_{secrets.token_hex(8)}", "Anonymous", "Guest", "", True, api.members.clock())
    api.members.add(member)
    # The documented response has false, although "The user object" has true. A client knows by the endpoint.
    return _user(api, HTTPStatus.CREATED, member, says_anonymous=False)


def create_or_refresh(api: PartnerApi, request: Request, partner_id: str) -> Response:
    """Create or refresh a user ("Create/Refresh a User"); parameters are "ignored when updating a user"."""
    partner_id = unquote(partner_id)
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", partner_id):
        raise _invalid({"partner_id": ["must be 1 to 64 of the characters 0-9, a-z, A-Z, - and _"]})
    fields = _fields(request)
    member, is_new = api.members.find(partner_id), False
    if member is None:
        if problems := _problems(fields):
            raise _invalid(problems)
        first_name, last_name, email = (fields[name].strip() for name in REQUIRED)
        member = Member(partner_id, first_name, last_name, email, False, api.members.clock())
        is_new = api.members.add(member)
    return _user(
        api, HTTPStatus.CREATED if is_new else HTTPStatus.OK, api.member(partner_id), says_anonymous=member.is_anonymous
    )


def list_tracks(api: PartnerApi, request: Request, partner_id: str) -> Response:
    """Return the tracks and their progress ("List track progress")."""
    done = api.members.chapters_done(api.member(partner_id))
    return _json(HTTPStatus.OK, {"tracks": [_track(track, done) for track in TRACKS]})


def list_interviews(api: PartnerApi, request: Request, partner_id: str) -> Response:
    """Return all interviews, the most recently updated first ("List interviews")."""
    interviews = api.members.interviews(api.member(partner_id))
    return _json(HTTPStatus.OK, {"interviews": [_interview(interview) for interview in interviews]})


ROUTES = (
    Route("POST", "/api/users/anonymous", create_anonymous),
    Route("POST", "/api/users/(?P<partner_id>[^/]+)", create_or_refresh),
    Route("GET", "/api/users/(?P<partner_id>[^/]+)/tracks", list_tracks),
    Route("GET", "/api/users/(?P<partner_id>[^/]+)/interviews", list_interviews),
)


def _fields(request: Request) -> dict[str, Any]:
    """Return the parameters. Their encoding is not documented, so both JSON and forms are accepted."""
    kind = request.header("Content-Type").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return request.form()
    if kind != "application/json" or not request.body:
        return {}
    try:
        fields = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Rejection(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from error
    if not isinstance(fields, dict):
        raise Rejection(HTTPStatus.BAD_REQUEST, "The body is not a JSON object.")
    return fields


def _problems(fields: dict[str, Any]) -> dict[str, list[str]]:
    problems = {name: [problem] for name in REQUIRED if (problem := _problem(fields.get(name)))}
    if "email" not in problems and not re.fullmatch(r"[^\s@]+@[^\s@]+", fields["email"].strip()):
        problems["email"] = ["is invalid"]
    return problems


def _problem(value: object) -> str:
    if value is None:
        return "is required"
    if not isinstance(value, str) or not value.isprintable():
        return "is invalid"
    if not value.strip():
        return "is required"
    return f"is too long (at most {LONGEST} characters)" if len(value) > LONGEST else ""


def _invalid(problems: dict[str, list[str]]) -> Rejection:
    return Rejection(HTTPStatus.UNPROCESSABLE_ENTITY, problems)


def _user(api: PartnerApi, status: HTTPStatus, member: Member, *, says_anonymous: bool) -> Response:
    token = api.members.new_token(member.partner_id)
    user = {
        "partner_id": member.partner_id,
        "created_at": iso(member.created_at),
        "anonymous": says_anonymous,
        "token": {"token": token.token, "expires_at": iso(token.expires_at)},
    }
    return _json(status, {"user": user})


def _track(track: Track, done: frozenset[int]) -> dict[str, Any]:
    steps = [
        {"step": step, "title": chapter.title, "link": chapter.path, "completed": chapter.number in done}
        for step, chapter in enumerate(track.chapters, 1)
    ]
    progress = sum(chapter.number in done for chapter in track.chapters) / len(track.chapters)
    return {"title": track.title, "progress": round(progress, 2), "tracks": steps}


def _interview(interview: Interview) -> dict[str, Any]:
    document = interview_object(
        interview.id,
        interview.exercise.title,
        completed=interview.completed,
        created_at=interview.created_at,
        updated_at=interview.updated_at,
        exercise=interview.exercise.number,
    )
    # In "List interviews" this path ends in /review, in webhooks it does not.
    document["links"]["review"] += "/review"
    return document


def _error(rejection: Rejection) -> Response:
    """Return an error. Only the type "validation_error" is documented; other types are named after the status."""
    invalid = rejection.status == HTTPStatus.UNPROCESSABLE_ENTITY
    error_type = "validation_error" if invalid else rejection.status.name.lower()
    return _json(rejection.status, {"error": {"type": error_type, "message": rejection.reason}}, rejection.headers)


def _json(status: HTTPStatus, document: dict[str, Any], headers: tuple[tuple[str, str], ...] = ()) -> Response:
    body = json.dumps(document).encode()
    return Response(status, "application/json; charset=utf-8", body, (("Cache-Control", "no-store"), *headers))
