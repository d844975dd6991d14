"""What the fake Big Interview remembers: its members, their interviews and chapters, tokens and sessions."""

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

#: As with the ids of events, a fast clock keeps them from coming again in the next run.
_interview_ids = count(time.time_ns() // 1000)


@dataclass(frozen=True)
class Member:
    """Somebody with an account, as first told: what is told later is ignored."""

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
    """A mock interview of a member."""

    id: int
    exercise: Exercise
    completed: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Token:
    """What logs a member in, once."""

    token: str
    member: Member
    expires_at: datetime
    is_used: bool = False


@dataclass(frozen=True)
class Session:
    """A browser that was logged in: where it was sent to, and where it wants to be after logging out."""

    id: str
    member: Member
    sent_to: str
    return_url: str


class TokenRejected(Exception):
    """A token that logs nobody in: it is unknown, or was used, or has expired."""


class Members:
    """All of it, in memory, for any number of threads; ``tell`` hears of each change to an interview, in order."""

    def __init__(self, clock: Callable[[], datetime], tell: Callable[[Event], None]) -> None:
        self.clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._members: dict[str, Member] = {}
        self._interviews: dict[str, dict[int, Interview]] = {}
        self._chapters: dict[str, frozenset[int]] = {}
        self._tokens: dict[str, Token] = {}
        self._sessions: dict[str, Session] = {}
        self._arriving: set[str] = set()

    def find(self, partner_id: str) -> Member | None:
        """The member with this id, if there is one."""
        return self._members.get(partner_id)

    def add(self, member: Member) -> bool:
        """Keep a new member; False where that id was taken a moment ago."""
        with self._lock:
            return self._members.setdefault(member.partner_id, member) is member

    def new_token(self, partner_id: str) -> Token:
        """A fresh token for a member; those given before keep their time."""
        token = Token(secrets.token_hex(32), self._members[partner_id], self.clock() + TOKEN_LIFE)
        with self._lock:
            self._tokens[token.token] = token
        return token

    def log_in(self, token: str, sent_to: str, return_url: str) -> Session:
        """Use up a token; TokenRejected says why it is none."""
        with self._lock:
            found = self._tokens.get(token)
            if found is None:
                raise TokenRejected("This sign-in link is unknown here.")
            if found.is_used:
                raise TokenRejected("This sign-in link has been used already, and each works once.")
            if found.expires_at <= self.clock():
                raise TokenRejected("This sign-in link has expired: it is more than 48 hours old.")
            self._tokens[token] = replace(found, is_used=True)
            session = Session(secrets.token_urlsafe(32), found.member, sent_to, return_url)
            self._sessions[session.id] = session
            self._arriving.add(session.id)
        return session

    def session(self, session_id: str) -> Session | None:
        """The session with this id, if there is one."""
        return self._sessions.get(session_id)

    def arrives(self, session: Session) -> bool:
        """Whether the page to come is the first one since the login."""
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
        """The interviews of a member, the latest change first."""
        with self._lock:
            own = list(self._interviews.get(member.partner_id, {}).values())
        return sorted(own, key=lambda interview: (interview.updated_at, interview.id), reverse=True)

    def interview(self, member: Member, interview_id: int) -> Interview | None:
        """One interview of a member, if it is theirs."""
        with self._lock:
            return self._interviews.get(member.partner_id, {}).get(interview_id)

    def start(self, member: Member, exercise: Exercise) -> Interview:
        """Begin a new interview."""
        now = self.clock()
        with self._lock:
            interview = Interview(next(_interview_ids), exercise, False, now, now)
            self._interviews.setdefault(member.partner_id, {})[interview.id] = interview
            self._tell(
                events.interview_created(
                    interview.id, member.partner_id, now, title=exercise.title, exercise=exercise.number
                )
            )
        return interview

    def finish(self, member: Member, interview_id: int) -> bool:
        """Complete an interview; a second time changes nothing. False where the member has no such interview."""
        now = self.clock()
        with self._lock:
            own = self._interviews.get(member.partner_id, {})
            interview = own.get(interview_id)
            if interview is None:
                return False
            if not interview.completed:
                own[interview_id] = replace(interview, completed=True, updated_at=now)
                self._tell(
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
        """Forget an interview; False where the member has no such interview."""
        with self._lock:
            if self._interviews.get(member.partner_id, {}).pop(interview_id, None) is None:
                return False
            self._tell(events.interview_deleted(interview_id, member.partner_id))
        return True

    def chapters_done(self, member: Member) -> frozenset[int]:
        """The numbers of the chapters that a member has done."""
        return self._chapters.get(member.partner_id, frozenset())

    def finish_chapter(self, member: Member, number: int) -> None:
        """Keep that a member has done a chapter; no webhook tells of it."""
        with self._lock:
            self._chapters[member.partner_id] = self.chapters_done(member) | {number}
