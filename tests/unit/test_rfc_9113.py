"""RFC 9113, section by section: raw frames in, and what has to come back. Each case is named by its section.

Each is sent whole, and byte by byte. Where the connection goes on, a PING and a request on another stream show it.

Modules: protocols.http2.connection, protocols.http2.control, protocols.http2.output, protocols.http2.stream.
Modules: wire.http2_frames, wire.http2_reader.
"""

import asyncio

import pytest

from tests.unit.http2_peer import (
    ACK,
    BEGIN,
    CANCEL,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MOST,
    NO_ERROR,
    PADDED,
    PING,
    PONG,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW,
    WINDOW_UPDATE,
    Frame,
    block,
    data,
    fields,
    frame,
    get,
    headers,
    http2,
    indices,
    ping,
    post,
    rst,
    settings,
    whole,
    window_update,
)  # fmt: skip

TORN = [False, True]
SHOWN = ["whole", "byte by byte"]
WAITS = b"/?delay=1h"
"""A request for it is half-closed (remote) until its client goes away."""
FIELDS = block(*fields())
HALF = FIELDS[:20]
REST = FIELDS[20:]
BEGUN = headers(1, HALF, flags=0)
"""A field section that has not ended, of a request without content."""
CLOSED_BY_END, CLOSED_BY_RST = whole(1, b"x"), get(1, WAITS) + rst(1)
HALF_CLOSED = get(1, WAITS)
MANY = (b"x", bytes(20_000))
PRIORITY_OF_0 = bytes(4) + b"\x10"


def padded(flags: int, padding: int, payload: bytes, kind: int = HEADERS) -> bytes:
    return frame(kind, flags | PADDED, 1, bytes([padding]) + payload)


CONNECTION_ERRORS: dict[str, tuple[int, bytes]] = {
    # --- 4: frames ---
    "4.1: the reserved bit, and stream 0 behind it": (PROTOCOL_ERROR, frame(DATA, 0, 1 << 31, b"x")),
    "4.2: HEADERS longer than SETTINGS_MAX_FRAME_SIZE": (FRAME_SIZE_ERROR, headers(1, FIELDS + block(MANY))),
    "4.2: SETTINGS longer than that": (FRAME_SIZE_ERROR, settings(*[(99, 0)] * 3000)),
    "4.2: DATA longer than that": (FRAME_SIZE_ERROR, post(1) + data(1, bytes(16385), ends=True)),
    "4.2: DATA longer than that, of the length that was declared": (
        FRAME_SIZE_ERROR, post(1, b"/", (b"content-length", b"16385")) + data(1, bytes(16385), ends=True)
    ),
    "4.2: an unknown frame longer than that": (FRAME_SIZE_ERROR, frame(0x99, 0, 0, bytes(16385))),
    "4.2: DATA longer than that on a stream with large content": (
        FRAME_SIZE_ERROR, post(1) + data(1, bytes(16384)) + data(1, bytes(16385))
    ),
    "4.3: a block that can't be decoded": (COMPRESSION_ERROR, headers(1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff")),
    "4.3: a block that can't be decoded, of trailers": (COMPRESSION_ERROR, post(1) + headers(1, b"\x80")),
    "4.3: a block that ends in a string": (COMPRESSION_ERROR, headers(1, FIELDS + b"\0\5ab")),
    "4.3: an index that there is not": (COMPRESSION_ERROR, headers(1, FIELDS + indices(62))),
    "4.3: a table larger than it may be": (COMPRESSION_ERROR, headers(1, b"\x3f\xe2\x1f" + FIELDS)),
    "4.3: the table's size, behind a field": (COMPRESSION_ERROR, headers(1, FIELDS + b"\x20")),
    "4.3: PRIORITY within a block": (PROTOCOL_ERROR, BEGUN + frame(PRIORITY, 0, 1, PRIORITY_OF_0)),
    "4.3: DATA within a block": (PROTOCOL_ERROR, BEGUN + data(1, b"x")),
    "4.3: DATA of another stream within a block": (PROTOCOL_ERROR, post(1) + headers(3, HALF, flags=0) + data(1, b"x")),
    "4.3: PING within a block": (PROTOCOL_ERROR, BEGUN + ping()),
    "4.3: an unknown frame within a block": (PROTOCOL_ERROR, BEGUN + frame(0x99, 0, 1)),
    "4.3: HEADERS of another stream within a block": (PROTOCOL_ERROR, BEGUN + get(3)),
    "4.3: an ordinary request within a block": (PROTOCOL_ERROR, post(1) + headers(3, HALF, flags=0) + whole(5, b"x")),
    # --- 5.1: states ---
    "5.1: idle, DATA": (PROTOCOL_ERROR, data(1, b"x", ends=True)),
    "5.1: idle, RST_STREAM": (PROTOCOL_ERROR, rst(1)),
    "5.1: idle, WINDOW_UPDATE": (PROTOCOL_ERROR, window_update(1, 1)),
    "5.1: idle, CONTINUATION": (PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1, FIELDS)),
    "5.1: idle, behind one that is open": (PROTOCOL_ERROR, post(1) + data(3, b"x")),
    "5.1: idle, of the server's, DATA": (PROTOCOL_ERROR, get(3) + data(2, b"x")),
    "5.1: idle, of the server's, RST_STREAM": (PROTOCOL_ERROR, get(3) + rst(2)),
    "5.1: idle, of the server's, WINDOW_UPDATE": (PROTOCOL_ERROR, get(3) + window_update(2, 1)),
    "5.1: half-closed (remote), CONTINUATION": (
        PROTOCOL_ERROR, HALF_CLOSED + frame(CONTINUATION, END_HEADERS, 1, FIELDS)
    ),
    "5.1: closed by END_STREAM, HEADERS": (STREAM_CLOSED, CLOSED_BY_END + get(1)),
    "5.1: closed by END_STREAM, CONTINUATION": (
        PROTOCOL_ERROR, CLOSED_BY_END + frame(CONTINUATION, END_HEADERS, 1, FIELDS)
    ),
    "5.1: closed by RST_STREAM, HEADERS": (STREAM_CLOSED, CLOSED_BY_RST + get(1)),
    "5.1: closed by RST_STREAM, CONTINUATION": (
        PROTOCOL_ERROR, CLOSED_BY_RST + frame(CONTINUATION, END_HEADERS, 1, FIELDS)
    ),
    "5.1.1: an even number": (PROTOCOL_ERROR, get(2)),
    "5.1.1: an even number, with content": (PROTOCOL_ERROR, post(2)),
    "5.1.1: a number that is used, a smaller one": (STREAM_CLOSED, get(5) + get(3)),
    "5.1.1: a number that is used again": (STREAM_CLOSED, get(5) + get(5)),
    # --- 6: frames of each type ---
    "6.1: DATA on stream 0": (PROTOCOL_ERROR, data(0, b"x")),
    "6.1: as much padding as payload": (PROTOCOL_ERROR, post(1) + padded(0, 5, b"hell", DATA)),
    "6.1: more padding than payload": (PROTOCOL_ERROR, post(1) + padded(END_STREAM, 99, b"hello", DATA)),
    "6.1: no length of the padding": (FRAME_SIZE_ERROR, post(1) + frame(DATA, PADDED, 1)),
    "6.2: HEADERS on stream 0": (PROTOCOL_ERROR, get(0)),
    "6.2: more padding than payload": (PROTOCOL_ERROR, padded(END_HEADERS | END_STREAM, 255, FIELDS)),
    "6.2: as much padding as payload": (PROTOCOL_ERROR, padded(END_HEADERS | END_STREAM, 4, b"abc")),
    "6.2: no length of the padding": (FRAME_SIZE_ERROR, frame(HEADERS, END_HEADERS | PADDED, 1)),
    "6.2: no room for the priority": (FRAME_SIZE_ERROR, frame(HEADERS, END_HEADERS | PRIORITIZED, 1, b"abcd")),
    "6.2: no room for the priority beside padding": (
        FRAME_SIZE_ERROR, frame(HEADERS, END_HEADERS | PRIORITIZED | PADDED, 1, b"\1abcde")
    ),
    "6.3: PRIORITY on stream 0": (PROTOCOL_ERROR, frame(PRIORITY, 0, 0, PRIORITY_OF_0)),
    "6.3: PRIORITY of 4 octets on an idle stream, which can't be reset": (
        FRAME_SIZE_ERROR, frame(PRIORITY, 0, 7, bytes(4))
    ),
    "6.3: PRIORITY of 6 octets on a stream that is none of the client's": (
        FRAME_SIZE_ERROR, get(5) + frame(PRIORITY, 0, 2, bytes(6))
    ),
    "6.4: RST_STREAM on stream 0": (PROTOCOL_ERROR, rst(0)),
    "6.4: RST_STREAM of 3 octets": (FRAME_SIZE_ERROR, post(1) + frame(RST_STREAM, 0, 1, bytes(3))),
    "6.4: RST_STREAM of 5 octets": (FRAME_SIZE_ERROR, post(1) + frame(RST_STREAM, 0, 1, bytes(5))),
    "6.5: SETTINGS with ACK and a payload": (FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, bytes(6))),
    "6.5: SETTINGS on a stream": (PROTOCOL_ERROR, post(1) + frame(SETTINGS, 0, 1)),
    "6.5: SETTINGS with ACK on a stream": (PROTOCOL_ERROR, post(1) + frame(SETTINGS, ACK, 1)),
    "6.5: SETTINGS of 7 octets": (FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, bytes(7))),
    "6.5: SETTINGS of 3 octets": (FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, bytes(3))),
    "6.5.2: SETTINGS_ENABLE_PUSH of 2": (PROTOCOL_ERROR, settings((2, 2))),
    "6.5.2: SETTINGS_INITIAL_WINDOW_SIZE of 2^31": (FLOW_CONTROL_ERROR, settings((INITIAL_WINDOW_SIZE, 1 << 31))),
    "6.5.2: SETTINGS_MAX_FRAME_SIZE of 2^14 - 1": (PROTOCOL_ERROR, settings((5, 16383))),
    "6.5.2: SETTINGS_MAX_FRAME_SIZE of 2^24": (PROTOCOL_ERROR, settings((5, 1 << 24))),
    "6.5.2: the second of two is wrong": (PROTOCOL_ERROR, settings((2, 0), (2, 2))),
    "6.6: PUSH_PROMISE": (PROTOCOL_ERROR, post(1) + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + FIELDS)),
    "6.7: PING on a stream": (PROTOCOL_ERROR, post(1) + frame(PING, 0, 1, bytes(8))),
    "6.7: PING of 6 octets": (FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(6))),
    "6.7: PING of 9 octets": (FRAME_SIZE_ERROR, frame(PING, 0, 0, bytes(9))),
    "6.7: PING with ACK of 7 octets": (FRAME_SIZE_ERROR, frame(PING, ACK, 0, bytes(7))),
    "6.8: GOAWAY on a stream": (PROTOCOL_ERROR, post(1) + frame(GOAWAY, 0, 1, bytes(8))),
    "6.8: GOAWAY of 7 octets": (FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, bytes(7))),
    "6.9: WINDOW_UPDATE of 0 for the connection": (PROTOCOL_ERROR, window_update(0, 0)),
    "6.9: WINDOW_UPDATE of 0 behind the reserved bit": (PROTOCOL_ERROR, window_update(0, 1 << 31)),
    "6.9: WINDOW_UPDATE of 3 octets": (FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, bytes(3))),
    "6.9: WINDOW_UPDATE of 5 octets, for a stream": (FRAME_SIZE_ERROR, post(1) + frame(WINDOW_UPDATE, 0, 1, bytes(5))),
    "6.9.1: the connection's window beyond 2^31 - 1": (FLOW_CONTROL_ERROR, window_update(0, MOST)),
    "6.9.1: likewise, in two steps": (
        FLOW_CONTROL_ERROR, window_update(0, MOST - WINDOW) + window_update(0, 1)
    ),
    "6.9.2: SETTINGS takes a stream's window beyond 2^31 - 1": (
        FLOW_CONTROL_ERROR, post(1) + window_update(1, MOST - WINDOW) + settings((INITIAL_WINDOW_SIZE, WINDOW + 1))
    ),
    "6.10: CONTINUATION behind END_HEADERS": (
        PROTOCOL_ERROR, headers(1, FIELDS) + frame(CONTINUATION, END_HEADERS, 1, FIELDS)
    ),
    "6.10: CONTINUATION behind CONTINUATION with END_HEADERS": (
        PROTOCOL_ERROR, BEGUN + frame(CONTINUATION, END_HEADERS, 1, REST) + frame(CONTINUATION, END_HEADERS, 1)
    ),
    "6.10: CONTINUATION behind DATA": (PROTOCOL_ERROR, post(1) + data(1, b"x") + frame(CONTINUATION, 4, 1, FIELDS)),
    "6.10: CONTINUATION on stream 0": (PROTOCOL_ERROR, BEGUN + frame(CONTINUATION, END_HEADERS, 0, REST)),
    "6.10: CONTINUATION of another stream": (PROTOCOL_ERROR, BEGUN + frame(CONTINUATION, END_HEADERS, 3, REST)),
    "10.5.1: a field section that is many times as long as it may be": (
        ENHANCE_YOUR_CALM, headers(1, block((b"x", b"a" * 3900), indexed=True) + indices(62) * 99)
    ),
    "10.5: a block in too many frames": (ENHANCE_YOUR_CALM, BEGUN + frame(CONTINUATION, 0, 1) * 99),
}  # fmt: skip


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize(("code", "sent"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_rfc_9113_section_what_is_a_connection_error(
    loop: asyncio.AbstractEventLoop, code: int, sent: bytes, torn: bool
) -> None:
    """Section 5.4.1: GOAWAY with the code is the last that is sent."""
    with http2(loop) as peer:
        frames = peer.say(sent, torn=torn)
        assert (frames[-1].kind, frames[-1].code) == (GOAWAY, code)
        assert peer.say(ping() + get(99), torn=torn) == []
        assert not peer.transport.open
        peer.answers()


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_5_4_1_goaway_says_the_last_stream_and_why(
    loop: asyncio.AbstractEventLoop, torn: bool
) -> None:
    with http2(loop) as peer:
        last = peer.say(get(1) + whole(7, b"x") + data(9), torn=torn)[-1]
        assert (last.kind, last.code, last.number) == (GOAWAY, PROTOCOL_ERROR, 7)
        assert b"idle" in last.payload[8:]
        assert [peer.answers()[each].status for each in (1, 7)] == [200, 200]


OPEN = post(1)
TRAILERS = block((b"a", b"b"))

STREAM_ERRORS: dict[str, tuple[int, bytes]] = {
    "5.1: half-closed (remote), DATA": (STREAM_CLOSED, HALF_CLOSED + data(1, b"x", ends=True)),
    "5.1: half-closed (remote), HEADERS": (STREAM_CLOSED, HALF_CLOSED + headers(1, TRAILERS)),
    "5.1: closed by END_STREAM, DATA": (STREAM_CLOSED, HALF_CLOSED + data(1)),
    "5.1: closed by RST_STREAM, DATA": (STREAM_CLOSED, CLOSED_BY_RST + data(1, b"x")),
    "5.3.1: HEADERS that depend on themselves": (
        PROTOCOL_ERROR, headers(1, b"\0\0\0\1\x10" + FIELDS, flags=END_HEADERS | PRIORITIZED)
    ),
    "5.3.1: PRIORITY that depends on itself": (PROTOCOL_ERROR, OPEN + frame(PRIORITY, 0, 1, b"\0\0\0\1\x10")),
    "6.3: PRIORITY of 4 octets": (FRAME_SIZE_ERROR, OPEN + frame(PRIORITY, 0, 1, bytes(4))),
    "6.3: PRIORITY of 6 octets": (FRAME_SIZE_ERROR, OPEN + data(1, b"x") + frame(PRIORITY, 0, 1, bytes(6))),
    "6.9: WINDOW_UPDATE of 0": (PROTOCOL_ERROR, OPEN + window_update(1, 0)),
    "6.9: WINDOW_UPDATE of 0, half-closed (remote)": (PROTOCOL_ERROR, HALF_CLOSED + window_update(1, 0)),
    "6.9.1: the stream's window beyond 2^31 - 1": (FLOW_CONTROL_ERROR, OPEN + window_update(1, MOST)),
    "6.9.1: likewise, in two steps": (
        FLOW_CONTROL_ERROR, OPEN + window_update(1, MOST - WINDOW) + window_update(1, 1)
    ),
    "8.1: a second HEADERS without END_STREAM": (PROTOCOL_ERROR, OPEN + headers(1, TRAILERS, ends=False)),
    "8.1: likewise, behind content": (PROTOCOL_ERROR, OPEN + data(1, b"x") + headers(1, TRAILERS, ends=False)),
    "8.1: a pseudo-field in trailers": (PROTOCOL_ERROR, OPEN + data(1, b"x") + headers(1, block((b":method", b"GET")))),
    "8.1: a status in trailers": (PROTOCOL_ERROR, OPEN + data(1, b"x") + headers(1, block((b":status", b"200")))),
    "8.2.1: a name in capitals in trailers": (PROTOCOL_ERROR, OPEN + headers(1, block((b"X", b"a")))),
    "8.2.2: Connection in trailers": (PROTOCOL_ERROR, OPEN + headers(1, block((b"connection", b"close")))),
    "8.1.1: less content than was declared": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"5")) + data(1, b"hell", ends=True)
    ),
    "8.1.1: more content than was declared": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"5")) + data(1, b"hello,", ends=True)
    ),
    "8.1.1: more content than was declared, in several frames": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"5")) + data(1, b"hel") + data(1, b"lo,", ends=True)
    ),
    "8.1.1: less content than was declared, and trailers": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"5")) + data(1, b"hell") + headers(1, TRAILERS)
    ),
    "8.1.1: content that was declared, and trailers only": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"5")) + headers(1, TRAILERS)
    ),
    "8.1.1: content where none was declared": (
        PROTOCOL_ERROR, post(1, b"/", (b"content-length", b"0")) + data(1, b"x", ends=True)
    ),
}  # fmt: skip


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize(("code", "sent"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_rfc_9113_section_what_is_a_stream_error(
    loop: asyncio.AbstractEventLoop, code: int, sent: bytes, torn: bool
) -> None:
    """Section 5.4.2: RST_STREAM with the code, once, and the connection goes on."""
    with http2(loop) as peer:
        resets = [each for each in peer.say(sent, torn=torn) if each.kind == RST_STREAM]
        assert [(each.stream, each.code) for each in resets] == [(1, code)]
        assert peer.say(ping(), torn=torn) == [PONG]
        assert peer.is_answered(99, torn=torn)
        assert not peer.answers()[1].ends
        assert peer.connection.idle()


A = (b"x", b"a")
MALFORMED: dict[str, bytes] = {
    "8.2.1: a name in capitals": block(*fields(), (b"X-A", b"b")),
    "8.2.1: a name without octets": block(*fields(), (b"", b"b")),
    "8.2.1: a blank in a name": block(*fields(), (b"a b", b"b")),
    "8.2.1: a colon in a name": block(*fields(), (b"a:b", b"b")),
    "8.2.1: a control character in a name": block(*fields(), (b"a\x7f", b"b")),
    "8.2.1: an octet beyond ASCII in a name": block(*fields(), (b"a\xe9", b"b")),
    "8.2.1: CR in a value": block(*fields(), (b"a", b"b\rc")),
    "8.2.1: LF in a value": block(*fields(), (b"a", b"b\nc")),
    "8.2.1: CR LF and another field in a value": block(*fields(), (b"a", b"b\r\nc: d")),
    "8.2.1: NUL in a value": block(*fields(), (b"a", b"b\0")),
    "8.2.1: a blank before a value": block(*fields(), (b"a", b" b")),
    "8.2.1: a tab behind a value": block(*fields(), (b"a", b"b\t")),
    "8.2.1: LF in a path": block(*fields(b"GET", b"/\n")),
    "8.2.1: a blank in a path": block(*fields(b"GET", b"/ a")),
    "8.2.1: a blank in a method": block(*fields(b"GET /")),
    "8.2.2: Connection": block(*fields(), (b"connection", b"keep-alive")),
    "8.2.2: Proxy-Connection": block(*fields(), (b"proxy-connection", b"keep-alive")),
    "8.2.2: Keep-Alive": block(*fields(), (b"keep-alive", b"timeout=5")),
    "8.2.2: Transfer-Encoding": block(*fields(), (b"transfer-encoding", b"chunked")),
    "8.2.2: Upgrade": block(*fields(), (b"upgrade", b"h2c")),
    "8.2.2: TE other than trailers": block(*fields(), (b"te", b"trailers, deflate")),
    "8.3: an unknown pseudo-field": block(*fields(), (b":test", b"ok")),
    "8.3: a pseudo-field of responses": block(*fields(), (b":status", b"200")),
    "8.3: a pseudo-field behind another field": block(*fields()[:3], A, fields()[3]),
    "8.3: :path behind another field": block(fields()[0], fields()[1], A, fields()[2]),
    "8.3.1: :path without octets": block(*fields(b"GET", b"")),
    "8.3.1: :path without a slash": block(*fields(b"GET", b"a")),
    "8.3.1: no :method": block(*fields()[1:]),
    "8.3.1: no :scheme": block(fields()[0], *fields()[2:]),
    "8.3.1: no :path": block(*fields()[:2], fields()[3]),
    "8.3.1: :method twice": block(fields()[0], *fields()),
    "8.3.1: :scheme twice": block(fields()[1], *fields()),
    "8.3.1: :path twice": block(fields()[2], *fields()),
    "8.3.1: :authority twice": block(fields()[3], *fields()),
    "8.3.1: :scheme that is none": block((b":method", b"GET"), (b":scheme", b"1://"), (b":path", b"/")),
    "8.3.1: nothing at all": b"",
    "8.1.1: content-length that is no number": block(*fields(), (b"content-length", b"1x")),
    "8.1.1: content-length with a sign": block(*fields(), (b"content-length", b"+1")),
    "8.1.1: several that differ": block(*fields(), (b"content-length", b"1"), (b"content-length", b"2")),
    "8.5: CONNECT with :scheme": block((b":method", b"CONNECT"), (b":scheme", b"http"), (b":authority", b"a:1")),
    "8.5: CONNECT with :path": block((b":method", b"CONNECT"), (b":path", b"/"), (b":authority", b"a:1")),
    "8.5: CONNECT without :authority": block((b":method", b"CONNECT")),
    "8.5: CONNECT to nothing": block((b":method", b"CONNECT"), (b":authority", b"")),
}  # fmt: skip


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize("ends", [True, False], ids=["", "with content"])
@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_rfc_9113_section_what_is_malformed(
    loop: asyncio.AbstractEventLoop, sent: bytes, ends: bool, torn: bool
) -> None:
    """Section 8.1.1: a stream error; before it this server says with 400 what is wrong."""
    with http2(loop) as peer:
        frames = peer.say(headers(1, sent, ends=ends), torn=torn)
        assert [each.code for each in frames if each.kind == RST_STREAM] == [PROTOCOL_ERROR]
        answer = peer.answers()[1]
        assert (answer.status, answer.ends, answer.reset) == (400, True, PROTOCOL_ERROR)
        assert answer.content.startswith(b"400 Bad Request: ")
        if not ends:
            assert peer.say(data(1, b"x", ends=True), torn=torn) == [], "what was on its way is ignored"
        assert peer.say(ping(), torn=torn) == [PONG]
        assert peer.is_answered(99, torn=torn)


def test_rfc_9113_section_8_1_1_nothing_is_sent_behind_rst_stream(loop: asyncio.AbstractEventLoop) -> None:
    """Where the client's window is closed, the 400 waits, and the reset behind it."""
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 0))) as peer:
        frames = peer.say(headers(1, block(*fields(), (b"A", b"b")), ends=False) + data(1, b"x"))
        assert [each.kind for each in frames] == [HEADERS]
        frames = peer.say(window_update(1, 1000))
        assert [each.kind for each in frames if each.stream == 1] == [DATA, RST_STREAM]
        assert b"x" not in peer.answers()[1].content.rpartition(b"\n")[2]
        assert peer.connection.idle()


REFUSED: dict[str, tuple[int, bytes]] = {
    "8.3.1: neither :authority nor Host": (400, headers(1, block(*fields()[:3]))),
    "8.3.1: :authority with a user": (
        400, headers(1, block(*fields()[:3], (b":authority", b"user@x")))
    ),
    "8.3.1: Host that differs from :authority": (400, get(1, b"/", (b"host", b"y"))),
    "8.3.1: the asterisk for GET": (400, get(1, b"*")),
    "8.5: CONNECT": (501, headers(1, block((b":method", b"CONNECT"), (b":authority", b"a:1")))),
    "10.5.1: a header section that is too long": (431, get(1, b"/", *[(b"x", b"a" * 8000)] * 2, (b"y", b"a" * 300))),
}  # fmt: skip


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize(("status", "sent"), REFUSED.values(), ids=REFUSED)
def test_rfc_9113_section_what_is_refused_and_well_formed(
    loop: asyncio.AbstractEventLoop, status: int, sent: bytes, torn: bool
) -> None:
    with http2(loop, max_header="16000") as peer:
        peer.say(sent, torn=torn)
        answer = peer.answers()[1]
        assert (answer.status, answer.ends, answer.reset) == (status, True, -1)
        assert peer.say(ping(), torn=torn) == [PONG]
        assert peer.is_answered(99, torn=torn)


ECHO = b"GET / HTTP/2\r\nhost: x\r\n\r\n"
HELLO = b"hello"
PRIORITIES = b"\0\0\0\3\xff"

TAKEN: dict[str, tuple[bytes, bytes]] = {
    "4.1: a frame of an unknown type": (frame(0x99, 0xFF, 0, b"abc") + get(1), ECHO),
    "4.1: a frame of an unknown type on a stream": (
        OPEN + frame(0x99, 0xFF, 1, b"abc") + data(1, HELLO, ends=True),
        HELLO,
    ),
    "4.1: unknown flags": (OPEN + frame(DATA, 0xF6 | END_STREAM, 1, HELLO), HELLO),
    "4.1: unknown flags of HEADERS": (headers(1, FIELDS, flags=END_HEADERS | 0xD2), ECHO),
    "4.1: the reserved bit of HEADERS": (get(1 | 1 << 31), ECHO),
    "4.1: the reserved bit of DATA": (OPEN + data(1 | 1 << 31, HELLO, ends=True), HELLO),
    "4.2: DATA of SETTINGS_MAX_FRAME_SIZE": (OPEN + data(1, bytes(16384), ends=True), bytes(16384)),
    "4.2: likewise, of a declared length": (
        post(1, b"/", (b"content-length", b"16384")) + data(1, bytes(16384), ends=True),
        bytes(16384),
    ),
    "4.3: the table's size, twice, and fields": (headers(1, b"\x20\x3f\xe1\x1f" + FIELDS), ECHO),
    "5.1: idle, PRIORITY": (frame(PRIORITY, 0, 9, PRIORITIES) + get(1), ECHO),
    "5.1: idle, of the server's, PRIORITY": (frame(PRIORITY, 0, 2, PRIORITIES) + get(1), ECHO),
    "5.1: open, PRIORITY": (OPEN + frame(PRIORITY, 0, 1, PRIORITIES) + data(1, HELLO, ends=True), HELLO),
    "5.1: open, WINDOW_UPDATE": (OPEN + window_update(1, 5) + data(1, HELLO, ends=True), HELLO),
    "5.1: closed, PRIORITY": (get(1) + frame(PRIORITY, 0, 1, PRIORITIES), ECHO),
    "5.1: closed, WINDOW_UPDATE": (get(1) + window_update(1, 5), ECHO),
    "5.1: closed, WINDOW_UPDATE of 0": (get(1) + window_update(1, 0), ECHO),
    "5.1: closed, RST_STREAM": (get(1) + rst(1), ECHO),
    "5.3.2: HEADERS with a priority": (headers(1, PRIORITIES + FIELDS, flags=END_HEADERS | PRIORITIZED), ECHO),
    "5.5: PRIORITY_UPDATE": (frame(0x10, 0, 0, b"\0\0\0\1u=1, i") + get(1), ECHO),
    "6.1: DATA without octets": (OPEN + data(1, HELLO) + data(1, ends=True), HELLO),
    "6.1: DATA without octets, and nothing else": (OPEN + data(1, ends=True), b""),
    "6.1: padding": (OPEN + data(1, HELLO, padding=255, ends=True), HELLO),
    "6.1: padding of no octets": (OPEN + data(1, HELLO, padding=0, ends=True), HELLO),
    "6.1: padding and no content": (OPEN + data(1, padding=9) + data(1, HELLO, ends=True), HELLO),
    "6.1: padding, and END_STREAM later": (OPEN + data(1, HELLO, padding=1) + data(1, padding=5, ends=True), HELLO),
    "6.2: padding": (padded(END_HEADERS | END_STREAM, 3, FIELDS + bytes(3)), ECHO),
    "6.2: padding and priority": (padded(END_HEADERS | END_STREAM | 32, 3, PRIORITIES + FIELDS + bytes(3)), ECHO),
    "6.5: SETTINGS that are unknown": (settings((0xFF, 1), (0, 2)) + get(1), ECHO),
    "6.5: SETTINGS of nothing": (settings() + get(1), ECHO),
    "6.5: SETTINGS with ACK": (frame(SETTINGS, ACK) + get(1), ECHO),
    "6.5.2: SETTINGS_ENABLE_PUSH": (settings((2, 1), (2, 0)) + get(1), ECHO),
    "6.5.2: SETTINGS_MAX_FRAME_SIZE": (settings((5, 16384), (5, (1 << 24) - 1)) + get(1), ECHO),
    "6.5.2: SETTINGS_HEADER_TABLE_SIZE of 0": (settings((1, 0)) + get(1), ECHO),
    "6.7: PING with ACK": (frame(PING, ACK, 0, bytes(8)) + get(1), ECHO),
    "6.8: GOAWAY, with a reason": (OPEN + frame(GOAWAY, 0, 0, bytes(8) + b"bye") + data(1, HELLO, ends=True), HELLO),
    "6.9: WINDOW_UPDATE to 2^31 - 1": (window_update(0, MOST - WINDOW) + get(1), ECHO),
    "6.9: the reserved bit of WINDOW_UPDATE": (window_update(0, 1 | 1 << 31) + get(1), ECHO),
    "6.10: CONTINUATION": (BEGUN + frame(CONTINUATION, END_HEADERS, 1, REST), ECHO),
    "6.10: CONTINUATION twice": (
        BEGUN + frame(CONTINUATION, 0, 1, REST[:9]) + frame(CONTINUATION, 4, 1, REST[9:]),
        ECHO,
    ),
    "6.10: CONTINUATION without octets": (BEGUN + frame(CONTINUATION, 0, 1) + frame(CONTINUATION, 4, 1, REST), ECHO),
    "6.10: CONTINUATION of a request with content": (
        headers(1, HALF, ends=False, flags=0) + frame(CONTINUATION, END_HEADERS, 1, REST) + data(1, HELLO, ends=True),
        HELLO,
    ),
    "7: an unknown error code": (get(1) + rst(1, 0xFFFFFFFF), ECHO),
    "7: an unknown error code of GOAWAY": (frame(GOAWAY, 0, 0, bytes(4) + b"\xff" * 4) + get(1), ECHO),
    "8.1: trailers": (OPEN + data(1, HELLO) + headers(1, TRAILERS), HELLO),
    "8.1: trailers and no content": (OPEN + headers(1, TRAILERS), b""),
    "8.1: trailers in CONTINUATION": (
        OPEN + data(1, HELLO) + headers(1, b"", flags=0) + frame(9, 4, 1, TRAILERS),
        HELLO,
    ),
    "8.1.1: content-length, and several frames": (
        post(1, b"/", (b"content-length", b"5")) + data(1, b"he") + data(1, b"llo") + data(1, ends=True),
        HELLO,
    ),
    "8.1.1: content-length of 0, and DATA": (post(1, b"/", (b"content-length", b"0")) + data(1, ends=True), b""),
    "8.2.2: TE of trailers": (post(1, b"/", (b"te", b"trailers")) + data(1, HELLO, ends=True), HELLO),
    "8.3.1: :authority and the same Host": (post(1, b"/", (b"host", b"X")) + data(1, HELLO, ends=True), HELLO),
    "8.3.1: Host alone": (
        headers(1, block(*fields(b"POST")[:3], (b"host", b"x")), ends=False) + data(1, HELLO, ends=True),
        HELLO,
    ),
    "8.3.1: https, and a scheme of one's own": (
        headers(1, block((b":method", b"PUT"), (b":scheme", b"a+b"), *fields()[2:]), ends=False)
        + data(1, HELLO, ends=True),
        HELLO,
    ),
    "8.3.1: pseudo-fields in any order": (headers(1, block(*fields()[::-1])), ECHO),
}


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize(("sent", "content"), TAKEN.values(), ids=TAKEN)
def test_rfc_9113_section_what_is_to_be_taken(
    loop: asyncio.AbstractEventLoop, sent: bytes, content: bytes, torn: bool
) -> None:
    with http2(loop) as peer:
        peer.say(sent, torn=torn)
        answer = peer.answers()[1]
        assert (answer.status, answer.content, answer.ends, answer.reset) == (200, content, True, -1)
        assert answer.trailers == ({b"a": b"b"} if TRAILERS in sent else {})
        assert peer.say(ping(), torn=torn) == [PONG]
        assert peer.is_answered(99, torn=torn)
        assert peer.goaway is None
        assert peer.connection.idle()


# --- 3.4: the preface ---


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_3_4_the_server_begins_with_settings(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=b"") as peer:
        frames = peer.say(BEGIN, torn=torn)
        assert (frames[0].kind, frames[0].flags, frames[0].stream) == (SETTINGS, 0, 0)
        assert Frame(SETTINGS, ACK, 0, b"") in frames[1:]


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_3_4_what_follows_may_come_at_once(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop, begin=b"") as peer:
        peer.say(BEGIN + get(1) + ping(), torn=torn)
        assert peer.answers()[1].content == ECHO


PREFACES = {
    "ends in another way": PREFACE[:-1] + b"x",
    "goes on with a request": PREFACE + get(1),
    "goes on with PING": PREFACE + ping(),
    "goes on with an acknowledgement": PREFACE + frame(SETTINGS, ACK),
    "goes on with DATA": PREFACE + data(1, b"x"),
    "goes on with SETTINGS on a stream": PREFACE + frame(SETTINGS, 0, 1),
}


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize("sent", PREFACES.values(), ids=PREFACES)
def test_rfc_9113_section_3_4_an_invalid_preface(loop: asyncio.AbstractEventLoop, sent: bytes, torn: bool) -> None:
    with http2(loop, begin=b"") as peer:
        last = peer.say(sent, torn=torn)[-1]
        assert (last.kind, last.code, last.number) == (GOAWAY, PROTOCOL_ERROR, 0)
        assert not peer.transport.open


# --- 5.1.2, 5.2, 5.3 ---


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
@pytest.mark.parametrize("path", [WAITS, b"/"], ids=["half-closed", "open"])
def test_max_streams__one_too_many_is_refused(loop: asyncio.AbstractEventLoop, path: bytes, torn: bool) -> None:
    """RFC 9113 section 5.1.2. It can be tried again (section 8.7), also on the same connection."""
    with http2(loop, max_streams="3") as peer:
        one = get if path == WAITS else post
        assert peer.say(b"".join(one(each, path) for each in (1, 3, 5)), torn=torn) == []
        refused = peer.say(one(7, path) + get(9), torn=torn)
        assert [(each.kind, each.stream, each.code) for each in refused] == [
            (RST_STREAM, 7, REFUSED_STREAM), (RST_STREAM, 9, REFUSED_STREAM)
        ]  # fmt: skip
        assert peer.say(rst(3) + data(7, b"x", ends=True), torn=torn) == [], "what was on its way is ignored"
        assert peer.is_answered(11, torn=torn)


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_5_1_half_closed_local(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """The answer to HEAD has no content, and that of the request may still come."""
    with http2(loop) as peer:
        peer.say(post(1, b"/", method=b"HEAD") + data(1, b"abc"), torn=torn)
        assert peer.answers()[1].ends
        assert peer.say(window_update(1, 1) + frame(PRIORITY, 0, 1, PRIORITIES) + data(1, b"d"), torn=torn) == []
        assert peer.say(data(1, b"e", ends=True), torn=torn) == []
        assert peer.is_answered(3, torn=torn)
        assert peer.connection.idle()


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_8_1_content_that_is_not_wanted(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """An answer that is complete before its request: some of what is on its way is read and dropped, and more of it, or
    for long, ended by RST_STREAM with NO_ERROR: at once, it would have some clients not read the answer.
    """
    with http2(loop) as peer:
        peer.say(post(1, b"/", (b"content-length", b"9"), (b"expect", b"x")), torn=torn)
        assert (peer.answers()[1].status, peer.answers()[1].ends, peer.answers()[1].reset) == (417, True, -1)
        assert peer.say(data(1, b"123") + data(1, b"456789", ends=True) + ping(), torn=torn) == [PONG]
        assert peer.connection.idle()
        peer.say(post(3, b"/", (b"expect", b"x")) + data(3, bytes(16384)) * 5)
        assert (peer.answers()[3].status, peer.answers()[3].reset) == (417, NO_ERROR)
        peer.say(post(5, b"/", (b"expect", b"x")) + data(5, b"slow"))
        peer.connection.sweep(peer.worker.context.now + 3)
        assert (peer.answers()[5].status, peer.answers()[5].reset) == (417, NO_ERROR)
        peer.say(post(7, b"/", (b"content-length", b"70000"), (b"expect", b"x")))
        assert (peer.answers()[7].status, peer.answers()[7].reset) == (417, NO_ERROR)


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_8_1_content_behind_an_error_is_no_part_of_it(
    loop: asyncio.AbstractEventLoop, torn: bool
) -> None:
    """The client's window is closed, so that the answer waits while content comes."""
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 0)), max_body="5") as peer:
        peer.say(post(1) + data(1, b"secret") * 2 + post(3, b"/", (b"expect", b"x")) + data(3, b"secret"), torn=torn)
        peer.say(post(5, b"/", (b"expect", b"x")) + data(5, b"secret") + headers(5, TRAILERS), torn=torn)
        assert set(peer.answers()) == {1, 3, 5}
        peer.say(b"".join(window_update(each, 1000) for each in (1, 3, 5)), torn=torn)
        for stream, answer in peer.answers().items():
            assert (answer.status, answer.ends) == (413 if stream == 1 else 417, True)
            assert len(answer.content) == int(answer.fields[b"content-length"])
            assert answer.reset == -1
        peer.say(data(1, b"", ends=True) + data(3, b"", ends=True))
        assert peer.connection.idle()


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_8_1_100_continue(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    with http2(loop) as peer:
        [first] = peer.say(post(1, b"/", (b"expect", b"100-continue")), torn=torn)
        assert (first.kind, first.ends) == (HEADERS, False)
        assert peer.answers()[1].status == 100
        peer.say(data(1, HELLO, ends=True), torn=torn)
        assert (peer.answers()[1].status, peer.answers()[1].content) == (200, HELLO)


@pytest.mark.parametrize("torn", TORN, ids=SHOWN)
def test_rfc_9113_section_5_1_rst_stream_in_every_state(loop: asyncio.AbstractEventLoop, torn: bool) -> None:
    """Nothing is answered to it, and what was kept is forgotten."""
    with http2(loop, begin=PREFACE + settings((INITIAL_WINDOW_SIZE, 0))) as peer:
        states = {
            "open, nothing else has come": post(1) + rst(1),
            "open, content waits": post(3) + data(3, bytes(1000)) + rst(3),
            "open, for an answer on demand": post(5, WAITS) + data(5, bytes(1000)) + rst(5),
            "half-closed (remote), content waits": whole(7, bytes(1000)) + rst(7),
            "half-closed (remote), an answer on demand": whole(9, bytes(1000), WAITS) + rst(9),
            "half-closed (remote), trailers wait": post(11) + data(11, b"x") + headers(11, TRAILERS) + rst(11),
            "half-closed (local)": post(13, b"/", method=b"HEAD") + data(13, b"x") + rst(13),
            "closed": get(15) + rst(15) + rst(15),
        }  # fmt: skip
        for state, sent in states.items():
            assert RST_STREAM not in [each.kind for each in peer.say(sent, torn=torn)], state
            assert peer.used == 0, state
        assert peer.say(ping(), torn=torn) == [PONG]
        assert peer.connection.idle()


def test_rfc_9113_section_6_4_rst_stream_stops_what_is_on_demand(loop: asyncio.AbstractEventLoop) -> None:
    with http2(loop) as peer:
        assert peer.say(get(1, b"/?delay=1ms") + rst(1, CANCEL)) == []
        peer.say(get(3, b"/?delay=5ms"))
        peer.wait(DATA, 3)
        assert list(peer.answers()) == [3]
