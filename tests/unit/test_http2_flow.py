"""Flow control of HTTP/2 (RFC 9113 section 5.2): what a client does not take waits, bounded, and comes when it does.

Each test ends with the account at 0, as http2() has it.

Modules: protocols.http2.stream, protocols.http2.on_demand.
"""

import asyncio
import contextlib
import itertools
import random
import socket
from typing import cast

import pytest

from echoserver.protocols.http2.connection import Http2Connection
from tests.unit.http2_peer import (
    BEGIN,
    DATA,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MOST,
    PREFACE,
    REFUSED_STREAM,
    RST_STREAM,
    WINDOW,
    WINDOW_UPDATE,
    Frame,
    block,
    connected,
    data,
    fields,
    frame,
    get,
    headers,
    http2,
    ping,
    post,
    rst,
    settings,
    split,
    whole,
    window_update,
)  # fmt: skip
from tests.unit.transport import make, over_loopback, sweep

NO_WINDOW = PREFACE + settings((INITIAL_WINDOW_SIZE, 0))
WIDE = PREFACE + settings((INITIAL_WINDOW_SIZE, MOST)) + window_update(0, MOST - WINDOW)
TORN = pytest.mark.parametrize("torn", [False, True], ids=["whole", "byte by byte"])
KIB, MIB = 1 << 10, 1 << 20
CONTENT = random.Random(9113).randbytes(MIB)
TRAILERS = block((b"a", b"b"))


def sizes(frames: list[Frame], stream: int) -> list[int]:
    return [len(each.payload) for each in frames if each.kind == DATA and each.stream == stream]


def credited(frames: list[Frame], stream: int) -> int:
    return sum(each.number for each in frames if each.kind == WINDOW_UPDATE and each.stream == stream)


# --- small windows ---


@TORN
def test_rfc_9113_section_6_9_a_window_of_one_octet(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 1))) as peer:
        frames = peer.say(whole(1, b"hello") + get(3), torn=torn)
        assert [sizes(frames, each) for each in (1, 3)] == [[1], [1]]
        for _ in range(4):
            assert sizes(peer.say(window_update(1, 1), torn=torn), 1) == [1]
        assert peer.answers()[1].content == b"hello"
        assert peer.answers()[1].ends
        for _ in range(30):
            peer.say(window_update(3, 1), torn=torn)
        assert peer.answers()[3].content == b"GET / HTTP/2\r\nhost: x\r\n\r\n"
        assert peer.used == 0


@TORN
@pytest.mark.parametrize("how", ["a stream's", "the connection's", "SETTINGS"])
def test_rfc_9113_section_6_9_nothing_is_sent_before_there_is_a_window(
    loop: asyncio.AbstractEventLoop, how: str, torn: bool
) -> None:
    with http2(loop, begin=BEGIN if how.startswith("the") else NO_WINDOW) as peer:
        if how.startswith("the"):
            peer.say(whole(1, bytes(16384)) + post(3) + data(3, bytes(16384)) * 2 + data(3, bytes(16383), ends=True))
        frames = peer.say(whole(5, b"hello") + get(7, b"/?size=3") + post(9) + data(9, b"abc"), torn=torn)
        assert not [each for each in frames if each.kind == DATA]
        assert peer.used > 0
        assert peer.say(ping() + data(9, b"", ends=True), torn=torn)[0].payload == b"01234567", "it is still heard"
        if how == "SETTINGS":
            peer.say(settings((INITIAL_WINDOW_SIZE, 100)), torn=torn)
        elif how.startswith("the"):
            peer.say(window_update(0, 100), torn=torn)
        else:
            peer.say(b"".join(window_update(each, 100) for each in (5, 7, 9)), torn=torn)
        peer.wait(DATA, 7)
        answers = peer.answers()
        assert (answers[5].content, len(answers[7].content), answers[9].content) == (b"hello", 3, b"abc")
        assert all(answers[each].ends for each in (5, 7, 9))
        assert peer.used == 0


@TORN
def test_rfc_9113_section_6_9_what_ends_needs_no_window(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """END_STREAM without content, and trailers."""
    with http2(loop, begin=NO_WINDOW) as peer:
        peer.say(post(1) + data(1, ends=True) + post(3) + headers(3, TRAILERS), torn=torn)
        peer.say(get(5, method=b"HEAD") + whole(7, b"", b"/", (b"content-length", b"0")), torn=torn)
        answers = peer.answers()
        assert all(answers[each].ends and answers[each].status == 200 for each in (1, 3, 5, 7))
        assert answers[3].trailers == {b"a": b"b"}


@TORN
def test_rfc_9113_section_6_9_2_a_window_may_become_negative(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 10))) as peer:
        peer.say(post(1) + data(1, b"x" * 10) + data(1, b"y" * 20, ends=True), torn=torn)
        assert peer.answers()[1].content == b"x" * 10
        peer.say(settings((INITIAL_WINDOW_SIZE, 4)), torn=torn)  # its window is -6
        assert not sizes(peer.say(window_update(1, 6), torn=torn), 1)
        assert sizes(peer.say(window_update(1, 1), torn=torn), 1) == [1]
        peer.say(settings((INITIAL_WINDOW_SIZE, 0)), torn=torn)  # -4
        assert sizes(peer.say(settings((INITIAL_WINDOW_SIZE, 7)), torn=torn), 1) == [3]
        assert sizes(peer.say(settings((INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 9)), torn=torn), 1) == [2]
        peer.say(settings((INITIAL_WINDOW_SIZE, WINDOW)), torn=torn)
        assert peer.answers()[1].content == b"x" * 10 + b"y" * 20
        assert peer.answers()[1].ends


@TORN
def test_rfc_9113_section_6_9_2_settings_hold_for_streams_that_have_begun(
    loop: asyncio.AbstractEventLoop, torn: bool
) -> None:
    """Also for one of which nothing but the header section has come."""
    with http2(loop) as peer:
        peer.say(post(1, b"/", (b"content-length", b"5")) + settings((INITIAL_WINDOW_SIZE, 2)), torn=torn)
        assert sizes(peer.say(data(1, b"hello", ends=True), torn=torn), 1) == [2]
        assert sizes(peer.say(window_update(1, 9), torn=torn), 1) == [3]


@TORN
def test_rfc_9113_section_6_9_the_connections_window_is_shared(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, MIB))) as peer:
        for stream in (1, 3):
            peer.say(post(stream) + data(stream, bytes(16384)) * 2 + data(stream, bytes(7233), ends=True))
        frames = [each for each in peer.frames if each.kind == DATA]
        assert sum(len(each.payload) for each in frames) == WINDOW
        peer.say(window_update(0, 1), torn=torn)
        peer.say(window_update(0, MIB), torn=torn)
        assert [len(peer.answers()[each].content) for each in (1, 3)] == [40001, 40001]


@TORN
def test_rfc_9113_section_5_3_streams_have_their_turns(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """The connection's window is given octet by octet: each stream has one before the first has another."""
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, MIB))) as peer:
        peer.say(b"".join(whole(1, bytes(16384)) if not each else data_of_window(each) for each in range(2)))
        assert peer.connection.window == 0
        streams = [5, 7, 9, 11]
        peer.say(b"".join(whole(each, b"abc") for each in streams))
        order = [
            each.stream for _ in range(12) for each in peer.say(window_update(0, 1), torn=torn) if each.kind == DATA
        ]
        assert order == streams * 3
        assert all(peer.answers()[each].content == b"abc" for each in streams)


def data_of_window(_: int) -> bytes:
    """Content that takes what 16384 octets leave of the connection's window."""
    return post(3) + data(3, bytes(16384)) * 2 + data(3, bytes(16383), ends=True)


@TORN
def test_rfc_9113_section_5_3_frames_of_streams_take_turns(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """Content that waits goes a frame of each stream at a time."""
    with http2(loop, begin=NO_WINDOW + window_update(0, MIB)) as peer:
        for stream in (1, 3, 5):
            peer.say(post(stream) + data(stream, bytes(16384)) * 2 + data(stream, bytes(5), ends=True))
        frames = peer.say(settings((INITIAL_WINDOW_SIZE, MIB)), torn=torn)
        assert [each.stream for each in frames if each.kind == DATA] == [1, 3, 5] * 3


@pytest.mark.parametrize("path", [b"/?size=200000", b"/?size=200000&delay=1ms"])
def test_rfc_9113_section_6_9_an_answer_on_demand_goes_on_by_itself(
    loop: asyncio.AbstractEventLoop, path: bytes
) -> None:
    """It is made piece by piece, each of them longer than the window: what of it fits into that does not wait."""
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 1000))) as peer:
        peer.transport.feed(get(1, path))
        for _ in range(5000):
            come = sum(len(each.payload) for each in peer.new() if each.kind == DATA)
            if come:
                peer.transport.feed(window_update(0, come) + window_update(1, come))
            peer.transport.pass_turn()
        assert peer.answers()[1].ends


# --- what the client may send ---


@TORN
def test_rfc_9113_section_5_2_more_may_be_sent_as_the_echo_goes(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """No WINDOW_UPDATE for content that waits."""
    with http2(loop, begin=NO_WINDOW, buffer_limit="64KiB") as peer:
        sent = post(1) + b"".join(data(1, bytes(each)) for each in (16384, 16384, 16384, 16383))
        frames = peer.say(sent) if not torn else [each for piece in cut(sent) for each in peer.say(piece)]
        assert not [each for each in frames if each.kind == WINDOW_UPDATE]
        assert peer.used == WINDOW
        peer.say(window_update(1, WINDOW) + data(1, ends=True), torn=torn)
        assert credited(peer.frames, 0) == WINDOW + 1
        assert len(peer.answers()[1].content) == WINDOW


def cut(sent: bytes) -> list[bytes]:
    return [sent[start : start + 1000] for start in range(0, len(sent), 1000)]


@TORN
@pytest.mark.parametrize("stream", ["open", "closed"])
def test_rfc_9113_section_6_9_padding_is_credited(loop: asyncio.AbstractEventLoop, stream: str, torn: bool) -> None:
    """Much more than a window comes, nearly all of it padding, of which nothing waits."""
    with http2(loop, buffer_limit="64KiB") as peer:
        peer.say(post(1) if stream == "open" else post(1, b"/", (b"expect", b"x")))
        for _ in range(300):
            peer.say(data(1, b"x", padding=255), torn=torn)
        assert 300 * 257 - WINDOW < credited(peer.frames, 0) + WINDOW <= 300 * 257 + WINDOW
        if stream == "open":
            assert 300 * 257 - credited(peer.frames, 1) < WINDOW
            peer.say(data(1, ends=True), torn=torn)
            assert peer.answers()[1].content == b"x" * 300
        assert peer.goaway is None


@TORN
@pytest.mark.parametrize("path", [b"/", b"/?delay=1h", b"/?status=404", b"/?rate=1"])
def test_rfc_9113_section_6_9_1_more_than_the_window_allows(
    loop: asyncio.AbstractEventLoop, path: bytes, torn: bool
) -> None:
    """A client that goes on sending to a stream whose content waits is told so with a reset, or with GOAWAY."""
    with http2(loop, begin=NO_WINDOW, buffer_limit="1MiB", buffer_total="64MiB") as peer:
        peer.say(post(1, path))
        for _ in range(70 * (5 if path == b"/?status=404" else 1)):
            peer.say(data(1, bytes(16384)))
        errors = [each.code for each in peer.frames if each.kind in (RST_STREAM, GOAWAY)]
        if path != b"/?status=404":
            assert peer.used < 3 * MIB
        assert set(errors) <= {FLOW_CONTROL_ERROR, REFUSED_STREAM}
        assert errors or path != b"/"


# --- a client that does not read, or does not let us send ---


@pytest.mark.parametrize("path", [b"/", b"/?delay=1h", b"/?delay=1ms", b"/?rate=1kB"])
@pytest.mark.parametrize("why", ["grants nothing", "reads nothing"])
def test_buffer_limit__a_hundred_streams_of_one_that_takes_nothing(
    loop: asyncio.AbstractEventLoop, why: str, path: bytes
) -> None:
    """It sends as much as it may on each stream. An honest one beside it is answered, and all is given back."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="64MiB", max_delay="1h")
    with connected(worker) as honest:
        begin, room = (NO_WINDOW, None) if why == "grants nothing" else (WIDE, 0)
        with connected(worker, begin=begin, room=room) as peer:
            streams = range(1, 201, 2)
            rest = peer.transport.feed(b"".join(post(each, path) for each in streams))
            for _ in range(70):
                for stream in streams:
                    if not rest and not peer.transport.closing:
                        rest = peer.transport.feed(data(stream, bytes(16384)))
                    assert peer.used < 4 * MIB
            assert honest.is_answered(1)
            assert peer.used > 0 or not peer.transport.open
        assert worker.context.used == 0
        assert honest.is_answered(3)


def test_buffer_limit__answers_that_nobody_reads(loop: asyncio.AbstractEventLoop) -> None:
    """Each request is short, and its answer long: what waits is bounded all the same, and comes when it is read."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="256MiB", max_size="1GB")
    with connected(worker, begin=WIDE, room=0) as peer:
        rest = peer.transport.feed(b"".join(get(each, b"/?size=300kB") for each in range(1, 81, 2)))
        assert peer.used < 4 * MIB
        while rest or sum(each.ends for each in peer.frames) < 40:
            peer.transport.take(2 * MIB)
            rest = peer.transport.feed(rest)
            peer.new()
        assert [len(each.content) for each in peer.answers().values()] == [300_000] * 40
    assert worker.context.used == 0


def test_buffer_limit__pages_that_a_client_grants_nothing_for(loop: asyncio.AbstractEventLoop) -> None:
    """A hundred bytes ask for a page a thousand times as long: streams that would wait are refused at some time."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="256MiB", max_header="64KiB")
    big = (b"x", b"a" * 60_000)
    with connected(worker, begin=NO_WINDOW) as peer:
        for stream in range(1, 241, 2):
            payload = block(*fields(), big)
            peer.say(headers(stream, payload[:16384], flags=0) + frame(9, 0, stream, payload[16384:32768])
                     + frame(9, 0, stream, payload[32768:49152]) + frame(9, 4, stream, payload[49152:]))  # fmt: skip
        assert peer.used < 3 * MIB
        refused = [each for each in peer.frames if each.kind == RST_STREAM]
        assert refused
        assert {each.code for each in refused} == {REFUSED_STREAM}
        peer.say(settings((INITIAL_WINDOW_SIZE, MIB)) + window_update(0, 32 * MIB))
        assert peer.used == 0
        assert peer.is_answered(301)
    assert worker.context.used == 0


@pytest.mark.parametrize("sent", ["trailers", "header sections"])
def test_buffer_limit__what_a_block_stands_for_is_accounted_for(loop: asyncio.AbstractEventLoop, sent: str) -> None:
    """An HPACK bomb: a reference of one octet to 4000, 15 times in each block, for streams that wait."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="256MiB", max_header="64KiB")
    with connected(worker, begin=NO_WINDOW) as peer:
        peer.say(headers(1, block(*fields()) + block((b"x", b"a" * 3900), indexed=True)))
        bomb = b"\xbe" * 15
        for stream in range(3, 203, 2):
            if sent == "trailers":
                peer.say(post(stream) + data(stream, b"x") + headers(stream, bomb))
            else:
                peer.say(headers(stream, block(*fields(b"POST")) + bomb, ends=False) + data(stream, b"x"))
        kept = sum(58_000 for each in peer.connection.streams)
        assert kept < 3 * MIB
        assert peer.used > 0.9 * kept
    assert worker.context.used == 0


@TORN
def test_buffer_total__an_echo_that_would_be_too_much_is_503(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    worker = make(loop, buffer_limit="64KiB", buffer_total="64KiB")
    with connected(worker, begin=NO_WINDOW) as peer, connected(worker) as honest:
        for stream in (1, 3, 5, 7):
            peer.say(post(stream) + data(stream, bytes(16000)))
        peer.say(post(9) + data(9, bytes(1000)), torn=torn)
        assert worker.context.used < 128 * KIB
        assert honest.say(ping())
        peer.say(b"".join(map(rst, (1, 3, 5, 7))), torn=torn)
        assert honest.is_answered(1)


@pytest.mark.parametrize("path", [b"/?delay=1ms", b"/?status=201"])
def test_buffer_limit__uploads_that_wait_for_each_other(loop: asyncio.AbstractEventLoop, path: bytes) -> None:
    """Together they are more than may be kept, and none is answered before its end: some are, others get 503."""
    size = 40 * 16384
    worker = make(loop, buffer_limit="1MiB", buffer_total="64MiB")
    with connected(worker, begin=WIDE) as peer:
        left = dict.fromkeys(range(1, 13, 2), size)
        peer.say(b"".join(post(each, path) for each in left))
        granted = dict.fromkeys([0, *left], MIB)
        granted[0] = credited(peer.frames, 0) + WINDOW
        for _ in range(2000):
            for stream in [each for each in left if min(granted[0], granted[each]) >= 16384]:
                left[stream] -= 16384
                granted[0] -= 16384
                granted[stream] -= 16384
                peer.transport.feed(data(stream, CONTENT[:16384], ends=not left[stream]))
                for each in peer.new():
                    if each.kind == WINDOW_UPDATE:
                        granted[each.stream] += each.number
                left = {each: rest for each, rest in left.items() if rest and each in peer.connection.streams}
            peer.transport.pass_turn()
            for each in peer.new():
                if each.kind == WINDOW_UPDATE:
                    granted[each.stream] += each.number
            assert peer.used < 3 * MIB
            if not peer.connection.streams:
                break
        answers = peer.answers()
        assert all(each.ends for each in answers.values())
        assert {each.status for each in answers.values()} == {201 if b"201" in path else 200, 503}
        assert {len(each.content) for each in answers.values() if each.status != 503} == {size}
        assert peer.is_answered(99)
    assert worker.context.used == 0


# --- content in bulk: over a real socket ---


class Loopback:
    """A client over a real connection, whose loop drives both ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        self.loop, self.client = loop, client
        self.received = bytearray()

    def exchange(self, sent: bytes, done: int) -> list[Frame]:
        """Send all of it and read, until a stream has ended for each of so many, or the connection."""
        view, whole, ended = memoryview(sent), 0, 0
        while ended < done:
            with contextlib.suppress(BlockingIOError):
                view = view[self.client.send(view) :] if view else view
            with contextlib.suppress(BlockingIOError):
                got = self.client.recv(MIB)
                assert got, "closed"
                self.received += got
            while len(self.received) >= whole + 9 and len(self.received) >= (
                after := whole + 9 + int.from_bytes(self.received[whole : whole + 3], "big")
            ):
                kind, flags = self.received[whole + 3 : whole + 5]
                ended += kind in (DATA, HEADERS) and flags & 1
                assert kind not in (RST_STREAM, GOAWAY), self.received[whole:after]
                whole = after
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        found = split(bytes(self.received[:whole]))
        del self.received[:whole]
        return found


def content_of(frames: list[Frame], stream: int) -> bytes:
    return b"".join(each.payload for each in frames if each.kind == DATA and each.stream == stream)


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "no length"])
@pytest.mark.parametrize("size", [16384, 1000, 100], ids=lambda size: f"frames of {size}")
def test_rfc_9113_section_5_2_content_in_bulk_and_others_between(
    loop: asyncio.AbstractEventLoop, declared: bool, size: int
) -> None:
    """FrameReads: two large streams, and between their frames whole requests, PING, padding, and an empty frame."""
    worker = make(loop, buffer_limit="16MiB", buffer_total="256MiB")
    client, transport = over_loopback(worker, "http")
    length = [(b"content-length", b"%d" % len(CONTENT))] if declared else []
    with client:
        sent = [WIDE, post(1, b"/", *length), post(3, b"/", *length)]
        small = itertools.count(5, 2)
        others = []
        for number, start in enumerate(range(0, len(CONTENT), size)):
            piece = CONTENT[start : start + size]
            last = start + size >= len(CONTENT)
            sent += (
                data(1, piece, ends=last),
                data(3, piece, ends=last, padding=7 if number % 50 == 9 and size < 16384 else -1),
            )
            if number % 60 == 0:
                others.append(next(small))
                sent += whole(others[-1], b"small %d" % others[-1]), ping()
        peer = Loopback(loop, client)
        frames = peer.exchange(b"".join(sent), 2 + len(others))
        for stream in (1, 3):
            assert content_of(frames, stream) == CONTENT
        echoed = {each: b"small %d" % each for each in others}
        assert {each: content_of(frames, each) for each in others[::20]} == {
            each: echoed[each] for each in others[::20]
        }
        assert sum(len(each.payload) for each in frames if each.kind == DATA and each.stream > 3) == sum(
            map(len, echoed.values())
        )
    while not transport.is_closing() or worker.context.connections:
        loop.run_until_complete(asyncio.sleep(0))
    assert worker.context.used == 0


def test_header_timeout__counts_from_the_frame_that_is_torn_behind_content_in_bulk(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """And that beginning is accounted for."""
    worker = make(loop, header_timeout="10s", keep_alive_timeout="1h")
    client, transport = over_loopback(worker, "http")
    with client:
        peer = Loopback(loop, client)
        sent = [
            data(1, CONTENT[at : at + 16384], ends=at + 16384 >= len(CONTENT)) for at in range(0, len(CONTENT), 16384)
        ]
        worker.context.now += 60
        peer.exchange(b"".join([WIDE, post(1), *sent, get(3)[:20]]), 1)
        [connection] = worker.context.connections
        while not cast(Http2Connection, connection)._rest:
            loop.run_until_complete(asyncio.sleep(0))
        assert worker.context.used == 20
        sweep(worker, 5)
        assert not transport.is_closing()
        sweep(worker, 6)
        while worker.context.connections and not cast(Http2Connection, connection).closing:
            loop.run_until_complete(asyncio.sleep(0))
        assert worker.context.used == 0
    while not transport.is_closing() or worker.context.connections:
        loop.run_until_complete(asyncio.sleep(0))


def test_rfc_9113_section_5_2_content_in_bulk_of_one_that_reads_late(loop: asyncio.AbstractEventLoop) -> None:
    """All is sent before anything is read, as far as the server takes it."""
    worker = make(loop, buffer_limit="1MiB", buffer_total="256MiB")
    client, _ = over_loopback(worker, "http")
    with client:
        sent = WIDE + post(1) + b"".join(data(1, CONTENT[at : at + 16384]) for at in range(0, len(CONTENT), 16384))
        view, idle = memoryview(sent), 0
        while view and idle < 100:
            try:
                view, idle = view[client.send(view) :], 0
            except BlockingIOError:
                idle += 1
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert worker.context.used < 4 * MIB
        frames = Loopback(loop, client).exchange(bytes(view) + data(1, ends=True), 1)
        assert content_of(frames, 1) == CONTENT
    while worker.context.connections:
        loop.run_until_complete(asyncio.sleep(0))
    assert worker.context.used == 0


# --- half-close by FIN ---


@TORN
def test_rfc_9113_section_5_1_fin_what_is_complete_is_answered(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """What is not complete never will be, and nothing is answered to it."""
    with http2(loop) as peer:
        peer.say(
            get(1, b"/?delay=1ms") + post(3) + data(3, b"abc") + post(5, b"/?delay=1ms") + whole(7, b"x"), torn=torn
        )
        peer.transport.eof()
        peer.wait(DATA, 1)
        while not peer.transport.lost:
            peer.transport.pass_turn()
        assert [each for each, answer in peer.answers().items() if answer.ends] == [7, 1]


def test_rfc_9113_section_5_1_fin_while_what_came_waits_for_its_turn(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        requests = b"".join(get(each) for each in range(1, 4001, 2))
        assert peer.transport.feed(requests, turns=False) == b""
        peer.transport.eof()
        while not peer.transport.lost:
            peer.transport.pass_turn()
        assert sum(each.ends for each in peer.answers().values()) == 2000


@TORN
def test_rfc_9113_section_5_1_fin_at_once(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop) as peer:
        peer.say(get(1) + b"\0\0", torn=torn)
        peer.transport.eof()
        assert not peer.transport.open
        assert peer.answers()[1].ends
