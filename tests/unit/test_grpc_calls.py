"""gRPC calls in memory: messages torn in any way, deadlines, limits, and how calls end that are not answered whole.

Modules: protocols.http2.grpc, protocols.http2.tunnel, protocols.http2.taker.
"""

import asyncio

import pytest

from echoserver.protocols.http2.tunnel import Tunnel
from echoserver.transport.readers import SmallReads
from tests.unit.http2_peer import (
    CANCEL,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    PROTOCOL_ERROR,
    data,
    get,
    http2,
    post,
    rst,
    settings,
    window_update,
)
from tests.unit.transport import begin_drain, sweep

GRPC = (b"content-type", b"application/grpc")
WATCH = b"/grpc.health.v1.Health/Watch"
OK, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE = b"0", b"4", b"8", b"14"


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


def call(stream: int, *fields: tuple[bytes, bytes], path: bytes = b"/a.B/C") -> bytes:
    return post(stream, path, GRPC, *fields)


def in_frames(stream: int, content: bytes) -> bytes:
    """DATA of 16 KiB each, the last with the end."""
    starts = range(0, len(content), 16384)
    return b"".join(data(stream, content[each : each + 16384], ends=each + 16384 >= len(content)) for each in starts)


@pytest.mark.parametrize("first", [65_520, 65_529, 65_530, 65_531, 65_532, 65_536])
def test_what_is_before_a_message_may_be_torn_where_content_is_kept(
    loop: asyncio.AbstractEventLoop, first: int
) -> None:
    sent = message(bytes(first - 5)) + message(b"hello")
    begin = PREFACE + settings((INITIAL_WINDOW_SIZE, 1 << 20)) + window_update(0, 1 << 20)
    with http2(loop, begin=begin) as peer:
        peer.say(call(1, (b"x-echo", b"delay=1ms")) + in_frames(1, sent))
        peer.wait(HEADERS, 1)
        assert peer.answers()[1].content == sent
        assert peer.answers()[1].trailers[b"grpc-status"] == OK


def test_a_call_begins_with_its_header_section(loop: asyncio.AbstractEventLoop) -> None:
    """A client may wait for that before it sends anything."""
    with http2(loop) as peer:
        [begun] = peer.say(call(1))
        assert (begun.kind, begun.ends) == (HEADERS, False)
        peer.say(data(1, message(b"x"), ends=True))
        assert peer.answers()[1].trailers == {b"grpc-status": OK}


def test_a_deadline_that_is_said_twice_is_no_second_timer(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        peer.say(call(1, (b"grpc-timeout", b"1m"), (b"grpc-timeout", b"99999999H")))
        peer.wait(HEADERS, 1)
        assert peer.answers()[1].trailers[b"grpc-status"] == DEADLINE_EXCEEDED
        peer.say(rst(1))


def test_what_a_call_keeps_is_given_back_however_it_ends(loop: asyncio.AbstractEventLoop) -> None:
    long = (b"x-long", b"v" * 3000)
    path = b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    with http2(loop) as peer:
        for stream in range(1, 21, 2):
            peer.say(call(stream, long, path=path) + data(stream, b"\1\0\0\0\1x", ends=True))
            assert peer.answers()[stream].trailers[b"grpc-status"] == b"12"
        assert peer.used == 0
        peer.say(call(21, long, (b"x-echo", b"delay=1h")))
        assert peer.used > 3000
        peer.say(rst(21, CANCEL))
        assert peer.used == 0


def test_rfc_9113_section_4_2_a_frame_that_is_too_long_is_refused(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        last = peer.say(call(1) + data(1, message(bytes(20_000)), ends=True))[-1]
        assert (last.kind, last.code) == (GOAWAY, FRAME_SIZE_ERROR)


def test_rfc_9113_section_8_1_1_a_declared_length_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        peer.say(call(1, (b"content-length", b"3")) + data(1, message(b"hello"), ends=True))
        assert peer.answers()[1].reset == PROTOCOL_ERROR
        peer.say(call(3, (b"content-length", b"10")) + data(3, message(b"hello"), ends=True))
        assert peer.answers()[3].content == message(b"hello")


def test_max_body__a_call_has_as_little(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop, max_body="100") as peer:
        peer.say(call(1) + data(1, message(bytes(95)), ends=True) + call(3) + data(3, message(bytes(96)), ends=True))
        assert peer.answers()[1].trailers[b"grpc-status"] == OK
        assert peer.answers()[3].trailers[b"grpc-status"] == RESOURCE_EXHAUSTED


def test_idle_timeout__a_call_that_the_server_holds_up_is_not_idle(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop, idle_timeout="1s") as peer:
        peer.say(call(1, (b"x-echo", b"delay=1h")) + call(3, path=WATCH) + call(5))
        for _ in range(3):
            sweep(peer.worker, 2)
        assert peer.answers().keys() == {3, 5}
        assert not peer.answers()[3].ends
        assert peer.answers()[5].trailers[b"grpc-status"] == DEADLINE_EXCEEDED
        peer.say(rst(1) + rst(3))


def test_watch_ends_with_the_clients_fin_and_in_a_drain(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        peer.say(call(1, path=WATCH) + data(1, message(b""), ends=True))
        assert peer.answers()[1].content == message(b"\x08\x01")
        peer.worker.site.ready = False
        peer.connection.unready()
        begin_drain(peer.worker)
        assert peer.answers()[1].content == message(b"\x08\x01") + message(b"\x08\x02")
        assert peer.answers()[1].trailers[b"grpc-status"] == UNAVAILABLE
    with http2(loop) as peer:
        peer.say(call(1, path=WATCH) + data(1, message(b""), ends=True))
        peer.connection.eof_received()
        assert not peer.transport.open


def test_a_refused_call_does_not_go_on(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop, idle_timeout="1s") as peer:
        peer.say(call(1) + data(1, message(b"a")))
        for _ in range(2):
            sweep(peer.worker, 2)
        peer.say(data(1, message(b"b"), ends=True) + get(3))
        assert peer.answers()[1].content == message(b"a")
        assert peer.answers()[1].trailers[b"grpc-status"] == DEADLINE_EXCEEDED
        assert peer.answers()[3].ends


def test_a_tunnel_never_reads_into_the_workers_buffer(loop: asyncio.AbstractEventLoop) -> None:
    """Others' content may be on its way from there."""
    with http2(loop) as peer:
        connection = peer.connection
        tunnel = Tunnel.__new__(Tunnel)
        tunnel._protocol = connection
        tunnel.set_protocol(SmallReads(connection))
        assert tunnel.get_protocol() is connection
