"""The web side of a fake Big Interview: Partner API, single sign-on and member pages, in threads of this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from fake_vendors.events import Event
from fake_vendors.member_pages import MemberPages
from fake_vendors.members import Members
from fake_vendors.partner_api import PartnerApi
from fake_vendors.web import Request, Response, serving

Send = Callable[[Event], object]


@dataclass(frozen=True)
class Call:
    """A request to the Partner API, and how it was answered."""

    method: str
    path: str
    status: int


class Site:
    """One organisation's Big Interview, with nobody in it at first.

    ``send`` is called with the events of its members, one at a time and in order, in a thread of its own.
    """

    def __init__(
        self,
        *,
        api_key: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        send: Send | None = None,
        allows_anonymous: bool = False,
    ) -> None:
        self.calls: list[Call] = []
        self.outbox = Outbox(send or (lambda event: None))
        members = Members(clock, self.outbox.put)
        self._api = PartnerApi(api_key, members, allows_anonymous)
        self._pages = MemberPages(members)

    def answer(self, request: Request) -> Response:
        """The answer to any request."""
        if not request.path.startswith("/api/"):
            return self._pages.answer(request)
        response = self._api.answer(request)
        self.calls.append(Call(request.method, request.path, response.status.value))
        return response


class Outbox:
    """Hands events over in the background, each when the one before it is done with."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._latest: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """Have an event sent, and do not wait for it."""
        with self._lock:
            # A thread each, so that one that fails says so and takes no other with it.
            arguments = (event, self._latest)
            self._latest = threading.Thread(target=self._hand_over, args=arguments, name=event.name, daemon=True)
            self._latest.start()

    def wait(self, seconds: float) -> None:
        """Give what was put in so far that long to be sent."""
        if self._latest:
            self._latest.join(seconds)

    def _hand_over(self, event: Event, before: threading.Thread | None) -> None:
        if before:
            before.join()
        self._send(event)


@contextmanager
def running_site(site: Site, port: int = 0) -> Iterator[str]:
    """Serve the site to this machine for as long as the block takes; its address.

    Raises OSError where the port is taken; 0 takes a free one.
    """
    with serving(site.answer, port) as url:
        yield url
    site.outbox.wait(5)
