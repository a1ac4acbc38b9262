"""What a header section costs by its size, in memory: read anew each time, and the same again.

`python -m bench sections` runs this file once for each way to read: in C, and in Python. A connection gets requests
over a transport that drops what is written: neither system calls nor the event loop are in the figures.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from echoserver.config import compiled
from echoserver.config import options as config
from echoserver.worker.worker import Worker

if TYPE_CHECKING:
    from bench.pictures import Sheet

SIZES = (200, 400, 700, 1000, 1050, 1500, 2500, 4000, 6000, 8000)
"""Bytes of a header section. Between 1,000 and 1,050 there was a cliff once."""

Figures = dict[str, dict[str, float]]
"""Microseconds a request, by what is done (ANEW_IN_C, ...) and the section's size."""

REPEATED, ANEW_IN_C, ANEW_IN_PYTHON = "the same again", "read anew, in C", "read anew, in Python"
_REQUESTS = 200


class _Transport(asyncio.Transport):
    """Takes all, and keeps nothing."""

    def write(self, data: object) -> None:
        pass

    def writelines(self, list_of_data: object) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def section(size: int, number: int) -> bytes:
    """A header section of so many bytes; each number's differs in its path and in two of its fields."""
    head = (
        b"GET /orders/%08d HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\nX-Request-Id: %032x\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\nCookie: "
    ) % (number, number)
    return head + b"c" * (size - len(head) - 4) + b"\r\n\r\n"


def measure(rounds: int) -> Figures:
    """In this process. The least of so many rounds: whatever else the machine does only makes it more."""
    worker = Worker(config.parse({}), asyncio.new_event_loop())
    anew = ANEW_IN_C if compiled.functions else ANEW_IN_PYTHON
    found: Figures = {anew: {}, REPEATED: {}}
    for _ in range(rounds):  # all sizes in turn: a machine has slow seconds
        for size in SIZES:
            differing = [section(size, number) for number in range(_REQUESTS)]
            for what, requests in ((anew, differing), (REPEATED, differing[:1] * _REQUESTS)):
                spent = _round(worker, requests)
                found[what][str(size)] = min(spent, found[what].get(str(size), spent))
    worker.loop.close()
    return found


def _round(worker: Worker, requests: Sequence[bytes]) -> float:
    connection = cast(asyncio.Protocol, worker.factory("http")())
    connection.connection_made(_Transport())
    receive = connection.data_received
    for each in requests[:10]:
        receive(each)
    begun = time.perf_counter()
    for each in requests:
        receive(each)
    spent = time.perf_counter() - begun
    connection.connection_lost(None)
    return 1e6 * spent / len(requests)


def both(rounds: int, say: Callable[[str], None]) -> Figures:
    """In C, where that was compiled, and in Python: each in a process of its own."""
    found: Figures = {}
    for without in ("", "1"):
        environment = {**os.environ, "ECHOSERVER_NO_EXTENSIONS": without}
        words = [sys.executable, "-m", "bench.sections", str(rounds)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        found = json.loads(done.stdout) | found  # what repeats is read neither way
    for what, figures in found.items():
        say(f"{what}: " + ", ".join(f"{int(size):,} B {value:.2f} us" for size, value in figures.items()))
    return found


def picture(figures: Figures) -> "Sheet":
    """Microseconds against bytes, from zero on both axes."""
    from bench import pictures  # noqa: PLC0415 - matplotlib is wanted here only

    colours = {ANEW_IN_C: pictures.OWN, ANEW_IN_PYTHON: pictures.IN_PYTHON, REPEATED: pictures.LIMIT}
    lines = {what: [(float(size), value) for size, value in found.items()] for what, found in figures.items()}
    high = 1.05 * max(value for points in lines.values() for _, value in points)
    sheet = pictures.Sheet(
        860, 478, "What does a header section cost as it grows?",
        "Microseconds a request in memory, without system calls: 5 fields, one of which grows; the best of 200 rounds.",
        description="; ".join(f"{what}: {found['1000']:.2f} us at 1,000 B" for what, found in figures.items()),
    )  # fmt: skip
    axes = sheet.axes(86, 92, 640, 430)
    axes.set(xlim=(0, SIZES[-1]), ylim=(0, high))
    pictures.ticks(axes.xaxis, (0, 1000, 2000, 4000, 6000, 8000), "{:,.0f} B".format)
    pictures.ticks(axes.yaxis, pictures.evenly(high), lambda value: f"{value:g} us" if value else "0")
    for what, points in lines.items():
        pictures.plot(axes, points, colours[what], linewidth=2, marker="o", markersize=6)
        sheet.text((655, sheet.at(axes, *points[-1])[1] + 4), what, colours[what], weight="bold")
    return sheet


def write(figures: Figures, into: Path) -> list[Path]:
    """sections.json and sections.svg."""
    files = {"sections.json": json.dumps(figures, indent=1) + "\n", "sections.svg": picture(figures).svg("sections")}
    for name, text in files.items():
        (into / name).write_text(text, encoding="utf-8")
    return [into / name for name in files]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
