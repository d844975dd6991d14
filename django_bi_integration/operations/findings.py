"""The findings of bi_doctor, and a time limit for each question."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """The answer to one question, and what to do if something is wrong."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


def within(seconds: float, function: Callable[[], Result]) -> Result:
    """Return the function's result; raise TimeoutError if it takes longer, and let it continue in its thread."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # noqa: BLE001 - raised again by result()
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result(seconds)
