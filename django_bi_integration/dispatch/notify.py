"""Wake-ups: tell a Celery worker that events are waiting, without ever holding a request.

A wake-up may be lost, which costs nothing but time: the sweep finds what waits. So it is published from a thread,
where a broker that is down or silent holds up nobody, and one wake-up stands for all that waits. If the threads of the
process run only while it handles a request, the request waits for the thread, for a second at most.
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
    """Publishes wake-ups from one thread of this process, started when first asked."""

    #: Seconds between two wake-ups of a process: what is asked for in between is one wake-up, at their end.
    INTERVAL = 0.25
    #: Seconds between two attempts while the broker is away, at most: each costs as much as many deliveries do.
    LONGEST_INTERVAL = 4.0
    #: Seconds that a process which ends waits for its last wake-up.
    LAST_CALL = 1.0
    #: Seconds that a request waits for its wake-up, if no thread runs after it.
    LONGEST_WAIT = 0.9

    def __init__(self) -> None:
        self.app: Celery | None = None
        self._asked = threading.Event()
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

    def ask(self) -> None:
        """Ask for a wake-up; returns at once, but in eager mode, where it dispatches here and now.

        A project without a Celery app has no worker to wake: its cron runs ``bi_dispatch``.
        """
        # Celery takes long to say how it is configured, which does not change once this process publishes.
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
        self._asked.set()

    def wait(self, seconds: float) -> bool:
        """Wait until all that was asked for is published, for ``seconds`` at most; whether it is."""
        return self._idle.wait(seconds)

    @property
    def has_app(self) -> bool:
        """Whether the project has a Celery app, rather than the one that Celery makes up, on amqp://localhost."""
        try:
            return self.celery.main != "default"
        except ImproperlyConfigured:
            return False  # a system check says so

    @property
    def is_eager(self) -> bool:
        """Whether tasks run where they are asked for, within the request."""
        return bool(self.celery.conf.task_always_eager)

    @property
    def celery(self) -> Celery:
        """The app that messages go through: the one that CELERY_APP names, or the one that ``use`` was given."""
        path = settings.CELERY_APP
        if path and isinstance(path, str):  # a check reports another type
            return named_app(path)
        return self.app or app_or_default()

    def _publish_now(self) -> None:
        """Publish while the request waits, unless an earlier attempt still hangs or has just failed."""
        hangs = self._hanging is not None and self._hanging.is_alive()
        if hangs or (self.broker_is_down and self._last_attempt_is_recent()):
            return
        attempt = threading.Thread(target=self._publish, name="django_bi_integration wake-up", daemon=True)
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
            threading.Thread(target=self._run, name="django_bi_integration wake-up", daemon=True).start()
            self._pid = os.getpid()
            atexit.register(self.wait, self.LAST_CALL)

    def _run(self) -> None:
        interval = self.INTERVAL
        while True:
            self._asked.wait()
            self._asked.clear()
            self._publish()
            interval = min(2 * interval, self.LONGEST_INTERVAL) if self.broker_is_down else self.INTERVAL
            time.sleep(interval)
            if not self._asked.is_set():
                self._idle.set()

    def _publish(self) -> None:
        try:
            # Without this policy, a broker that refuses connections is asked again and again.
            # As beat sends it: with the queue that the task's own options or a router give it.
            self.celery.tasks[TASK].apply_async(retry_policy={"max_retries": 0}, ignore_result=True)
        except Exception as error:  # noqa: BLE001 - transports raise what they like; no wake-up is worth a crash
            if not self.broker_is_down:
                logger.warning("wake-up not sent, the sweep will dispatch: %s", _told(error))
            self.broker_is_down = True
        else:
            if self.broker_is_down:
                logger.info("wake-ups are sent again")
            self.broker_is_down = False
        self.attempted_at = time.monotonic()


def threads_stop_between_requests() -> bool:
    """Return whether the threads of this process run only while it handles a request."""
    return _uwsgi_stops_threads() or any(name in os.environ for name in FREEZING_PLATFORMS)


def _uwsgi_stops_threads() -> bool:
    # Before 2.0.27, uWSGI kept the interpreter's lock between requests unless one of these options was given.
    return (
        uwsgi is not None
        and tuple(int(number) for number in re.findall(rb"\d+", uwsgi.version)[:3]) < (2, 0, 27)
        and not {"enable-threads", "threads"} & {os.fsdecode(option) for option in uwsgi.opt}
    )


def named_app(path: str) -> Celery:
    """Import a Celery app by its dotted path; raise ImproperlyConfigured if there is none."""
    try:
        app = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(str(error)) from error
    if not isinstance(app, Celery):
        raise ImproperlyConfigured(f"it is a {type(app).__name__}")
    return app


def _told(error: Exception) -> str:
    """The error as a log may have it: one that cannot read the broker's URL quotes it, with a part of its password."""
    kind = type(error).__name__
    return kind if isinstance(error, ValueError) else f"{kind}: {error}"


notifier = Notifier()


def notify_worker() -> None:
    """Ask a worker to dispatch what waits."""
    notifier.ask()
