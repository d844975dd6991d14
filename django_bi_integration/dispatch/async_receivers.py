"""Async receivers: await one from a worker's thread, or explain why this worker cannot."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from asgiref.sync import async_to_sync

from django_bi_integration.exceptions import UnsupportedPool

#: Libraries that replace threads: the module that does it, its function that reports it, and that function's argument.
PATCHES = {
    "gevent": ("gevent.monkey", "is_module_patched", "threading"),
    "eventlet": ("eventlet.patcher", "is_monkey_patched", "thread"),
}


def wait_for(call: Callable[[], Any]) -> None:
    """Call a coroutine function and wait until it ends. If this thread is interrupted meanwhile, cancel it.

    The coroutine may run on an event loop that belongs to a server, so no other task of that loop is touched.
    Raises UnsupportedPool if gevent or eventlet replaced this process's threads, and whatever the coroutine raises.
    """
    if library := patched_by():
        raise UnsupportedPool(library)
    task: asyncio.Task[Any] | None = None
    is_over = False

    async def run() -> None:
        nonlocal task
        task = asyncio.current_task()
        if not is_over:  # else it was interrupted before it could be cancelled
            await call()

    try:
        async_to_sync(run)()
    except BaseException:
        is_over = True
        if task is not None:
            with suppress(RuntimeError):  # the task is done and its loop is closed
                task.get_loop().call_soon_threadsafe(task.cancel)
        raise


def patched_by() -> str | None:
    """Return the library that replaced this process's threads by greenlets, if any.

    asyncio cannot run there: all greenlets share one thread, which can have only one running event loop.
    """
    for library, (module, function, argument) in PATCHES.items():
        if (loaded := sys.modules.get(module)) and getattr(loaded, function)(argument):
            return library
    return None
