"""Deadlines of HTTP/2 connections, PING, and how they end in a drain (RFC 9113 section 6.8).

Modules: protocols.http2.connection.
"""

import asyncio

import pytest

from tests.unit.http2_peer import (
    ACK,
    BEGIN,
    CANCEL,
    DATA,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MOST,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    Frame,
    block,
    data,
    fields,
    frame,
    get,
    headers,
    http2,
    ping,
    post,
    settings,
    whole,
    window_update,
)  # fmt: skip
from tests.unit.transport import begin_drain, sweep

TORN = pytest.mark.parametrize("torn", [False, True], ids=["whole", "byte by byte"])
NO_WINDOW = PREFACE + settings((INITIAL_WINDOW_SIZE, 0))
FIELDS = block(*fields())


OWED = {
    "the preface": (NO_ERROR, PREFACE[:20]),
    "the preface's SETTINGS": (NO_ERROR, PREFACE + settings()[:8]),
    "a block": (PROTOCOL_ERROR, BEGIN + headers(1, FIELDS, flags=0)),
    "a block, and a frame of it that has begun": (PROTOCOL_ERROR, BEGIN + headers(1, FIELDS, flags=0) + b"\0\0"),
    "a frame's header": (PROTOCOL_ERROR, BEGIN + b"\0\0\1"),
    "a frame": (PROTOCOL_ERROR, BEGIN + get(1) + get(3)[:-1]),
}


@TORN
@pytest.mark.parametrize(("code", "sent"), OWED.values(), ids=OWED)
def test_header_timeout__what_has_begun_must_end(
    loop: asyncio.AbstractEventLoop, code: int, sent: bytes, torn: bool
) -> None:
    with http2(loop, begin=b"", header_timeout="10s") as peer:
        peer.say(PREFACE[:18])
        peer.say(sent[18:], torn=torn)
        sweep(peer.worker, 9)
        assert peer.goaway is None
        sweep(peer.worker, 2)
        peer.new()
        assert peer.goaway is not None
        assert peer.goaway.code == code
        assert not peer.transport.open
        assert peer.worker.context.used == 0


def test_header_timeout__octet_by_octet_does_not_help(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop, header_timeout="10s") as peer:
        for octet in get(1, b"/" + b"x" * 50):
            peer.transport.feed(bytes([octet]))
            sweep(peer.worker, 1)
        peer.new()
        assert peer.goaway is not None
        assert not peer.answers()


def test_header_timeout__is_for_each_frame(loop: asyncio.AbstractEventLoop) -> None:
    """A busy connection may have the beginning of one at every sweep."""
    with http2(loop, header_timeout="3s") as peer:
        requests = [whole(each, b"hello") for each in range(1, 41, 2)]
        rest = b""
        for each in requests:
            peer.transport.feed(rest + each[:20])
            rest = each[20:]
            sweep(peer.worker, 2)
        peer.transport.feed(rest)
        assert sum(each.ends for each in peer.answers().values()) == 20


@TORN
def test_keep_alive_timeout__ends_what_is_idle(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, keep_alive_timeout="5s") as peer:
        peer.say(get(1) + post(3), torn=torn)
        sweep(peer.worker, 6)
        assert peer.goaway is None, "a stream is open"
        peer.say(data(3, ends=True), torn=torn)
        sweep(peer.worker, 4)
        assert peer.new() == []
        sweep(peer.worker, 2)
        [last] = peer.new()
        assert (last.kind, last.code, last.number) == (GOAWAY, NO_ERROR, 3)
        assert not peer.transport.open


@TORN
def test_idle_timeout__of_a_stream(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """408 where nothing is answered yet, CANCEL where the answer has begun; the connection and others go on."""
    with http2(loop, idle_timeout="5s", keep_alive_timeout="1h") as peer:
        peer.say(post(1) + post(3) + data(3, b"abc") + post(5, b"/?delay=1ms") + data(5, b"abc"), torn=torn)
        peer.say(get(7, b"/?delay=1h"), torn=torn)
        sweep(peer.worker, 0)
        sweep(peer.worker, 4)
        peer.say(post(9), torn=torn)
        sweep(peer.worker, 2)
        answers = peer.answers()
        assert (answers[1].status, answers[1].ends, answers[1].reset) == (408, True, -1)
        assert (answers[3].status, answers[3].content, answers[3].reset) == (200, b"abc", CANCEL)
        assert (answers[5].status, answers[5].ends) == (408, True)
        assert set(answers) == {1, 3, 5}, "it is the server that has to act, or there is time left"
        assert peer.say(data(1, b"x") + data(3, b"x") + data(5, b"x") + ping())[0].payload == b"01234567"
        assert peer.is_answered(11)
        sweep(peer.worker, 3)
        peer.new()
        assert (peer.answers()[1].reset, peer.answers()[5].reset) == (NO_ERROR, NO_ERROR)


@TORN
def test_idle_timeout__of_a_client_that_grants_nothing(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=NO_WINDOW, idle_timeout="5s") as peer:
        peer.say(whole(1, b"abc") + get(3, b"/?size=3"), torn=torn)
        peer.transport.pass_turn()
        sweep(peer.worker, 6)
        assert peer.answers()[1].reset == CANCEL
        assert peer.used == 0


def test_idle_timeout__of_a_client_that_reads_nothing(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop, room=0, idle_timeout="5s") as peer:
        peer.say(get(1))
        sweep(peer.worker, 6)
        sweep(peer.worker, 6)
        assert peer.transport.closing


@TORN
@pytest.mark.parametrize("busy", [False, True])
def test_http2_ping__a_client_that_does_not_answer(loop: asyncio.AbstractEventLoop, busy: bool, torn: bool) -> None:
    with http2(loop, http2_ping="5s") as peer:
        if busy:
            peer.say(get(1, b"/?delay=1h") + post(3), torn=torn)
        for _ in range(3):
            sweep(peer.worker, 4)
            assert peer.new() == []
            sweep(peer.worker, 2)
            [sent] = peer.new()
            assert (sent.kind, sent.flags, len(sent.payload)) == (PING, 0, 8)
            assert peer.say(frame(PING, ACK, 0, sent.payload), torn=torn) == []
        sweep(peer.worker, 6)
        assert peer.new()[0].kind == PING
        sweep(peer.worker, 4)
        assert peer.transport.open
        sweep(peer.worker, 2)
        assert peer.transport.closing


@TORN
def test_rfc_9113_section_6_8_a_drain_finishes_what_is_under_way(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """GOAWAY of 2^31 - 1 and PING; streams that were on their way are served; behind the PING the last one is told."""
    with http2(loop) as peer:
        peer.say(post(1) + data(1, b"abc") + get(3, b"/?delay=1ms") + post(5), torn=torn)
        begin_drain(peer.worker)
        first, pinged = peer.new()
        assert (first.kind, first.code, first.number) == (GOAWAY, NO_ERROR, MOST)
        assert pinged.kind == PING
        assert peer.is_answered(7, torn=torn)
        [second] = peer.say(frame(PING, ACK, 0, pinged.payload), torn=torn)
        assert (second.kind, second.code, second.number) == (GOAWAY, NO_ERROR, 7)
        assert [each.code for each in peer.say(get(9), torn=torn)] == [REFUSED_STREAM]
        peer.wait(DATA, 3)
        assert not peer.transport.ended
        peer.say(data(1, b"def", ends=True) + data(5, b"x"), torn=torn)
        peer.say(data(5, ends=True), torn=torn)
        assert [peer.answers()[each].content for each in (1, 5)] == [b"abcdef", b"x"]
        assert peer.transport.ended, "it was the last"
        assert sum(each.kind == GOAWAY for each in peer.frames) <= 3


@TORN
def test_rfc_9113_section_6_8_a_drain_of_a_client_that_does_not_answer_ping(
    loop: asyncio.AbstractEventLoop, torn: bool
) -> None:
    with http2(loop) as peer:
        peer.say(post(1), torn=torn)
        begin_drain(peer.worker)
        assert [each.kind for each in peer.new()] == [GOAWAY, PING]
        peer.connection._draining = peer.worker.context.now
        sweep(peer.worker, 1.5)
        [last] = peer.new()
        assert (last.kind, last.number) == (GOAWAY, 1)
        peer.say(data(1, b"x", ends=True), torn=torn)
        assert peer.answers()[1].content == b"x"
        assert not peer.transport.open


def test_rfc_9113_section_6_8_a_drain_of_one_that_is_idle(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        peer.say(get(1))
        begin_drain(peer.worker)
        sweep(peer.worker, 1.5)
        peer.new()
        assert peer.goaway is not None
        assert (peer.goaway.code, peer.goaway.number) == (NO_ERROR, 1)
        assert not peer.transport.open


@TORN
def test_rfc_9113_section_6_8_a_preface_within_a_drain(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """Who had connected before is served what it asks for at once, and told that there will not be more."""
    with http2(loop, begin=b"") as peer:
        peer.say(PREFACE)
        begin_drain(peer.worker)
        peer.say(settings() + get(1), torn=torn)
        assert peer.answers()[1].ends
        assert [each.number for each in peer.frames if each.kind == GOAWAY] == [MOST]
        assert Frame(SETTINGS, ACK, 0, b"") in peer.frames


@TORN
def test_rfc_9113_section_6_8_close_is_goaway(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """`?close` has no Connection field here: what is under way ends, and nothing new is taken."""
    with http2(loop) as peer:
        peer.say(post(1), torn=torn)
        frames = peer.say(get(3, b"/?close"), torn=torn)
        assert [(each.code, each.number) for each in frames if each.kind == GOAWAY] == [(NO_ERROR, 3)]
        assert b"connection" not in peer.answers()[3].fields
        peer.say(data(1, b"x", ends=True), torn=torn)
        assert peer.answers()[1].content == b"x"
        assert not peer.transport.open


@TORN
def test_rfc_9113_section_6_9_a_drain_waits_for_windows(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=NO_WINDOW) as peer:
        peer.say(whole(1, b"abc"), torn=torn)
        begin_drain(peer.worker)
        pinged = peer.new()[-1]
        peer.say(frame(PING, ACK, 0, pinged.payload), torn=torn)
        assert peer.transport.open
        peer.say(window_update(1, 3), torn=torn)
        assert peer.answers()[1].content == b"abc"
        assert not peer.transport.open
        assert {each.kind for each in peer.frames} >= {HEADERS, GOAWAY}
        assert RST_STREAM not in {each.kind for each in peer.frames}
