"""A fake Big Interview: Partner API, single sign-on and member pages, served by threads of this process."""

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
    """A request to the Partner API, and the status of the response."""

    method: str
    path: str
    status: int


class Site:
    """The Big Interview of one organisation, without any members at first.

    ``send`` is called with the events that members cause, one at a time and in order, in a separate thread.
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

    def respond(self, request: Request) -> Response:
        """Return the response to any request."""
        if not request.path.startswith("/api/"):
            return self._pages.respond(request)
        response = self._api.respond(request)
        self.calls.append(Call(request.method, request.path, response.status.value))
        return response


class Outbox:
    """Sends events in the background, each after the previous one."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._latest: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """Send an event without waiting for it."""
        with self._lock:
            # One thread for each event, so that an error is printed and affects no other event.
            arguments = (event, self._latest)
            self._latest = threading.Thread(target=self._send_after, args=arguments, name=event.name, daemon=True)
            self._latest.start()

    def wait(self, seconds: float) -> None:
        """Wait for the events so far, for ``seconds`` at most."""
        if self._latest:
            self._latest.join(seconds)

    def _send_after(self, event: Event, previous: threading.Thread | None) -> None:
        if previous:
            previous.join()
        self._send(event)


@contextmanager
def running_site(site: Site, port: int = 0) -> Iterator[str]:
    """Serve the site on this machine for the duration of the block, and yield its URL.

    Port 0 is any free port. Raise OSError if the port is in use.
    """
    with serving(site.respond, port) as url:
        yield url
    site.outbox.wait(5)
