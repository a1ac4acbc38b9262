"""Counters in shared memory: what one process writes all others read, also once it has ended."""

import os
import signal
import sys
import traceback
from collections.abc import Callable

import pytest

from echoserver.observe import counters
from echoserver.observe.counters import COUNTERS, SIZE, SharedCounters, index

RETIREMENTS = 3000
CHANGES = 100  # that a reader beside them sees at least


def child(act: Callable[[], object]) -> int:
    """The id of a process that does this and ends, with 0 if nothing was raised."""
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
    except BaseException:  # noqa: BLE001 - nothing may get past os._exit
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def zeros() -> list[int]:
    """Nothing counted."""
    return [0] * SIZE


def add(board: SharedCounters, row: int, counts: list[int]) -> None:
    """What the process in a row does: go on from what is there."""
    board.write(row, [before + more for before, more in zip(board.begin(row), counts, strict=True)])


def counted(**counts: int) -> list[int]:
    """Counters of which these are not 0, for http where they have a protocol."""
    every = zeros()
    for name, count in counts.items():
        every[index(name, "http" if (name, "http") in counters._INDEX else "")] = count
    return every


def test_every_counter_has_its_own_place() -> None:
    places = [index(counter.name, value) for counter in COUNTERS for value in counter.values]
    assert places == list(range(SIZE))


@pytest.mark.parametrize(
    ("name", "value"),
    [("no_such", ""), ("requests", ""), ("requests", "6xx"), ("worker_restarts", "http"), ("", "")],
)
def test_an_unknown_counter_is_an_error(name: str, value: str) -> None:
    with pytest.raises(KeyError):
        index(name, value)


def test_nothing_has_been_counted_yet() -> None:
    workers = SharedCounters(3).read()
    assert [each.worker for each in workers] == [0, 1, 2]
    assert [each.pids for each in workers] == [()] * 3
    assert [each.counts for each in workers] == [zeros()] * 3


def test_parent_and_sibling_read_what_a_child_writes() -> None:
    board = SharedCounters(2)
    row = board.take(1)
    assert row is not None
    counts = [*range(SIZE - 1), 2**64 - 1]
    writer = child(lambda: add(board, row, counts))
    assert exit_code(writer) == 0

    def check() -> None:
        nobody, worker = board.read()
        assert (nobody.pids, nobody.counts) == ((), zeros())
        assert (worker.pids, worker.counts) == ((writer,), counts)
        assert worker["requests", "2xx"] == index("requests", "2xx")

    check()
    assert exit_code(child(check)) == 0


def test_a_worker_has_what_all_its_processes_counted() -> None:
    board = SharedCounters(2)
    for worker, requests in ((0, 1), (1, 10), (0, 100), (1, 1000)):
        row = board.take(worker)
        assert row is not None
        board.write(row, counted(backpressure_pauses=requests))
    first, second = board.read()
    assert first["backpressure_pauses", ""] == 101
    assert second["backpressure_pauses", ""] == 1010
    assert len(first.pids) == len(second.pids) == 2


def test_a_later_figure_takes_the_place_of_an_earlier_one() -> None:
    board = SharedCounters(1)
    row = board.take(0)
    assert row is not None
    board.write(row, counted(sent_bytes=1))
    board.write(row, counted(sent_bytes=5))
    assert board.read()[0]["sent_bytes", "http"] == 5


def test_retiring_adds_up_and_frees() -> None:
    board = SharedCounters(2)
    for generation in range(1, 4):
        row = board.take(1)
        assert row is not None
        add(board, row, counted(received_bytes=5, backpressure_pauses=1))
        board.retire(row)
        former, worker = board.read()
        assert (former.pids, former.counts) == ((), zeros())
        assert worker.pids == ()
        assert worker.counts == counted(received_bytes=5 * generation, backpressure_pauses=generation)


def test_the_connections_of_a_killed_process_are_closed() -> None:
    board = SharedCounters(1)
    row = board.take(0)
    assert row is not None
    written, write = os.pipe()

    def serve() -> None:
        board.write(row, counted(connections_opened=5, connections_closed=2))
        os.write(write, b"!")
        signal.pause()

    pid = child(serve)
    assert os.read(written, 1) == b"!"
    os.kill(pid, signal.SIGKILL)
    assert exit_code(pid) == -signal.SIGKILL
    os.close(written)
    os.close(write)
    before = board.read()[0]
    board.retire(row)
    after = board.read()[0]
    assert (before["connections_opened", "http"], before["connections_closed", "http"]) == (5, 2)
    assert (after["connections_opened", "http"], after["connections_closed", "http"]) == (5, 5)


def test_rows_run_out_and_come_back() -> None:
    board = SharedCounters(2)
    rows = list(iter(lambda: board.take(0), None))
    assert len(set(rows)) == len(rows) == 16
    other = board.take(1)
    assert other is not None
    assert other not in rows, "one worker's processes take no other's place"
    board.retire(rows[3])
    assert board.take(0) == rows[3]
    assert board.take(0) is None
    assert [len(each.pids) for each in board.read()] == [16, 1]


def test_restarts_are_the_workers() -> None:
    board = SharedCounters(2)
    board.count_restart(1)
    board.count_restart(1)
    assert [each["worker_restarts", ""] for each in board.read()] == [0, 2]


def test_a_board_is_shared_with_those_forked_from_its_maker_only() -> None:
    board, other = SharedCounters(1), SharedCounters(1)
    board.count_restart(0)
    assert other.read()[0]["worker_restarts", ""] == 0


def test_no_counter_falls_while_processes_are_retired() -> None:
    board = SharedCounters(2)
    counts = [3] * SIZE
    for protocol in counters.STREAMS:
        counts[index("connections_closed", protocol)] = 3

    tester = os.getpid()

    def watch() -> None:
        before, changes = board.read(), 0
        while changes < CHANGES or before[1].counts[0] < 3 * RETIREMENTS:
            assert os.getppid() == tester, "the test has failed"
            now = board.read()
            for earlier, later in zip(before, now, strict=True):
                assert all(a <= b for a, b in zip(earlier.counts, later.counts, strict=True))
            if now == before:
                os.sched_yield()  # there may be one processor for both
            changes += now != before
            before = now

    watcher = child(watch)
    retired, (pid, status) = 0, (0, 0)
    while not pid:
        row = board.take(1)
        assert row is not None
        add(board, row, counts)
        board.retire(row)
        retired += 1
        total = board.read()[1]  # and so there is time between two retirements, as in life
        assert total.counts == [3 * retired] * SIZE
        pid, status = os.waitpid(watcher, os.WNOHANG)
    assert os.waitstatus_to_exitcode(status) == 0
    assert retired >= RETIREMENTS
