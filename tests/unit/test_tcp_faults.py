"""Modes and faults of raw TCP against a transport in memory: whatever comes when, what is sent and kept is right.

Modules: protocols.tcp.modes.
"""

import asyncio
import time
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from echoserver.answers.pattern import pattern
from echoserver.config import options as config
from echoserver.observe import counters
from echoserver.protocols.tcp.faults import Faulty
from echoserver.protocols.tcp.modes import MODES
from echoserver.transport.origin import Origin, ProtocolInfo
from echoserver.worker.worker import Worker
from tests.unit.examples import examples
from tests.unit.transport import FakeTransport

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(1, 200_000)),
        st.tuples(st.just("take"), st.integers(1, 400_000)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=12,
)
OFF = st.just("off")
CLOSE_AFTER = OFF | st.sampled_from(["1", "1000", "100000"])
DELAY = OFF | st.sampled_from(["1ms", "3ms"])
RATE = OFF | st.sampled_from(["20MB", "1GB"])
PATIENCE = 10.0


def make_worker(loop: asyncio.AbstractEventLoop, **options: str) -> Worker:
    return Worker(config.parse({f"tcp_{name}": text for name, text in options.items()} | LIMITS), loop)


LIMITS = {"buffer_limit": "64KiB", "buffer_total": "1MiB"}


def connection(worker: Worker) -> Faulty:
    return MODES[worker.context.config.tcp_mode](worker.context, Origin(ProtocolInfo("tcp")))


def turn(worker: Worker) -> None:
    worker.loop.run_until_complete(asyncio.sleep(0.0005))


def until(worker: Worker, client: FakeTransport, condition: Callable[[], object]) -> None:
    """Let the kernel take what there is until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        client.take(1 << 20)
        turn(worker)


def act(worker: Worker, client: FakeTransport, steps: list[tuple[str, int]]) -> bytes:
    """Do the steps; returns what was read of what was fed."""
    read = bytearray()
    for what, size in steps:
        if what == "feed":
            data = bytes(index % 251 for index in range(len(read), len(read) + min(size, 1000))) * (size // 1000 + 1)
            rest = client.feed(data)
            read += data[: len(data) - len(rest)]
        elif what == "take":
            client.take(size)
        else:
            turn(worker)
        client._settle()
    return bytes(read)


def test_small_pieces_that_wait_are_bounded_by_what_they_take(loop: asyncio.AbstractEventLoop) -> None:
    """Each has a time of its own, and that takes more memory than a byte does."""
    worker = make_worker(loop, delay="1h")
    with FakeTransport(connection(worker), 0) as client:
        fed = 0
        while not client.feed(b"x"):
            fed += 1
            assert fed <= (1 << 16) // 128, "a mark for each"
            time.sleep(0.0011)  # pieces of the same millisecond have one time
    assert worker.context.used == 0


@examples(60)
@given(STEPS, DELAY, RATE, CLOSE_AFTER, st.integers(0, 300_000))
def test_an_echo_is_whole_or_so_long(
    loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]], delay: str, rate: str, close_after: str, room: int
) -> None:
    worker = make_worker(loop, delay=delay, rate=rate, close_after=close_after)
    with FakeTransport(connection(worker), room) as client:
        read = act(worker, client, steps)
        expected = read[: int(close_after)] if close_after != "off" else read
        assert expected.startswith(client.sent)
        until(worker, client, lambda: len(client.sent) >= len(expected))
        turn(worker)
        assert client.sent == expected
        assert worker.context.used == 0
        assert client.reading, "nothing waits any more"
        assert client.ended == (close_after != "off" and len(expected) == int(close_after))
        client.eof()
        turn(worker)
        client._settle()
        assert client.lost
    assert worker.context.used == 0
    assert not worker.context.connections
    assert worker.context.counts[counters.index("sent_bytes", "tcp")] == len(expected)
    assert worker.context.counts[counters.index("received_bytes", "tcp")] == len(read)


@examples(40)
@given(STEPS, DELAY, RATE, CLOSE_AFTER)
def test_what_is_lost_is_not_kept(
    loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]], delay: str, rate: str, close_after: str
) -> None:
    """The client goes away in the middle: no timer and no byte is left."""
    worker = make_worker(loop, delay=delay, rate=rate, close_after=close_after)
    with FakeTransport(connection(worker), 0) as client:
        act(worker, client, steps)
        client.eof()
        client.abort()
        client._settle()
        assert not [each for each in worker.loop._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
    assert worker.context.used == 0
    assert not worker.context.connections


@examples(40)
@given(STEPS, RATE, CLOSE_AFTER, st.integers(0, 300_000))
def test_chargen_sends_the_pattern(
    loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]], rate: str, close_after: str, room: int
) -> None:
    worker = make_worker(loop, mode="chargen", rate=rate, close_after=close_after)
    with FakeTransport(connection(worker), room) as client:
        act(worker, client, steps)
        if close_after != "off":
            until(worker, client, lambda: client.ended)
            assert len(client.sent) == int(close_after)
        else:
            until(worker, client, lambda: len(client.sent) >= 500_000)
        assert client.sent == pattern(len(client.sent))
    assert worker.context.used == 0


@examples(40)
@given(STEPS, RATE, CLOSE_AFTER)
def test_discard_reads_until_it_may_not(
    loop: asyncio.AbstractEventLoop, steps: list[tuple[str, int]], rate: str, close_after: str
) -> None:
    worker = make_worker(loop, mode="discard", rate=rate, close_after=close_after)
    with FakeTransport(connection(worker), 0) as client:
        read = act(worker, client, steps)
        assert client.ended == (close_after != "off" and len(read) >= int(close_after))
        until(worker, client, lambda: client.reading)
        client.eof()
        assert client.lost
    assert client.sent == b""


def test_what_waits_keeps_the_limit(loop: asyncio.AbstractEventLoop) -> None:
    worker = make_worker(loop, delay="1h")
    with FakeTransport(connection(worker), 0) as client:
        assert client.feed(bytes(1 << 20)), "not all is read"
        assert 1 << 16 <= worker.context.used <= (1 << 16) + (256 << 10) + 1000
    assert worker.context.used == 0


def test_waiting_for_itself_is_not_idle(loop: asyncio.AbstractEventLoop) -> None:
    worker = make_worker(loop, delay="1h")
    worker.context.config = config.parse({"tcp_delay": "1h", "idle_timeout": "1s"})
    with FakeTransport(connection(worker), 0) as client:
        client.feed(b"x")
        for second in range(10):
            client._connection.sweep(worker.context.now + second)
        assert client.open
