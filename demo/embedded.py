"""A Celery worker and beat in threads of this process, for the broker in its memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.beat import EmbeddedService, Scheduler
from celery.worker import WorkController, state
from django.db import connections


class Worker(WorkController):
    """A worker whose event ``ready`` is set as soon as it accepts tasks."""

    def __init__(self, **options: Any) -> None:
        self.ready = threading.Event()
        super().__init__(**options)

    def on_consumer_ready(self, consumer: object) -> None:
        self.ready.set()


@contextmanager
def running_worker(app: Celery) -> Iterator[Worker]:
    """Run a worker for the duration of the block, then discard the messages that are left."""
    worker = Worker(app=app, pool="solo", without_heartbeat=True, without_mingle=True, without_gossip=True)

    def run() -> None:
        try:
            worker.start()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="celery worker", daemon=True)
    thread.start()
    try:
        if not worker.ready.wait(60):
            raise TimeoutError("The Celery worker did not start.")
        yield worker
    finally:
        state.should_terminate = 0  # type: ignore[assignment]  # an exit code; None while it should run
        for _ in range(2):  # Before it stops, the worker waits twice for a message, two seconds each.
            app.control.broadcast("ping")
        thread.join(10)
        state.should_terminate = None
        app.control.purge()


@contextmanager
def running_beat(app: Celery) -> Iterator[None]:
    """Run the schedule for the duration of the block. It is kept in memory, so no file is left behind."""
    beat: Any = EmbeddedService(app, thread=True, scheduler_cls=Scheduler)
    beat.daemon = True
    beat.start()
    try:
        yield
    finally:
        beat.service.stop()
