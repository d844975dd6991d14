"""What the fake Big Interview stores, in memory: members, their interviews and chapters, tokens and sessions."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count

from fake_vendors import events
from fake_vendors.events import Event
from fake_vendors.practice import Exercise

#: "All tokens expire 48-hours after they are created."
TOKEN_LIFE = timedelta(hours=48)

#: Starts at a fast clock, as event ids do, so that ids are unique across runs.
_interview_ids = count(time.time_ns() // 1000)


@dataclass(frozen=True)
class Member:
    """A person with an account. The data of the first request is kept, as documented."""

    partner_id: str
    first_name: str
    last_name: str
    email: str
    is_anonymous: bool
    created_at: datetime

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


@dataclass(frozen=True)
class Interview:
    """A member's mock interview."""

    id: int
    exercise: Exercise
    completed: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Token:
    """A token that logs a member in, once."""

    token: str
    member: Member
    expires_at: datetime
    is_used: bool = False


@dataclass(frozen=True)
class Session:
    """A login: the path that it led to, and the URL to return to after logging out."""

    id: str
    member: Member
    sent_to: str
    return_url: str


class TokenRejected(Exception):
    """The token is unknown, has been used, or has expired."""


class Members:
    """Stores members and what belongs to them, thread-safe. ``send`` is called for each change to an interview."""

    def __init__(self, clock: Callable[[], datetime], send: Callable[[Event], None]) -> None:
        self.clock = clock
        self._send = send
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._interviews: dict[str, dict[int, Interview]] = {}
        self._chapters: dict[str, frozenset[int]] = {}
        self._tokens: dict[str, Token] = {}
        self._sessions: dict[str, Session] = {}
        self._arriving: set[str] = set()

    def find(self, partner_id: str) -> Member | None:
        """Return the member with this id, or None."""
        return self._members.get(partner_id)

    def add(self, member: Member) -> bool:
        """Add a member. Return False if another request has just added one with the same id."""
        with self._lock:
            return self._members.setdefault(member.partner_id, member) is member

    def new_token(self, partner_id: str) -> Token:
        """Return a new token for a member. Earlier tokens stay valid."""
        token = Token(secrets.token_hex(32), self._members[partner_id], self.clock() + TOKEN_LIFE)
        with self._lock:
            self._tokens[token.token] = token
        return token

    def log_in(self, token: str, sent_to: str, return_url: str) -> Session:
        """Use a token and return the session. Raise TokenRejected, with the reason, if the token is not valid."""
        with self._lock:
            found = self._tokens.get(token)
            if found is None:
                raise TokenRejected("This sign-in link is unknown.")
            if found.is_used:
                raise TokenRejected("This sign-in link has been used already. Each link works once.")
            if found.expires_at <= self.clock():
                raise TokenRejected("This sign-in link has expired: it is more than 48 hours old.")
            self._tokens[token] = replace(found, is_used=True)
            session = Session(secrets.token_urlsafe(32), found.member, sent_to, return_url)
            self._sessions[session.id] = session
            self._arriving.add(session.id)
        return session

    def session(self, session_id: str) -> Session | None:
        """Return the session with this id, or None."""
        return self._sessions.get(session_id)

    def arrives(self, session: Session) -> bool:
        """Return True for the first page after the login, and False from then on."""
        with self._lock:
            is_first = session.id in self._arriving
            self._arriving.discard(session.id)
        return is_first

    def log_out(self, session: Session) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(session.id, None)
            self._arriving.discard(session.id)

    def interviews(self, member: Member) -> list[Interview]:
        """Return a member's interviews, the latest change first."""
        with self._lock:
            own = list(self._interviews.get(member.partner_id, {}).values())
        return sorted(own, key=lambda interview: (interview.updated_at, interview.id), reverse=True)

    def interview(self, member: Member, interview_id: int) -> Interview | None:
        """Return the member's interview with this id, or None."""
        with self._lock:
            return self._interviews.get(member.partner_id, {}).get(interview_id)

    def start(self, member: Member, exercise: Exercise) -> Interview:
        """Start a new interview."""
        now = self.clock()
        with self._lock:
            interview = Interview(next(_interview_ids), exercise, False, now, now)
            self._interviews.setdefault(member.partner_id, {})[interview.id] = interview
            self._send(
                events.interview_created(
                    interview.id, member.partner_id, now, title=exercise.title, exercise=exercise.number
                )
            )
        return interview

    def finish(self, member: Member, interview_id: int) -> bool:
        """Complete an interview, unless it is completed already. Return False if the member has no such interview."""
        now = self.clock()
        with self._lock:
            own = self._interviews.get(member.partner_id, {})
            interview = own.get(interview_id)
            if interview is None:
                return False
            if not interview.completed:
                own[interview_id] = replace(interview, completed=True, updated_at=now)
                self._send(
                    events.interview_updated(
                        interview_id,
                        member.partner_id,
                        now,
                        title=interview.exercise.title,
                        completed=True,
                        created_at=interview.created_at,
                        exercise=interview.exercise.number,
                    )
                )
        return True

    def delete(self, member: Member, interview_id: int) -> bool:
        """Delete an interview. Return False if the member has no such interview."""
        with self._lock:
            if self._interviews.get(member.partner_id, {}).pop(interview_id, None) is None:
                return False
            self._send(events.interview_deleted(interview_id, member.partner_id))
        return True

    def chapters_done(self, member: Member) -> frozenset[int]:
        """Return the numbers of the chapters that a member has finished."""
        return self._chapters.get(member.partner_id, frozenset())

    def finish_chapter(self, member: Member, number: int) -> None:
        """Mark a chapter as finished. No webhook reports this."""
        with self._lock:
            self._chapters[member.partner_id] = self.chapters_done(member) | {number}
