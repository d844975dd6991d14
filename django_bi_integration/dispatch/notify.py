"""Notify a Celery worker that events are due, without ever holding up a request.

A lost notification costs only time, because the sweep finds every event. So a notification is published from a thread,
where a broker that is down or silent holds up nobody, and one notification covers all events that are due. If the
threads of the process run only while it handles a request, the request waits for the thread, for a second at most.
"""

import atexit
import logging
import os
import re
import threading
import time

from celery import Celery
from celery.app import app_or_default
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_bi_integration.conf import settings

try:
    import uwsgi  # only inside a uWSGI process
except ImportError:
    uwsgi = None

logger = logging.getLogger(__name__)

TASK = "django_bi_integration.dispatch"
#: Environment variables of AWS Lambda and Google Cloud Run, which stop or slow down a process between requests.
FREEZING_PLATFORMS = ("AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE")


class Notifier:
    """Publish notifications from one thread of this process, which the first one starts."""

    #: Seconds between two notifications of a process; requests for one in between are served by the next.
    INTERVAL = 0.25
    #: The longest time between two attempts while the broker is unavailable, in seconds. An attempt costs as much as
    #: many deliveries.
    LONGEST_INTERVAL = 4.0
    #: Seconds that a process waits for its last notification before it exits.
    EXIT_WAIT = 1.0
    #: Seconds that a request waits for its notification if no thread runs after the request.
    LONGEST_WAIT = 0.9

    def __init__(self) -> None:
        self.app: Celery | None = None
        self._requested = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._start_lock = threading.Lock()
        self._pid: int | None = None
        self._hanging: threading.Thread | None = None
        #: When the latest attempt to publish ended, on the monotonic clock, and whether it failed.
        self.attempted_at: float | None = None
        self.broker_is_down = False

    def use(self, app: Celery) -> None:
        """Publish through ``app``. Celery's own "current app" differs from thread to thread."""
        self.app = app

    def request(self) -> None:
        """Request a notification and return at once; in eager mode, dispatch here and now.

        A project without a Celery app has no worker to notify: its cron runs ``bi_dispatch``.
        """
        # Celery takes long to report its configuration, which does not change once this process publishes.
        if self._pid != os.getpid():
            if not self.has_app:
                return
            if self.is_eager:
                self.celery.tasks[TASK].apply()
                return
            if threads_stop_between_requests():
                self._publish_now()
                return
            self._start()
        self._idle.clear()
        self._requested.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until every requested notification is published; return False if one is not."""
        return self._idle.wait(seconds)

    @property
    def has_app(self) -> bool:
        """True if the project has a Celery app, other than Celery's default one on amqp://localhost."""
        try:
            return self.celery.main != "default"
        except ImproperlyConfigured:
            return False  # a system check reports it

    @property
    def is_eager(self) -> bool:
        """True if tasks run in the process that sends them, within the request."""
        return bool(self.celery.conf.task_always_eager)

    @property
    def celery(self) -> Celery:
        """The app that publishes: the one that CELERY_APP names, or the one that ``use`` was given."""
        path = settings.CELERY_APP
        if path and isinstance(path, str):  # a check reports other types
            return named_app(path)
        return self.app or app_or_default()

    def _publish_now(self) -> None:
        """Publish while the request waits, unless an earlier attempt still hangs or has just failed."""
        hangs = self._hanging is not None and self._hanging.is_alive()
        if hangs or (self.broker_is_down and self._last_attempt_is_recent()):
            return
        attempt = threading.Thread(target=self._publish, name="django_bi_integration notifier", daemon=True)
        attempt.start()
        attempt.join(self.LONGEST_WAIT)
        if attempt.is_alive():
            self._hanging = attempt

    def _last_attempt_is_recent(self) -> bool:
        return self.attempted_at is not None and time.monotonic() - self.attempted_at < self.LONGEST_INTERVAL

    def _start(self) -> None:
        with self._start_lock:
            if self._pid == os.getpid():
                return
            threading.Thread(
                target=self._publish_on_request, name="django_bi_integration notifier", daemon=True
            ).start()
            self._pid = os.getpid()
            atexit.register(self.wait, self.EXIT_WAIT)

    def _publish_on_request(self) -> None:
        interval = self.INTERVAL
        while True:
            self._requested.wait()
            self._requested.clear()
            self._publish()
            interval = min(2 * interval, self.LONGEST_INTERVAL) if self.broker_is_down else self.INTERVAL
            time.sleep(interval)
            if not self._requested.is_set():
                self._idle.set()

    def _publish(self) -> None:
        try:
            # Without this policy, Celery retries a broker that rejects connections.
            # The queue is the one that beat uses: of the task's own options or of a router.
            self.celery.tasks[TASK].apply_async(retry_policy={"max_retries": 0}, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - transports raise what they like; no notification is worth a crash
            if not self.broker_is_down:
                logger.warning("workers were not notified, the sweep will dispatch: %s", _description(error))
            self.broker_is_down = True
        else:
            if self.broker_is_down:
                logger.info("workers are notified again")
            self.broker_is_down = False
        self.attempted_at = time.monotonic()


def threads_stop_between_requests() -> bool:
    """Return True if the threads of this process run only while it handles a request."""
    return _uwsgi_stops_threads() or any(name in os.environ for name in FREEZING_PLATFORMS)


def _uwsgi_stops_threads() -> bool:
    # Before 2.0.27, uWSGI kept the interpreter's lock between requests unless one of these options was given.
    return (
        uwsgi is not None
        and tuple(int(number) for number in re.findall(rb"\d+", uwsgi.version)[:3]) < (2, 0, 27)
        and not {"enable-threads", "threads"} & {os.fsdecode(option) for option in uwsgi.opt}
    )


def named_app(path: str) -> Celery:
    """Import a Celery app by its dotted path; raise ImproperlyConfigured if there is no app."""
    try:
        app = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(str(error)) from error
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"it is a {type(app).__name__}")
    return app


def _description(error: Exception) -> str:
    """Describe the error for a log. A ValueError quotes a broker's URL that it cannot parse, with its password."""
    kind = type(error).__name__
    return kind if isinstance(error, ValueError) else f"{kind}: {error}"


notifier = Notifier()


def notify_worker() -> None:
    """Request the notification of a worker that events are due."""
    notifier.request()
