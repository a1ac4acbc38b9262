"""WebSocket against a transport in memory: any split of any frames, turns of the loop, memory, counters.

Modules: protocols.websocket.connection, wire.frames, wire.deflate.
"""

import asyncio
import gc
import inspect
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.observe import counters
from echoserver.protocols.websocket import connection as websocket
from echoserver.protocols.websocket.connection import WebSocketEcho
from echoserver.wire import frames
from echoserver.wire import request as messages
from echoserver.worker.worker import Worker
from tests.servers import request
from tests.unit.conversations import conversations, masks, pieces
from tests.unit.examples import examples
from tests.unit.transport import FakeTransport, http_echo, make
from tests.websockets import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    Deflate,
    Frame,
    close,
    echo,
    frame,
    large,
    split,
    upgrade,
)

MIB = 1 << 20
GET = request("GET / HTTP/1.1")


class Client(FakeTransport):
    """On a connection that has been upgraded; sent begins behind the 101."""

    def __init__(self, worker: Worker, *fields: str, room: int | None = None) -> None:
        super().__init__(http_echo(worker))
        self.worker = worker
        assert self.feed(upgrade(*fields)) == b""
        head, _, rest = bytes(self.sent).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert rest == b""
        self.sent.clear()
        self.room = room

    @property
    def protocol(self) -> WebSocketEcho:
        protocol = self.get_protocol()
        assert isinstance(protocol, WebSocketEcho)
        return protocol

    def feed_all(self, data: bytes) -> None:
        """As many turns as it takes."""
        assert not self.feed(data) or not self.open


# --- any split of any frames gives the same bytes ---


@examples(300)
@given(conversations(), st.lists(st.integers(0, 200_000), max_size=6))
def test_any_split_gives_the_same(
    loop: asyncio.AbstractEventLoop, conversation: tuple[bytes, bytes], cuts: list[int]
) -> None:
    sent, answered = conversation
    with Client(make(loop)) as client:
        for piece in pieces(sent, cuts):
            client.feed_all(piece)
        assert client.sent == answered
        assert client.protocol.buffered == 0
        client.feed_all(close())
        assert client.sent == answered + close(mask=None)
        assert client.ended
    assert client.worker.context.used == 0


@examples(60)
@given(
    st.lists(conversations(), min_size=1, max_size=4), st.lists(st.integers(0, 500_000), max_size=4),
    st.lists(st.integers(1000, 200_000), min_size=1, max_size=4), st.booleans(),
)  # fmt: skip
def test_a_client_that_reads_now_and_then_gets_the_same(
    loop: asyncio.AbstractEventLoop, said: list[tuple[bytes, bytes]], cuts: list[int], takes: list[int], pings: bool
) -> None:
    worker = make(loop, buffer_limit="64KiB")
    sent = b"".join(each for each, _ in said) + frame(PING, b"x") * (2500 * pings) + close()
    answered = b"".join(each for _, each in said) + echo(PONG, b"x") * (2500 * pings) + close(mask=None)
    with Client(worker, room=0) as client:
        taken = itertools.cycle(takes)
        for piece in pieces(sent, cuts):
            rest = piece
            for _ in range(2000):
                rest = client.feed(rest)
                if not rest:
                    break
                client.take(next(taken))
        for _ in range(2000):
            if client.ended:
                break
            client.take(next(taken))
        assert client.sent == answered
    assert worker.context.used == 0


@examples(300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.builds(
                frame, st.integers(0, 15), st.binary(max_size=130), st.booleans(), st.sampled_from([0, 0, 0, 1, 4]),
                masks | st.just(b"\0\0\0\0") | st.none(),
            ),
        ),
        max_size=6,
    ).map(b"".join),
    st.lists(st.integers(0, 1000), max_size=6),
    st.booleans(),
)  # fmt: skip
def test_whatever_comes_is_judged_the_same_however_it_comes(
    loop: asyncio.AbstractEventLoop, sent: bytes, cuts: list[int], deflate: bool
) -> None:
    worker = make(loop)
    got = []
    for parts in ([sent], pieces(sent, cuts), [bytes((byte,)) for byte in sent]):
        with Client(worker, *[DEFLATE] * deflate) as client:
            for part in parts:
                client.feed_all(part)
            got.append((bytes(client.sent), client.ended))
            split(bytes(client.sent))
        assert worker.context.used == 0
        assert worker.context.counts[counters.index("errors", "internal")] == 0
    assert got[0] == got[1] == got[2]


@examples(200)
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=12), st.booleans(), st.booleans())
def test_a_header_is_measured_or_refused(first: int, second: int, rest: bytes, deflate: bool, within: bool) -> None:
    data = bytes((first, second)) + rest
    try:
        measured = frames.measure(b"xyz" + data, 3, deflate=deflate, within=within)
    except frames.CloseError:
        with pytest.raises(frames.CloseError, match="1002"):  # whatever follows
            frames.measure(data + bytes(20), 0, deflate=deflate, within=within)
        return
    if measured is None:
        assert len(data) < 10
    else:
        size, length = measured
        assert size == {126: 8, 127: 14}.get(second & 127, 6)
        assert length < 1 << 63
        again = bytes((first, 0x80 | second & 127)) + data[2 : size - 4]
        assert frames.measure(again, 0, deflate=deflate, within=within) == measured


REASONS: dict[bytes, tuple[int, str]] = {
    frame(TEXT, b"x", mask=None): (1002, "client frames must be masked"),
    frame(TEXT, b"x", rsv=2): (1002, "the reserved bits RSV2 and RSV3 must be 0"),
    frame(TEXT, b"x", rsv=1): (1002, "the reserved bits RSV2 and RSV3 must be 0"),
    frame(PING, b"", rsv=4): (1002, "the reserved bit RSV1 must be 0 except in the first frame of a message"),
    frame(3): (1002, "opcode 3 is reserved: expected 0, 1, 2, 8, 9 or 10"),
    frame(PING, b"", fin=False): (1002, "control frames must not be fragmented"),
    frame(PING, bytes(126)): (1002, "control frames must have at most 125 bytes of payload"),
    frame(CONTINUATION, b"x"): (1002, "expected a new message, got a continuation frame"),
    frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"): (1002, "expected a continuation frame, got a new message"),
    b"\x82\xff\x80" + bytes(7): (1002, "the most significant bit of a 64-bit payload length must be 0"),
    frame(TEXT, b"\xff"): (1007, "a text message must be UTF-8"),
    frame(TEXT, b"\xc3"): (1007, "a text message must be UTF-8"),
    frame(TEXT, b"\xff", rsv=4): (1002, "a compressed message must be valid DEFLATE data (RFC 7692)"),
    frame(BINARY, bytes(1001)): (1009, "a message must have at most 1000 bytes (--max-message)"),
    frame(CLOSE, b"\3"): (1002, "a close frame must have a code of 2 bytes, or no payload"),
    **{
        frame(CLOSE, code.to_bytes(2, "big")): (
            1002,
            f"a close frame must not have the code {code}: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999",
        )
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    frame(CLOSE, b"\x03\xe8\xff"): (1007, "the reason in a close frame must be UTF-8"),
    frame(CLOSE, b"\x03\xe8\xc3"): (1007, "the reason in a close frame must be UTF-8"),
}


@pytest.mark.parametrize(("sent", "expected"), REASONS.items(), ids=map(str, range(len(REASONS))))
def test_a_close_says_what_was_wrong_and_what_is_expected(
    loop: asyncio.AbstractEventLoop, sent: bytes, expected: tuple[int, str]
) -> None:
    with Client(make(loop, max_message="1000"), DEFLATE) as client:
        client.feed_all(sent)
        (said,) = split(bytes(client.sent))
        assert (said.code, said.payload[2:].decode()) == expected
        assert client.ended
    assert len(said.payload) <= 125
    name = "content_too_long" if said.code == 1009 else "websocket"
    assert client.worker.context.counts[counters.index("errors", name)] == 1


@pytest.mark.parametrize("payload", [b"", *(code.to_bytes(2, "big") for code in (1000, 1003, 1007, 1014, 3000, 4999))])
def test_a_close_that_may_be_is_answered_with_itself(loop: asyncio.AbstractEventLoop, payload: bytes) -> None:
    with Client(make(loop)) as client:
        client.feed_all(frame(CLOSE, payload))
        (said,) = split(bytes(client.sent))
        assert (said.opcode, said.payload) == (CLOSE, payload)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 1 << 24])
def test_a_servers_header(length: int) -> None:
    assert frames.header(0x82, length) + bytes(length) == echo(BINARY, bytes(length))


@pytest.mark.parametrize("sequence", ["\x80", "\u0800", "\ud7ff", "\ue000", "\U00010000", "\U0010ffff", "aé€😀"])
def test_text_in_pieces(sequence: str) -> None:
    data, tail = sequence.encode(), b""
    for byte in data:
        tail = frames.check_text(tail, bytes((byte,)), final=False)
    assert tail == b""
    for end in range(1, len(data)):
        if data[end] & 0xC0 == 0x80:
            with pytest.raises(frames.CloseError):
                frames.check_text(b"", data[:end], final=True)


# --- the handshake, and what comes around it ---


def test_the_answer_to_the_rfcs_example(loop: asyncio.AbstractEventLoop) -> None:
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(upgrade())
        lines = bytes(client.sent).decode().split("\r\n")
        assert lines[0] == "HTTP/1.1 101 Switching Protocols"
        fields = dict(line.split(": ") for line in lines[1:-2])
        assert set(fields) == {
            "Server", "Date", "X-Served-By", "Upgrade", "Connection", "Sec-WebSocket-Accept",
        }  # fmt: skip
        assert fields["Sec-WebSocket-Accept"] == ACCEPT
        assert lines[-2:] == ["", ""]


LONG = [
    "x" + " " * 60_000 + "y",
    " " * 60_000,
    'x;a="' + "b" * 60_000,
    'x;a="' + "\\" * 60_000,
    "," * 60_000,
    "x;" * 30_000,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("value", LONG, ids=lambda value: repr(value[:8]))
@pytest.mark.parametrize("name", ["Extensions", "Protocol", "Key", "Version", "Foo"])
def test_long_fields_take_no_long_time(loop: asyncio.AbstractEventLoop, name: str, value: str) -> None:
    """It would be quadratic in their length: a regular expression has been."""
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(upgrade(f"Sec-WebSocket-{name}: {value}"))
        assert bytes(client.sent[:12]) in (b"HTTP/1.1 101", b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        (b"websocket", True), (b"WebSocket", True), (b"h2c,\twebsocket", True), (b"websocket/13", False),
        (b"x-websocket", False), (b"", False),
    ],
)  # fmt: skip
def test_what_asks_for_an_upgrade(value: bytes, listed: bool) -> None:
    def head(*fields: bytes) -> bytes:
        return b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *fields, b"", b""))

    for connection in (b"Connection: upgrade", b"Connection: close, Upgrade", b"Connection: a\r\nconnection: UPGRADE"):
        assert messages.read(head(b"Upgrade: " + value, connection)).upgrade == listed
        assert not messages.read(head(b"Upgrade: " + value, b"Connection: upgraded")).upgrade
        assert not messages.read(head(b"Upgrade: " + value)).upgrade
    assert messages.read(head(b"Upgrade: x", b"Upgrade: " + value, b"Connection: upgrade")).upgrade == listed


def test_what_waits_to_be_sent_is_sent_before(loop: asyncio.AbstractEventLoop) -> None:
    """Answers to requests before the upgrade that their client has not taken yet."""
    worker = make(loop)
    with FakeTransport(http_echo(worker), room=10) as client:
        client.feed(GET * 3 + upgrade() + frame(TEXT, b"hello"))
        assert worker.context.used > 0
        client.feed(frame(TEXT, b"again"))
        while client.get_write_buffer_size():
            client.take(100)
        got = bytes(client.sent)
        assert got.count(b"HTTP/1.1 200 OK") == 3
        assert got.index(b"HTTP/1.1 101") > got.rindex(b"HTTP/1.1 200")
        assert got.endswith(b"\r\n\r\n" + echo(TEXT, b"hello") + echo(TEXT, b"again"))
        assert worker.context.used == 0
        assert len(worker.context.connections) == 1


# --- turns of the loop ---


def test_bombs_are_inflated_a_step_a_turn(loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "TURN_SECONDS", 0.0)
    deflate = Deflate(takeover=False)
    bomb = frame(BINARY, deflate.deflate(bytes(4 * MIB)), rsv=4, mask=bytes(4))
    with Client(make(loop), DEFLATE + "; client_no_context_takeover") as client:
        assert client.feed(bomb * 5, turns=False) == b""
        turns = 0
        while not client.reading:
            turns += 1
            client.pass_turn()
        assert turns >= 5 * 4 * MIB / (64 << 10)
        assert split(bytes(client.sent)) == [Frame(BINARY, bytes(4 * MIB))] * 5, "over a MiB nothing is compressed"


@pytest.mark.parametrize("room", [1000, 10 * MIB])
def test_a_large_answers_buffer_is_used_again(loop: asyncio.AbstractEventLoop, room: int) -> None:
    """Also where it was still being sent when the message was complete, and another one came meanwhile."""
    worker = make(loop)
    message = large(BINARY, bytes(MIB))
    with Client(worker, room=room) as client:
        for _ in range(2):
            client.feed(message[:1000])
            client.feed(message[1000:])
        client.take(3 * MIB)
        assert client.sent == echo(BINARY, bytes(MIB)) * 2
        kept = worker.context.pool.take(MIB + 10)
        assert bytes(kept[:10]) == echo(BINARY, bytes(MIB))[:10]


def test_a_worker_is_under_pressure_no_longer_than_much_is_kept(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop, buffer_total="1MiB", buffer_limit="1MiB")
    message = large(BINARY, bytes(MIB))
    with Client(worker) as client:
        client.feed(message[: 600 << 10])
        assert worker.context.under_pressure
        client.feed(message[600 << 10 :])
        assert (worker.context.under_pressure, worker.context.used) == (False, 0)


@pytest.mark.parametrize("opcode", [PING, BINARY])
def test_what_there_is_no_time_for_has_its_turn_later(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, opcode: int
) -> None:
    monkeypatch.setattr(websocket, "TURN_SECONDS", 0.0)
    answer = PONG if opcode == PING else opcode
    with Client(make(loop)) as client:
        assert client.feed(frame(opcode, mask=bytes(4)) * 5000, turns=False) == b""
        answered = len(client.sent) // 2
        assert answered < 1000
        assert not client.reading
        assert client.protocol.buffered == 5000 * 6, "the read is kept, all of it"
        client.pass_turn()
        assert answered < len(client.sent) // 2 < 2000
        while not client.reading:
            client.pass_turn()
        client.feed_all(frame(TEXT, b"last"))
        assert client.sent == echo(answer, b"") * 5000 + echo(TEXT, b"last")


def test_a_close_within_what_is_left_for_later(loop: asyncio.AbstractEventLoop) -> None:
    with Client(make(loop)) as client:
        client.feed_all(frame(PING, mask=bytes(4)) * 3000 + close(1001) + frame(TEXT, b"write_queue"))
        assert client.sent == echo(PONG, b"") * 3000 + close(1001, mask=None)
        assert client.ended


INNER = frame(BINARY, b"hello")


@pytest.mark.parametrize(
    ("outer", "answer"),
    [
        (large(PING, INNER), echo(PONG, INNER)),
        (large(BINARY, INNER + b"!"), echo(BINARY, INNER + b"!")),
        (large(BINARY, INNER, fin=False) + frame(CONTINUATION), echo(BINARY, INNER)),
        (large(BINARY, INNER * 2, fin=False) + frame(CONTINUATION), echo(BINARY, INNER * 2)),
    ],
    ids=["a control frame", "a frame", "a fragment", "some of a fragment"],
)
def test_a_read_that_looks_like_a_short_message_and_is_within_another(
    loop: asyncio.AbstractEventLoop, outer: bytes, answer: bytes
) -> None:
    with Client(make(loop)) as client:
        for part in (outer[:6], outer[6 : 6 + len(INNER)], outer[6 + len(INNER) :]):
            client.feed_all(part)
        assert client.sent == answer


def test_large_messages_are_written_one_by_one(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they would be copied; all of a read that takes no long time is answered in one turn."""
    monkeypatch.setattr(websocket, "TURN_SECONDS", 60.0)
    with Client(make(loop)) as client:
        before = client.writes
        client.feed(large(BINARY, bytes(100_000)) * 2, turns=False)
        assert client.writes == before + 2
        assert client.reading
        assert client.sent == echo(BINARY, bytes(100_000)) * 2


def test_idle_timeout__no_message_is_answered_after_that_close(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop, idle_timeout="1s")
    with Client(worker) as client:
        client.feed_all(frame(TEXT, b"hello"))
        client.protocol.sweep(worker.context.now + 2)
        said = echo(TEXT, b"hello") + close(1001, b"idle timeout", mask=None)
        for part in (frame(TEXT, b"hello"), frame(TEXT, b"hello") * 2, frame(TEXT, b"hello"), frame(PONG)):
            client.feed_all(part)
            assert client.sent == said
        client.feed_all(close(1001))
        assert client.sent == said
        assert client.ended


# --- memory ---


def test_what_is_kept_is_what_has_come(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with Client(worker) as client:
        client.feed(large(BINARY, bytes(16 * MIB))[:100_000])
        assert worker.context.used == 100_000 - 14, "all but the header"
    assert worker.context.used == 0


def test_fragments_are_kept_as_one(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with Client(worker) as client:
        client.feed_all(frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"y", fin=False) * 3000)
        assert worker.context.used == 3001
        client.feed_all(frame(CONTINUATION, b"z"))
        assert client.sent == echo(BINARY, b"x" + b"y" * 3000 + b"z")
        assert worker.context.used == 0


@pytest.mark.parametrize("fragmented", [False, True])
def test_buffer_total__a_message_ends_where_too_much_is_kept(loop: asyncio.AbstractEventLoop, fragmented: bool) -> None:
    worker = make(loop, buffer_total="128KiB")
    with Client(worker) as other, Client(worker) as client:
        other.feed_all(large(BINARY, bytes(100_000))[:-1])
        if fragmented:
            client.feed_all(large(BINARY, bytes(50_000), fin=False))
        else:
            client.feed_all(large(BINARY, bytes(50_000))[:-1])
        (said,) = split(bytes(client.sent))
        assert said.code == 1013
        assert client.ended
        assert worker.context.used < 110_000
        other.feed_all(b"\0")
        assert other.sent == echo(BINARY, bytes(100_000))
    assert worker.context.used == 0


@pytest.mark.parametrize("last", [frame(0xF), close(1000)], ids=["an error", "a close"])
@pytest.mark.parametrize(
    "rest",
    [large(TEXT, bytes(99_000))[:-1], large(BINARY, bytes(99_000), fin=False), frame(PING, b"?"), frame(0xF), b"\x81"],
    ids=["a message", "a fragment", "a ping", "an error", "less than a header"],
)
def test_rfc_6455_section_5_5_1_what_comes_after_a_close_is_dropped(
    loop: asyncio.AbstractEventLoop, last: bytes, rest: bytes
) -> None:
    worker = make(loop, max_message="16MiB")
    counts = worker.context.counts
    with Client(worker) as client:
        client.feed_all(last)
        said, counted = bytes(client.sent), [*counts]
        assert client.feed(rest) == b""
        assert client.sent == said
        assert counts == counted
        assert client.protocol.idle(), "nothing of it is kept"
        assert worker.context.used == 0


@pytest.mark.parametrize("turn", [0.0, 0.0005])
def test_fin_behind_an_upgrade_that_waited_loses_no_message(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, turn: float
) -> None:
    monkeypatch.setattr("echoserver.protocols.websocket.connection.TURN_SECONDS", turn)
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(request("GET /?delay=1ms HTTP/1.1") + upgrade() + frame(BINARY, b"hello") * 3000)
        client.eof()
        while client.open:
            client.pass_turn()
        assert client.sent.count(echo(BINARY, b"hello")) == 3000


def test_fin_behind_an_upgrade_that_waited_loses_no_message_that_is_inflated(loop: asyncio.AbstractEventLoop) -> None:
    message = large(BINARY, Deflate(takeover=False).deflate(bytes(8 * MIB)), rsv=4)
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(request("GET /?delay=1ms HTTP/1.1") + upgrade(DEFLATE) + message)
        client.eof()
        while client.open:
            client.pass_turn()
        assert client.sent.endswith(echo(BINARY, bytes(8 * MIB)))


@pytest.mark.parametrize("sends", [False, True])
def test_idle_timeout__cuts_a_client_that_does_not_take_our_close(loop: asyncio.AbstractEventLoop, sends: bool) -> None:
    worker = make(loop, idle_timeout="60s")
    with Client(worker, room=0) as client:
        client.protocol.sweep(worker.context.now + 60)
        assert client.protocol.write_queue is not None, "the close waits"
        for _ in range(3):
            worker.context.now += 59
            client.protocol.sweep(worker.context.now)
            client.room = 1
            client.take(0)  # a byte of it: that is progress
            assert client.open
            client.protocol.sweep(worker.context.now)
        for _ in range(6):
            if sends and client.open:
                assert not client.feed(frame(BINARY, bytes(1000)))
            worker.context.now += 20
            if client.open:
                client.protocol.sweep(worker.context.now)
        assert not client.open


def test_rfc_6455_section_5_5_1_nothing_that_is_deflated_follows_our_close(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with Client(worker, DEFLATE) as client:
        message = large(BINARY, Deflate(takeover=False).deflate(bytes(MIB)), rsv=4)
        client.feed(message, turns=False)
        while client.protocol._assembly._message is not None or client.protocol._assembly.idle:
            client.pass_turn()
        client.protocol._leave("test")
        for _ in range(200):
            client.pass_turn()
        (said,) = split(bytes(client.sent))
        assert said.code == 1001
        assert worker.context.used == 0


@pytest.mark.parametrize("end", ["an error", "a close of ours", "a reset"])
def test_a_large_answers_buffer_is_used_again_however_it_ends(loop: asyncio.AbstractEventLoop, end: str) -> None:
    worker = make(loop)
    with Client(worker) as client:
        whole = large(BINARY, bytes(100_000))
        client.feed(whole[:-10])
        if end == "an error":
            client.protocol._fail(frames.CloseError(1002, "test"))
        elif end == "a close of ours":
            client.protocol._leave("test")
            client.feed(whole[-10:])
    assert sum(map(len, worker.context.pool._free.values())) == 1


def test_buffer_total__has_in_it_what_is_deflated_and_what_was_made_of_it(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    content = random.Random(1).randbytes(MIB)
    with Client(worker, DEFLATE) as client:
        rest = large(BINARY, Deflate(takeover=False).deflate(content), rsv=4)
        most = 0
        while not client.sent:
            rest = client.feed(rest, turns=False)
            client.pass_turn()
            if client.protocol._assembly._message is None:
                most = max(most, worker.context.used)
        assert most > 1.8 * MIB
        client.pass_turn()
        deflater = client.protocol._assembly._deflater
        assert deflater is not None
        assert memoryview(deflater._message.obj).nbytes == 0, "an idle connection has none of it"
        assert worker.context.used == 0


def test_a_refused_handshake_leaves_no_reference_to_its_connection(loop: asyncio.AbstractEventLoop) -> None:
    """Else what it has stays in memory until the garbage collector runs."""
    connection = http_echo(make(loop))
    with FakeTransport(connection) as client:
        client.feed(upgrade().replace(b"Version: 13", b"Version: 7"))
        assert b" 400 Bad Request" in client.sent
    del client
    assert [
        each for each in gc.get_referrers(connection) if inspect.isframe(each) and each.f_code.co_name == "_upgrade"
    ] == []


# --- counters ---


def test_what_is_counted(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    counts = worker.context.counts
    data = GET + upgrade() + frame(TEXT, b"hello")
    with FakeTransport(http_echo(worker)) as client:
        client.feed(data)
        assert counts[counters.index("requests", "2xx")] == 1
        assert counts[counters.index("requests", "1xx")] == 1
        assert counts[counters.index("connections_closed", "http")] == 1
        assert counts[counters.index("connections_opened", "websocket")] == 1
        client.feed(frame(0xF))
    assert counts[counters.index("connections_closed", "websocket")] == 1
    assert counts[counters.index("errors", "websocket")] == 1
    received = [counts[counters.index("received_bytes", each)] for each in ("http", "websocket")]
    assert received == [len(GET + upgrade()), len(frame(TEXT, b"hello") + frame(0xF))]
    assert sum(counts[counters.index("sent_bytes", each)] for each in ("http", "websocket")) == len(client.sent)
