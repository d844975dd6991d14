"""Render the pages of the fake Big Interview from the templates in ``pages/``."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template

from fake_vendors.members import Interview, Session
from fake_vendors.practice import Chapter, Exercise, Track
from fake_vendors.web import Headers, Response

FOLDER = Path(__file__).with_name("pages")

HEADERS: Headers = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"),
    # With no-referrer, browsers would also send "Origin: null" with a form.
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)


class Html(str):
    """Text that is HTML and is not escaped again."""


NOTHING = Html("")


def fill(template: str, **values: str) -> Html:
    """Render a template. Values that are not Html are escaped."""
    escaped = {name: value if isinstance(value, Html) else escape(value) for name, value in values.items()}
    return Html(_template(template).substitute(escaped))


def joined(parts: Iterable[Html]) -> Html:
    """Join the parts without a separator."""
    return Html("".join(parts))


def page(
    session: Session | None,
    title: str,
    content: Html,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Headers = (),
    *,
    is_arrival: bool = False,
) -> Response:
    """Render a page. It names the member who is signed in and, on arrival, the path that they were sent to."""
    tools = _tools(session) if session else NOTHING
    arrival = _arrival(session) if session and is_arrival else NOTHING
    text = fill("base", title=title, tools=tools, arrival=arrival, content=content)
    return Response(status, "text/html; charset=utf-8", text.encode("utf-8", "replace"), (*HEADERS, *headers))


def interview_row(interview: Interview) -> Html:
    """Render an interview for the list on the dashboard, with its actions."""
    return fill("interview_row", **interview_facts(interview), finish=finish_form(interview))


def interview_facts(interview: Interview) -> dict[str, str]:
    """Return the values of an interview that several templates show."""
    return {
        "path": interview_path(interview),
        "retake": f"/members/mock_interviews/interview_info/{interview.exercise.number}",
        "title": interview.exercise.title,
        "about": interview.exercise.about,
        "state": fill("state_completed" if interview.completed else "state_started"),
        "started": moment(interview.created_at),
        "updated": moment(interview.updated_at),
    }


def interview_path(interview: Interview) -> str:
    """Return the path of an interview."""
    return f"/members/mock_interviews/{interview.id}"


def finish_form(interview: Interview) -> Html:
    """Render the button that completes an interview, or nothing if it is completed."""
    if interview.completed:
        return NOTHING
    return fill("finish_form", path=interview_path(interview), title=interview.exercise.title)


def exercise_choices(exercises: Iterable[Exercise]) -> Html:
    """Render the exercises as radio buttons, with the first one checked."""
    return joined(
        fill(
            "exercise_choice",
            number=str(exercise.number),
            title=exercise.title,
            about=exercise.about,
            checked="" if index else " checked",
        )
        for index, exercise in enumerate(exercises)
    )


def track_panel(track: Track, done: frozenset[int], here: Chapter | None = None) -> Html:
    """Render a track with its progress; ``here`` is the chapter that the page shows."""
    return fill(
        "track",
        title=track.title,
        done=str(sum(chapter.number in done for chapter in track.chapters)),
        total=str(len(track.chapters)),
        steps=joined(
            fill(
                "track_step",
                path=chapter.path,
                title=chapter.title,
                step="✓" if chapter.number in done else str(number),
                kind="is-done" if chapter.number in done else "is-open",
                status="done" if chapter.number in done else "to do",
                current=Html(' aria-current="page"') if chapter is here else NOTHING,
            )
            for number, chapter in enumerate(track.chapters, 1)
        ),
    )


def moment(at: datetime) -> Html:
    """Render a time in UTC, because a page without scripts does not know the reader's time zone."""
    utc = at.astimezone(UTC)
    return fill("moment", iso=utc.isoformat(timespec="seconds"), text=f"{utc.day} {utc:%b %Y, %H:%M} UTC")


def _tools(session: Session) -> Html:
    member = session.member
    initials = (member.first_name[:1] + member.last_name[:1]).upper()
    contact = member.email or "anonymous account"
    way_back = fill("way_back") if session.return_url else NOTHING
    return fill("member_tools", initials=initials, name=member.name, contact=contact, way_back=way_back)


def _arrival(session: Session) -> Html:
    return fill("arrival", sent_to=session.sent_to)


@cache
def _template(name: str) -> Template:
    return Template((FOLDER / f"{name}.html").read_text(encoding="utf-8"))
