"""Wait for what another thread or process does: by asking, never by guessing how long it takes."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], timeout: float = 60, every: float = 0.02) -> Answer:
    """The first true answer of the condition; TimeoutError when none comes in time."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true within {timeout} s")
        time.sleep(every)
    return answer
