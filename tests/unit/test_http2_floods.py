"""Clients of HTTP/2 that only want to keep the server busy (RFC 9113 section 10.5): each is told to be calm.

The frames sent before that are counted here, and what is kept meanwhile; an honest client beside it is answered.

Modules: protocols.http2.connection.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.unit.http2_peer import (
    CANCEL,
    DATA,
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MOST,
    PING,
    PREFACE,
    PRIORITY,
    SETTINGS,
    WINDOW,
    Peer,
    block,
    connected,
    data,
    fields,
    frame,
    get,
    headers,
    indices,
    ping,
    post,
    rst,
    settings,
    whole,
    window_update,
)  # fmt: skip
from tests.unit.transport import make

WIDE = PREFACE + settings((INITIAL_WINDOW_SIZE, 1 << 30)) + window_update(0, 1 << 30)
NO_WINDOW = PREFACE + settings((INITIAL_WINDOW_SIZE, 0))
BURST = 1000
"""Frames that ask for nothing that a client may send at once."""
FIELDS = block(*fields())
Frames = Callable[[], Iterator[bytes]]


def again(sent: bytes) -> Frames:
    return lambda: itertools.repeat(sent)


def on_streams(make_one: Callable[[int], bytes]) -> Frames:
    return lambda: map(make_one, itertools.count(1, 2))


def behind(first: bytes, sent: bytes) -> Frames:
    return lambda: itertools.chain([first], itertools.repeat(sent))


CLOSED = b"".join(get(each) for each in range(1, 2 * BURST * 3, 2))
"""Requests that make so many closed streams."""

FLOODS: dict[str, Frames] = {
    "SETTINGS": again(settings()),
    "SETTINGS that change all windows": behind(
        b"".join(post(each) for each in range(1, 201, 2)),
        settings(*[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 2)] * 1000),
    ),
    "SETTINGS, acknowledged": again(frame(SETTINGS, 1)),
    "PING": again(ping()),
    "PING, acknowledged": again(frame(PING, 1, 0, bytes(8))),
    "PRIORITY": on_streams(lambda stream: frame(PRIORITY, 0, stream, b"\0\0\0\0\0")),
    "PRIORITY_UPDATE": again(frame(0x10, 0, 0, b"\0\0\0\1u=1")),
    "unknown frames": again(frame(0x77, 0, 0, b"x")),
    "unknown frames on streams": on_streams(lambda stream: frame(0x77, 0, stream, b"x")),
    "GOAWAY": again(frame(GOAWAY, 0, 0, bytes(8))),
    "empty DATA": behind(post(1), data(1)),
    "empty DATA for an answer on demand": behind(post(1, b"/?delay=1h"), data(1)),
    "DATA of padding only": behind(post(1), data(1, padding=9)),
    "empty DATA on a stream that was reset here": behind(post(1, b"/", (b"expect", b"x")), data(1)),
    "DATA on closed streams": lambda: itertools.chain([CLOSED], (data(each, b"x") for each in itertools.count(1, 2))),
    "WINDOW_UPDATE of 1": again(window_update(0, 1)),
    "WINDOW_UPDATE of 1 for a stream": behind(post(1), window_update(1, 1)),
    "WINDOW_UPDATE of 1 for a closed stream": behind(get(1), window_update(1, 1)),
    "rapid reset": on_streams(lambda stream: get(stream) + rst(stream)),
    "rapid reset of answers that wait": on_streams(lambda stream: get(stream, b"/?delay=1h") + rst(stream)),
    "rapid reset of content": on_streams(lambda stream: post(stream) + data(stream, b"x") + rst(stream)),
    "made to reset: WINDOW_UPDATE of 0": on_streams(
        lambda stream: get(stream, b"/?delay=1h") + window_update(stream, 0)
    ),
    "made to reset: a window beyond all": on_streams(
        lambda stream: get(stream, b"/?delay=1h") + window_update(stream, MOST)
    ),
    "made to reset: DATA, half-closed": on_streams(lambda stream: get(stream, b"/?delay=1h") + data(stream)),
    "made to reset: HEADERS, half-closed": on_streams(lambda stream: get(stream, b"/?delay=1h") + headers(stream, b"")),
    "made to reset: PRIORITY of 4 octets": on_streams(
        lambda stream: get(stream, b"/?delay=1h") + frame(PRIORITY, 0, stream, bytes(4))
    ),
    "made to reset: it depends on itself": on_streams(
        lambda stream: headers(stream, stream.to_bytes(4) + b"\0" + FIELDS, flags=END_HEADERS | 32)
    ),
    "made to reset: trailers that do not end it": on_streams(
        lambda stream: post(stream) + headers(stream, b"", ends=False)
    ),
    "made to reset: more content than was declared": on_streams(
        lambda stream: post(stream, b"/", (b"content-length", b"1")) + data(stream, b"xy")
    ),
    "made to reset: malformed": on_streams(lambda stream: headers(stream, block(*fields(), (b"A", b"b")))),
}


def flood(peer: Peer, frames: Iterator[bytes], most: int, at_once: int) -> int:
    """Send until the server does not take more; returns how many."""
    sent, used = 0, peer.used
    while peer.transport.open:
        peer.transport.feed(b"".join(itertools.islice(frames, at_once)))
        sent += at_once
        assert sent <= most + at_once, "nobody was told to be calm"
        assert peer.used - used < 1 << 20
    return sent


@pytest.mark.parametrize("at_once", [1, 500], ids=["one by one", "many at once"])
@pytest.mark.parametrize("frames", FLOODS.values(), ids=FLOODS)
def test_rfc_9113_section_10_5_floods(loop: asyncio.AbstractEventLoop, frames: Frames, at_once: int) -> None:
    worker = make(loop, max_delay="1h")
    with connected(worker) as honest:
        assert honest.is_answered(1)
        with connected(worker, begin=WIDE) as peer:
            sent = flood(peer, frames(), 5 * BURST, at_once)
            last = peer.new()[-1]
            assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
            assert sent >= BURST // 2, "that many may be honest"
            assert worker.context.used == 0
            assert not peer.connection.streams
            assert honest.is_answered(3)
    assert worker.context.used == 0


def test_rfc_9113_section_10_5_reset_streams_are_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """CVE-2023-44487 and CVE-2025-8671: what was begun for streams that are reset does not go on."""
    worker = make(loop, max_delay="1h")
    with connected(worker) as peer:
        for stream in range(1, 601, 6):
            peer.say(get(stream, b"/?delay=1h") + rst(stream))
            peer.say(get(stream + 2, b"/?delay=1h") + window_update(stream + 2, 0))
            peer.say(get(stream + 4, b"/?delay=1h") + data(stream + 4, b"x"))
            assert not peer.connection.streams
        assert peer.goaway is None
        assert peer.is_answered(601)


@pytest.mark.parametrize("path", [b"/", b"/?delay=1h"])
def test_max_streams__more_than_that_over_and_over(loop: asyncio.AbstractEventLoop, path: bytes) -> None:
    worker = make(loop, max_delay="1h", max_streams="100")
    with connected(worker) as honest, connected(worker) as peer:
        sent = flood(peer, (post(each, path) for each in itertools.count(1, 2)), 2 * BURST, 1)
        last = peer.new()[-1]
        assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
        assert BURST <= sent - 100 <= BURST + 1
        assert honest.is_answered(1)
    assert worker.context.used == 0


@pytest.mark.parametrize("size", [0, 1, 16384], ids=lambda size: f"of {size} octets")
def test_max_header__continuation_without_end(loop: asyncio.AbstractEventLoop, size: int) -> None:
    """CVE-2024-27316. It is told so long before a header section would be answered with 431."""
    worker = make(loop)
    with connected(worker) as honest, connected(worker) as peer:
        peer.say(headers(1, FIELDS, flags=0))
        sent = flood(peer, itertools.repeat(frame(9, 0, 1, bytes(size))), 10, 1)
        last = peer.new()[-1]
        assert (last.kind, last.code) == (GOAWAY, ENHANCE_YOUR_CALM)
        assert sent < 10
        assert honest.is_answered(1)
    assert worker.context.used == 0


@pytest.mark.parametrize("references", [100, 16000], ids=["431", "calm"])
def test_max_header__a_bomb_in_hpack(loop: asyncio.AbstractEventLoop, references: int) -> None:
    """One octet each time for 4000 in the table: not more is made of it than is needed to say no."""
    worker = make(loop, max_header="200kB" if references == 100 else "64KiB")
    with connected(worker) as honest, connected(worker) as peer:
        peer.say(headers(1, FIELDS + block((b"x", b"a" * 3900), indexed=True)))
        bomb = FIELDS + indices(*[62] * references)
        frames = peer.say(headers(3, bomb))
        if references == 100:
            assert peer.answers()[3].status == 431
            assert peer.is_answered(5)
        else:
            assert (frames[-1].kind, frames[-1].code) == (GOAWAY, ENHANCE_YOUR_CALM)
        assert honest.is_answered(1)
    assert worker.context.used == 0


def test_rfc_9113_section_10_5_an_echo_of_the_same_bomb_again_and_again(loop: asyncio.AbstractEventLoop) -> None:
    """Requests of 20 octets for 12 KB each: what waits for a client that reads nothing is bounded."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="256MiB")
    wide = PREFACE + settings((INITIAL_WINDOW_SIZE, MOST)) + window_update(0, MOST - WINDOW)
    with connected(worker, begin=wide, room=0) as peer:
        first = FIELDS + block((b"x", b"a" * 3900), indexed=True)
        bomb = FIELDS + indices(62, 62, 62)
        rest = headers(1, first) + b"".join(headers(each, bomb) for each in range(3, 8003, 2))
        rest = peer.transport.feed(rest)
        assert peer.used < 4 << 20
        while rest or not peer.transport.reading:
            peer.transport.take(8 << 20)
            rest = peer.transport.feed(rest)
        peer.transport.take(1 << 26)
        assert sum(each.ends for each in peer.answers().values()) == 4001
    assert worker.context.used == 0


HONEST: dict[str, Callable[[int], bytes]] = {
    "a WINDOW_UPDATE for each echo, and one for its stream": lambda stream: (
        whole(stream, b"x" * 64) + window_update(0, 64) + window_update(stream, 64)
    ),
    "a stream's window is raised each time": lambda stream: (
        post(stream) + window_update(stream, 1 << 20) + data(stream, b"x" * 64, ends=True)
    ),
    "PING with every third": lambda stream: whole(stream, b"x") + (ping() if stream % 3 == 0 else b""),
    "an answer is cancelled now and then": lambda stream: whole(stream, b"x") + (
        get(stream + 2, b"/?delay=1h") + rst(stream + 2, CANCEL) if stream % 16 == 1 else b""
    ),
    "content in small frames": lambda stream: post(stream) + data(stream, b"x") * 20 + data(stream, ends=True),
}  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 50])
@pytest.mark.parametrize("one", HONEST.values(), ids=HONEST)
def test_rfc_9113_section_10_5_what_is_no_flood(
    loop: asyncio.AbstractEventLoop, one: Callable[[int], bytes], at_once: int
) -> None:
    """Four thousand requests in no time."""
    worker = make(loop, max_delay="1h")
    with connected(worker, begin=WIDE) as peer:
        streams = itertools.count(1, 4)
        for _ in range(4000 // at_once):
            peer.transport.feed(b"".join(map(one, itertools.islice(streams, at_once))))
        assert peer.new()
        assert peer.goaway is None
        assert sum(each.kind in (DATA, HEADERS) and each.ends for each in peer.frames) == 4000
    assert worker.context.used == 0


def test_rfc_9113_section_10_5_what_was_spent_comes_back_with_time(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with connected(worker) as peer:
        for _ in range(10):
            assert len(peer.say(ping() * 900)) == 900
            worker.context.now += 10
        assert peer.goaway is None


def test_rfc_9113_section_10_5_content_by_single_octets_of_window(loop: asyncio.AbstractEventLoop) -> None:
    """It costs its client more than this server: it is no flood."""
    worker = make(loop)
    with connected(worker, begin=NO_WINDOW) as peer:
        peer.say(whole(1, b"x" * 5000))
        for _ in range(5000):
            peer.transport.feed(window_update(1, 1))
        assert peer.new()
        assert peer.answers()[1].content == b"x" * 5000
        assert peer.goaway is None
    assert worker.context.used == 0
