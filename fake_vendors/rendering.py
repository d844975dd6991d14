"""How the pages of the fake Big Interview look: the templates of the folder ``pages``, filled."""

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
    # With no-referrer a browser would keep the Origin of a form to itself, too.
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
)


class Html(str):
    """Text that is HTML already, and is not escaped again."""


NOTHING = Html("")


def fill(template: str, **values: str) -> Html:
    """A template with its values in place, escaped where they are not Html."""
    escaped = {name: value if isinstance(value, Html) else escape(value) for name, value in values.items()}
    return Html(_template(template).substitute(escaped))


def joined(parts: Iterable[Html]) -> Html:
    """One after the other."""
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
    """A whole page, which says who is signed in and, on their arrival, where they were sent to."""
    tools = _tools(session) if session else NOTHING
    arrival = _arrival(session) if session and is_arrival else NOTHING
    text = fill("base", title=title, tools=tools, arrival=arrival, content=content)
    return Response(status, "text/html; charset=utf-8", text.encode("utf-8", "replace"), (*HEADERS, *headers))


def interview_row(interview: Interview) -> Html:
    """An interview in the list of the dashboard, with what can be done about it."""
    return fill("interview_row", **interview_facts(interview), finish=finish_form(interview))


def interview_facts(interview: Interview) -> dict[str, str]:
    """What several templates say about an interview."""
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
    """Where the interview is."""
    return f"/members/mock_interviews/{interview.id}"


def finish_form(interview: Interview) -> Html:
    """The button that completes an interview, where that is still to do."""
    if interview.completed:
        return NOTHING
    return fill("finish_form", path=interview_path(interview), title=interview.exercise.title)


def exercise_choices(exercises: Iterable[Exercise]) -> Html:
    """What a practice interview can be about, the first one chosen."""
    return joined(
        fill(
            "exercise_choice",
            number=str(exercise.number),
            title=exercise.title,
            about=exercise.about,
            checked="" if place else " checked",
        )
        for place, exercise in enumerate(exercises)
    )


def track_panel(track: Track, done: frozenset[int], here: Chapter | None = None) -> Html:
    """A track with its progress; ``here`` is the chapter that is on the page."""
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
                step="✓" if chapter.number in done else str(place),
                kind="is-done" if chapter.number in done else "is-open",
                said="done" if chapter.number in done else "to do",
                current=Html(' aria-current="page"') if chapter is here else NOTHING,
            )
            for place, chapter in enumerate(track.chapters, 1)
        ),
    )


def moment(at: datetime) -> Html:
    """A time, in UTC: a page without scripts cannot know the reader's zone."""
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
