"""The pages of the fake Big Interview: single sign-on, and what a signed-in member sees and does."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from fake_vendors.members import Interview, Member, Members, Session, TokenRejected
from fake_vendors.practice import CHAPTERS, EXERCISES, TRACKS, Chapter
from fake_vendors.rendering import (
    FOLDER,
    HEADERS,
    Html,
    exercise_choices,
    fill,
    finish_form,
    interview_facts,
    interview_path,
    interview_row,
    joined,
    page,
    track_panel,
)
from fake_vendors.web import Headers, Rejection, Request, Response, Route, find_route, redirect

FILES = {"site.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}

#: All ports of a machine share their cookies, so the name has to be unique.
COOKIE = "fake_big_interview"
DASHBOARD = "/members/dashboard"

HEADLINES = {
    HTTPStatus.BAD_REQUEST: "This request is not valid",
    HTTPStatus.FORBIDDEN: "Access denied",
    HTTPStatus.NOT_FOUND: "Page not found",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address cannot do that",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "This request is too large",
}


@dataclass(frozen=True)
class Visit:
    """A request and its session, if it has one."""

    request: Request
    members: Members
    session: Session | None

    @property
    def member(self) -> Member:
        """The member who is signed in. Raises Rejection if nobody is."""
        if self.session is None:
            raise Rejection(HTTPStatus.FORBIDDEN, "You are not signed in. Use the link on your career centre's portal.")
        return self.session.member

    def interview(self, interview_id: str) -> Interview:
        """Return the member's interview with this id. Raise Rejection if they have no such interview."""
        if interview := self.members.interview(self.member, int(interview_id)):
            return interview
        raise Rejection(HTTPStatus.NOT_FOUND, "You have no such interview. It may have been deleted.")

    def chapter(self) -> Chapter:
        """Return the chapter in the query. Raise Rejection if there is no such chapter."""
        number = self.request.parameter("chapter")
        if not re.fullmatch(_NUMBER, number):
            raise Rejection(HTTPStatus.BAD_REQUEST, "A chapter is a number, as in /members/curriculum?chapter=6.")
        if chapter := CHAPTERS.get(int(number)):
            return chapter
        raise Rejection(HTTPStatus.NOT_FOUND, f"There is no chapter {number}.")


@dataclass(frozen=True)
class MemberPages:
    """Responds to browsers."""

    members: Members

    def respond(self, request: Request) -> Response:
        """Return the response, which is a page even if the request is rejected."""
        visit = Visit(request, self.members, self.members.session(request.cookie(COOKIE)))
        try:
            if request.rejection:
                raise request.rejection
            handler, arguments = find_route(ROUTES, request)
            if request.method == "POST":
                _check_origin(request)
            return handler(visit, **arguments)
        except Rejection as rejection:
            return _rejection_page(visit, rejection)


def log_in(visit: Visit) -> Response:
    """Use a token of the Partner API, and redirect to the path that the portal asked for."""
    token, sent_to, return_url = (visit.request.parameter(name) for name in ("token", "redirect_to", "return_url"))
    sent_to = sent_to or DASHBOARD
    if not _is_own_path(sent_to):
        raise Rejection(HTTPStatus.BAD_REQUEST, "redirect_to must be a path of this site, such as /members/dashboard.")
    if return_url and not _is_web_address(return_url):
        raise Rejection(HTTPStatus.BAD_REQUEST, "return_url must be an absolute URL that begins with http or https.")
    try:
        session = visit.members.log_in(token, sent_to, return_url)
    except TokenRejected as rejected:
        raise Rejection(HTTPStatus.FORBIDDEN, f"{rejected} Go back to your portal and start again.") from rejected
    return redirect(sent_to, (("Set-Cookie", f"{COOKIE}={session.id}; Path=/; HttpOnly; SameSite=Lax"), *HEADERS))


def log_out(visit: Visit) -> Response:
    """Log out, and redirect to the URL that the portal asked for, or to the first page."""
    if visit.session is None:
        return redirect("/", HEADERS)
    visit.members.log_out(visit.session)
    gone = ("Set-Cookie", f"{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0")
    return redirect(visit.session.return_url or "/", (gone, *HEADERS))


def front(visit: Visit) -> Response:
    """The first page, open to everybody."""
    way_in = fill("front_member" if visit.session else "front_guest")
    return _page(visit, "Practise before it counts", fill("front", way_in=way_in))


def dashboard(visit: Visit) -> Response:
    """A member's interviews and tracks, and the form that starts an interview."""
    member = visit.member
    interviews = visit.members.interviews(member)
    rows = joined(interview_row(interview) for interview in interviews)
    done = visit.members.chapters_done(member)
    content = fill(
        "dashboard",
        first_name=member.first_name,
        interviews=fill("interviews", rows=rows) if rows else fill("no_interviews"),
        exercises=exercise_choices(EXERCISES.values()),
        tracks=joined(track_panel(track, done) for track in TRACKS),
    )
    return _page(visit, "Dashboard", content)


def curriculum(visit: Visit) -> Response:
    """One chapter of the tracks."""
    member, chapter = visit.member, visit.chapter()
    done = visit.members.chapters_done(member)
    content = fill(
        "chapter",
        number=str(chapter.number),
        title=chapter.title,
        text=chapter.text,
        state=fill("chapter_done" if chapter.number in done else "chapter_open", path=chapter.path),
        tracks=joined(track_panel(track, done, here=chapter) for track in TRACKS),
    )
    return _page(visit, chapter.title, content)


def finish_chapter(visit: Visit) -> Response:
    """Mark a chapter as done."""
    member, chapter = visit.member, visit.chapter()
    visit.members.finish_chapter(member, chapter.number)
    return _see_other(chapter.path)


def start(visit: Visit) -> Response:
    """Start an interview with the chosen exercise."""
    unknown = Rejection(HTTPStatus.BAD_REQUEST, "Choose one of the exercises on the dashboard.")
    return _start(visit, visit.request.form().get("exercise", ""), unknown)


def retake(visit: Visit, number: str) -> Response:
    """Start an interview with the same questions: "This means a new interview will be created"."""
    return _start(visit, number, Rejection(HTTPStatus.NOT_FOUND, "There is no such exercise."))


def interview(visit: Visit, interview_id: str) -> Response:
    """An interview with its questions."""
    found = visit.interview(interview_id)
    questions = joined(fill("question", question=question) for question in found.exercise.questions)
    content = fill("interview", **interview_facts(found), questions=questions, finish=finish_form(found))
    return _page(visit, found.exercise.title, content)


def review(visit: Visit, interview_id: str) -> Response:
    """The review of an interview, which may be in progress."""
    found = visit.interview(interview_id)
    answer = fill("answer_given" if found.completed else "answer_open")
    answers = joined(fill("answer", question=question, answer=answer) for question in found.exercise.questions)
    content = fill("review", **interview_facts(found), answers=answers, finish=finish_form(found))
    return _page(visit, f"Review: {found.exercise.title}", content)


def finish(visit: Visit, interview_id: str) -> Response:
    """Complete an interview."""
    found = visit.interview(interview_id)
    visit.members.finish(visit.member, found.id)
    return _see_other(f"{interview_path(found)}/review")


def delete(visit: Visit, interview_id: str) -> Response:
    """Delete an interview."""
    found = visit.interview(interview_id)
    visit.members.delete(visit.member, found.id)
    return _see_other(DASHBOARD)


def file(visit: Visit, name: str) -> Response:
    """The style sheet, or the icon."""
    return Response(HTTPStatus.OK, FILES[name], (FOLDER / name).read_bytes(), HEADERS)


_NUMBER = "[0-9]{1,18}"
_INTERVIEW = f"/members/mock_interviews/(?P<interview_id>{_NUMBER})"

ROUTES = (
    Route("GET", "/", front),
    Route("GET", f"/static/(?P<name>{'|'.join(map(re.escape, FILES))})", file),
    Route("GET", "/sso/login", log_in),
    Route("GET", "/members/logout", log_out),
    Route("GET", DASHBOARD, dashboard),
    Route("GET", "/members/curriculum", curriculum),
    Route("POST", "/members/curriculum", finish_chapter),
    Route("POST", "/members/mock_interviews", start),
    Route("GET", f"/members/mock_interviews/interview_info/(?P<number>{_NUMBER})", retake),
    Route("GET", _INTERVIEW, interview),
    Route("GET", f"{_INTERVIEW}/review", review),
    Route("POST", f"{_INTERVIEW}/finish", finish),
    Route("POST", f"{_INTERVIEW}/delete", delete),
)


def _start(visit: Visit, number: str, unknown: Rejection) -> Response:
    member = visit.member
    if not re.fullmatch(_NUMBER, number) or int(number) not in EXERCISES:
        raise unknown
    return _see_other(interview_path(visit.members.start(member, EXERCISES[int(number)])))


def _check_origin(request: Request) -> None:
    """Reject forms of other origins. SameSite is not enough: to a browser, all ports of a machine are one site."""
    if request.header("Origin") != f"http://{request.header('Host')}":
        raise Rejection(HTTPStatus.FORBIDDEN, "This request did not come from a page of this site.")


def _is_own_path(target: str) -> bool:
    """Return whether this is a path and no other host. Browsers read a backslash as a slash, and skip tabs."""
    return bool(re.fullmatch(r"/(?!/)[!-\[\]-~]*", target))


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(re.fullmatch("[!-~]+", url))


def _see_other(path: str) -> Response:
    return redirect(path, HEADERS, status=HTTPStatus.SEE_OTHER)


def _page(
    visit: Visit, title: str, content: Html, status: HTTPStatus = HTTPStatus.OK, headers: Headers = ()
) -> Response:
    is_arrival = visit.session is not None and visit.members.arrives(visit.session)
    return page(visit.session, title, content, status, headers, is_arrival=is_arrival)


def _rejection_page(visit: Visit, rejection: Rejection) -> Response:
    headline = HEADLINES.get(rejection.status, rejection.status.phrase)
    content = fill("rejection", headline=headline, status=str(rejection.status.value), reason=str(rejection.reason))
    return _page(visit, headline, content, rejection.status, rejection.headers)
