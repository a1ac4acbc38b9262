"""A worker's process: its event loop, its memory allocator, its CPU, and what is said of a fault."""

import asyncio
import functools
import importlib.util
import os
from typing import Any

from echoserver.config import options as config
from echoserver.observe import counters
from echoserver.observe.logs import log
from echoserver.sockets import listeners
from echoserver.worker.shared import Shared
from echoserver.worker.worker import Worker

_MALLOC_THRESHOLD = 260 << 10
_FAULT = counters.index("errors", "internal")


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """The event loop asked for: auto (uvloop where it is installed), uvloop or asyncio. Raises ImportError."""
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - not there on every platform

    return uvloop.new_event_loop()


def tune_malloc() -> None:
    """Let glibc keep blocks of the size that is read at a time; it would map what is over 128 KiB anew each time.

    It raises that threshold to the size of the largest mapped block ever freed (mallopt(3), M_MMAP_THRESHOLD).
    """
    bytearray(_MALLOC_THRESHOLD).clear()


def open_worker(
    settings: config.Config, reservation: listeners.Reservation, shared: Shared, number: int = 0, row: int | None = None
) -> Worker:
    """A worker in this process that serves on its sockets. Raises ImportError, OSError."""
    tune_malloc()
    if settings.cpu_affinity:
        os.sched_setaffinity(0, {cpus(number + 1)[number]})
    loop = new_event_loop(settings.loop)
    asyncio.set_event_loop(loop)
    worker = Worker(settings, loop, number, shared, row)
    loop.set_exception_handler(functools.partial(_log_exception, worker))
    loop.run_until_complete(worker.listen(reservation.of_worker(number)))
    loop.call_soon(worker.tick)
    return worker


def cpus(workers: int) -> list[int]:
    """The CPU that --cpu-affinity binds each worker to: one after the other of those that the server may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[number % len(allowed)] for number in range(workers)]


def _log_exception(worker: Worker, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of the server's own: one line, the connection is closed by the transport."""
    worker.context.counts[_FAULT] += 1
    error = context.get("exception")
    where = ""
    if error is not None and error.__traceback__ is not None:
        last = error.__traceback__
        while last.tb_next:
            last = last.tb_next
        where = f" ({os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno})"
    log.error("%s: %r%s", context.get("message", "error"), error, where)
