"""Counters in memory that all workers share: any worker answers for all, and what a worker counted outlives it."""

import dataclasses
import mmap
import os
from array import array

from echoserver.config.options import PROTOCOLS

STREAMS = (*(each for each in PROTOCOLS if each not in {"udp", "any"}), "websocket", "h2", "h2c")
"""The protocols that have connections."""

LAG_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds, in seconds, of the classes that the event loop's lag is counted in; one without a bound follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Counter:
    """One thing that is counted, or one for each value of a label."""

    name: str
    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)


COUNTERS = (
    Counter("connections_opened", "Connections accepted.", "protocol", STREAMS),
    Counter("connections_closed", "Connections that have ended.", "protocol", STREAMS),
    Counter("requests", "HTTP requests answered.", "status", ("1xx", "2xx", "3xx", "4xx", "5xx")),
    Counter("received_bytes", "Bytes read, TLS and PROXY protocol taken off.", "protocol", (*STREAMS, "udp")),
    Counter("sent_bytes", "Bytes written, before TLS.", "protocol", (*STREAMS, "udp")),
    Counter("datagrams", "UDP datagrams read.", "outcome", ("echoed", "not_answered")),
    Counter(
        "errors", "Connections and requests that went wrong.", "reason",
        (
            "bad_request", "content_too_long", "header_too_long", "expectation", "not_found", "not_implemented",
            "version", "too_many_connections", "too_much_memory", "draining", "proxy_protocol", "tls_handshake",
            "plain_http", "websocket", "reset", "internal",
        ),
    ),
    Counter(
        "timeouts", "Connections closed by a deadline.", "deadline",
        ("proxy_protocol", "tls_handshake", "header", "keep_alive", "idle", "ping", "drain"),
    ),
    Counter("backpressure_pauses", "Times that reading was paused for a client that does not read."),
    Counter("access_log_lines", "Lines of the access log.", "outcome", ("written", "dropped")),
    Counter("worker_restarts", "Workers that died and were replaced."),
    Counter("event_loop_lag", "", "le", (*map(str, LAG_BOUNDS), "+Inf")),
    Counter("event_loop_lag_microseconds", ""),
)  # fmt: skip

_INDEX: dict[tuple[str, str], int] = {
    (counter.name, value): number
    for number, (counter, value) in enumerate((each, value) for each in COUNTERS for value in each.values)
}
SIZE = len(_INDEX)
ANSWERED = {status: _INDEX["requests", f"{status}xx"] for status in (2, 3, 4, 5)}
"""Where requests are counted, by the first digit of the status that they were answered with."""
ERRORS = {
    status: _INDEX["errors", reason]
    for status, reason in {
        400: "bad_request", 404: "not_found", 405: "bad_request", 413: "content_too_long", 414: "header_too_long",
        417: "expectation", 431: "header_too_long", 501: "not_implemented", 503: "too_much_memory", 505: "version",
    }.items()
}  # fmt: skip
"""Where the errors of requests are counted, by status."""

_ROWS = 1 + 16  # the supervisor's, and those of the processes of one worker: one serves, others finish what they have
_ROW = 1 + SIZE  # process id (0: free), the counters


def index(name: str, value: str = "") -> int:
    """Where a counter stands in a list of all. Raises KeyError."""
    return _INDEX[name, value]


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerCounts:
    """What a worker's processes have counted, those that have ended too, and the ids of those that run."""

    worker: int
    pids: tuple[int, ...]
    counts: list[int]

    def __getitem__(self, key: tuple[str, str]) -> int:
        return self.counts[_INDEX[key]]


class SharedCounters:
    """Rows for each worker's processes: the next process in a row counts on from where its former one stopped.

    So no figure ever has to be moved, none falls, and a row needs no lock: a process writes its own, and the
    supervisor, which alone gives rows out and takes them back, writes a row that no process has. Its own figure,
    restarts, it keeps in a row for each worker that is no process's.
    """

    __slots__ = ("_cells", "_workers")

    def __init__(self, workers: int) -> None:
        self._workers = workers
        memory = mmap.mmap(-1, 8 * workers * _ROWS * _ROW)  # shared with all that are forked
        self._cells = memoryview(memory).cast("Q")

    def take(self, worker: int) -> int | None:
        """A row for another process of a worker; None: as many as there may be are still running."""
        for row in range(worker * _ROWS + 1, (worker + 1) * _ROWS):
            if not self._cells[row * _ROW]:
                self._cells[row * _ROW] = os.getpid()  # until the process itself says who it is
                return row
        return None

    def begin(self, row: int) -> list[int]:
        """The counters that the process in a row goes on from."""
        start = row * _ROW
        self._cells[start] = os.getpid()
        return self._cells[start + 1 : start + _ROW].tolist()

    def write(self, row: int, counts: list[int]) -> None:
        """Publish the counters of this process."""
        start = row * _ROW
        self._cells[start + 1 : start + _ROW] = memoryview(array("Q", counts))

    def retire(self, row: int) -> None:
        """A process has ended: its connections are closed, its row is free."""
        start = row * _ROW
        for protocol in STREAMS:
            opened, closed = index("connections_opened", protocol), index("connections_closed", protocol)
            self._cells[start + 1 + closed] = self._cells[start + 1 + opened]
        self._cells[start] = 0

    def count_restart(self, worker: int) -> None:
        """A worker's process had to be replaced."""
        self._cells[worker * _ROWS * _ROW + 1 + index("worker_restarts")] += 1

    def read(self) -> list[WorkerCounts]:
        """All workers' counters as they stand."""
        cells = self._cells.tolist()
        workers = []
        for worker in range(self._workers):
            starts = range(worker * _ROWS * _ROW, (worker + 1) * _ROWS * _ROW, _ROW)
            pids = tuple(cells[start] for start in starts if cells[start])
            rows = (cells[start + 1 : start + _ROW] for start in starts)
            workers.append(WorkerCounts(worker, pids, list(map(sum, zip(*rows, strict=True)))))
        return workers
