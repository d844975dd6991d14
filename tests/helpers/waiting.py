"""Wait for another thread or process by polling a condition, not by sleeping for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_until(condition: Callable[[], Answer], timeout: float = 60, every: float = 0.02) -> Answer:
    """Return the condition's first true result; raise TimeoutError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true within {timeout} s")
        time.sleep(every)
    return answer
