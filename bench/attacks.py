"""What greedy connections do while an honest client is served: one row a load, and the very bytes that each sends."""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Sequence

from bench.loads import frame, pattern, request

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Parts = Sequence[tuple[bytes, int]]
"""What a connection sends, again and again: bytes, and how many times they follow on themselves."""

QUIET = "quiet"
"""The load that has no attackers."""

_BLOCK = MIB  # so much is made of what is small; a send takes less


@dataclasses.dataclass(frozen=True, slots=True)
class Attack:
    """port: the listener it is for (http, https, tcp, tls, udp). parts: makes what is sent; none: nothing is sent.

    expected: how the first answer begins. hello: what a connection says first, and reads the answer of up to its blank
    line. reads: whether it takes what comes back. step: bytes a send, a TLS record or a datagram; 0: as many as go.
    connections: each is a connection of its own, ended by the server ("eof"), or reset by the client at the first
    answer ("answer"), with so many at a time (at_once). keys: TLS's KeyUpdate is what is sent. options: the server's
    besides its listeners (cert.pem and key.pem are in its folder). preamble: what the honest client begins with.
    common: other servers can be asked as well.
    """

    name: str
    title: str
    parts: Callable[[], Parts] | None = None
    port: str = "http"
    expected: bytes = b"HTTP/1.1 200 "
    hello: bytes = b""
    reads: bool = True
    step: int = 0
    connections: str = ""
    at_once: int = 16
    keys: bool = False
    options: tuple[str, ...] = ()
    preamble: str = ""
    common: bool = False


# --- HTTP ---------------------------------------------------------------------------------------------------------


def block(*pieces: bytes, size: int = _BLOCK) -> Parts:
    """Whole pieces in turn, some megabytes of them in all where they are small."""
    together = b"".join(pieces)
    return [(together * max(1, size // len(together)), 1)]


def _get(path: bytes, *fields: bytes, line: bytes = b"GET %b HTTP/1.1") -> Callable[[], Parts]:
    return lambda: block(request(*fields, line=line % path))


def _each_its_own(one: Callable[[bytes], bytes]) -> Callable[[], Parts]:
    """More of them than any cache remembers."""
    return lambda: block(*(one(b"%06x" % number) for number in range(1 << 16)))


def _posts(size: int, times: int = 1) -> Callable[[], Parts]:
    """Content of that size, so many times."""
    content = pattern(min(size, MIB))
    head = request(b"Content-Length: %d" % size, b"Content-Type: application/octet-stream")
    return lambda: [(head, 1), (content, size // len(content))] if size > MIB else block(head + content)


def _controls(size: int) -> Callable[[], Parts]:
    """Content that JSON has to escape byte by byte."""
    return lambda: block(request(content=b"\1" * size, line=b"POST /?echo=json HTTP/1.1"))


_CHUNKED = request(b"Transfer-Encoding: chunked")
_LAST_CHUNK = b"0\r\n\r\n"


def _chunks(chunk: bytes) -> Callable[[], Parts]:
    return lambda: [(_CHUNKED, 1), (chunk * (1 << 16), 16), (_LAST_CHUNK, 1)]


def _trailers() -> Parts:
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(300))  # 3 KiB: more than 4 are too many
    return block(_CHUNKED + b"1\r\nx\r\n0\r\n" + fields + b"\r\n")


def _long_head(size: int) -> bytes:
    """Of 80 fields: more than 100 are too many."""
    fields = [b"x-%02d: %b" % (number, b"y" * (size // 80 - 8)) for number in range(80)]
    return request(*fields, line=b"GET / HTTP/1.1")


def _preamble_with_tlvs() -> bytes:
    """Version 2, TCP over IPv4, with many short TLVs of a type for private use."""
    tlvs = b"\xe0\x00\x01x" * 1000
    addresses = bytes([127, 0, 0, 1, 127, 0, 0, 1]) + struct.pack("!HH", 1, 2)
    rest = addresses + tlvs
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(rest)) + rest


# --- WebSocket ----------------------------------------------------------------------------------------------------

_HANDSHAKE = request(
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13", line=b"GET / HTTP/1.1",
)  # fmt: skip
_DEFLATED = _HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"

TEXT, BINARY, CONTINUATION, PING, FINAL, DEFLATED = 1, 2, 0, 9, 0x80, 0x40


def _deflated(size: int) -> bytes:
    """A compressed message of zeros (RFC 7692), which refers to none before it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return frame(packed.removesuffix(b"\0\0\xff\xff"), FINAL | DEFLATED | BINARY)


def _frames(content: bytes, first: int) -> Callable[[], Parts]:
    return lambda: block(frame(content, first))


def _fragments() -> Parts:
    fragment = frame(b"x", CONTINUATION)
    return [(frame(b"x", TEXT), 1), (fragment * (1 << 16), 16), (frame(b"x", FINAL | CONTINUATION), 1)]


def _two_fragments() -> Parts:
    half = pattern(8 * MIB)
    return [(frame(half, BINARY) + frame(half, FINAL | CONTINUATION), 1)]


def _ws(name: str, title: str, parts: Callable[[], Parts], first: int | None, **rest: bool | bytes) -> Attack:
    """first: how the first frame that comes back begins; None: there may be none for seconds."""
    hello = rest.pop("hello", _HANDSHAKE)
    expected = b"" if first is None else bytes([first])
    return Attack(name, title, parts, expected=expected, hello=hello, **rest)  # type: ignore[arg-type]


# --- all ----------------------------------------------------------------------------------------------------------

_SMALL = request(content=pattern(64))
_CLOSE = request(b"Connection: close", line=b"GET /head HTTP/1.1")


def _http(name: str, title: str, parts: Callable[[], Parts] | None, **rest: object) -> Attack:
    """Peers can serve it too."""
    return Attack(name, title, parts, common=True, **rest)  # type: ignore[arg-type]


def _tls(name: str, title: str, parts: Callable[[], Parts], **rest: object) -> Attack:
    """What comes back are records, which nobody decrypts."""
    rest = {"port": "tls", "expected": b"\x17\x03\x03", **rest}
    return Attack(name, title, parts, options=("--tls-cert", "cert.pem", "--tls-key", "key.pem"), **rest)  # type: ignore[arg-type]


def _flood() -> Parts:
    return [(pattern(4 * MIB), 1)]


_ATTACKS = (
    _http(QUIET, "no attacker", None),
    _http("empty-lines", "empty lines", lambda: block(b"\r\n"), expected=b""),
    _http("get", "the same GET, pipelined", _get(b"/head")),
    _http("get-unread", "the same, and nothing is read", _get(b"/head"), reads=False),
    _http("getpath", "GETs of other paths, pipelined",
          _each_its_own(lambda number: request(line=b"GET /head/%b HTTP/1.1" % number))),
    _http("post64", "POSTs of 64 B, pipelined", lambda: block(_SMALL)),
    _http("post64-unread", "the same, and nothing is read", lambda: block(_SMALL), reads=False),
    _http("fields", "POSTs of 64 B with other fields each, pipelined",
          _each_its_own(lambda number: request(b"X-Request-Id: " + number, content=pattern(64)))),
    _http("minimal", "the shortest requests that keep the connection, pipelined",
          lambda: block(b"GET /head HTTP/1.0\nConnection:keep-alive\n\n".replace(b"\n", b"\r\n")), expected=b"HTTP/1."),
    _http("head", "HEADs, pipelined", _get(b"/head", line=b"HEAD %b HTTP/1.1")),
    Attack("metrics", "GET /metrics, pipelined", _get(b"/metrics")),
    Attack("page", "GET /.echo, pipelined", _get(b"/.echo")),
    Attack("status", "?status=404, pipelined", _get(b"/?status=404"), expected=b"HTTP/1.1 404 "),
    Attack("json", "?echo=json, pipelined", _get(b"/?echo=json")),
    Attack("json256k", "POST ?echo=json of 256 KiB of control characters", _controls(256 * KIB)),
    Attack("json1m", "POST ?echo=json of 1 MiB of control characters", _controls(MIB)),
    Attack("size1m", "?size=1MiB, pipelined", _get(b"/?size=1MiB")),
    Attack("size1m-unread", "the same, and nothing is read", _get(b"/?size=1MiB"), reads=False),
    Attack("size1g", "?size=1GiB, pipelined", _get(b"/?size=1GiB")),
    Attack("delay", "?delay=1ms, pipelined", _get(b"/?delay=1ms")),
    _http("chunk1", "chunks of one byte", _chunks(b"1\r\nx\r\n")),
    _http("chunk1-ext", "chunks of one byte with an extension", _chunks(b"1;a=b\r\nx\r\n")),
    _http("trailers", "chunked POSTs with 300 trailer fields, pipelined", _trailers),
    _http("post64k", "POSTs of 64 KiB", _posts(64 * KIB)),
    _http("post16m", "POSTs of 16 MiB", _posts(16 * MIB)),
    Attack("post1g", "POSTs of 1 GiB, relayed", _posts(GIB)),
    _http("trickle", "header sections of 60 KiB, one byte a segment", lambda: [(_long_head(60 * KIB), 1)], step=1),
    _http("close", "connections without end, a GET each", lambda: [(_CLOSE, 1)], connections="eof"),
    _ws("ws-empty", "WebSocket: empty messages", _frames(b"", FINAL | TEXT), FINAL | TEXT),
    _ws("ws-1", "WebSocket: messages of one byte", _frames(b"x", FINAL | TEXT), FINAL | TEXT),
    _ws("ws-1-unread", "the same, and nothing is read", _frames(b"x", FINAL | TEXT), FINAL | TEXT, reads=False),
    _ws("ws-ping", "WebSocket: pings", _frames(b"ping", FINAL | PING), FINAL | PING + 1),
    _ws("ws-ping-unread", "the same, and nothing is read", _frames(b"ping", FINAL | PING), FINAL | PING + 1,
        reads=False),
    _ws("ws-fragments", "WebSocket: messages of a million fragments of one byte", _fragments, None),
    _ws("ws-inflate1m", "WebSocket: messages that inflate to 1 MiB", lambda: block(_deflated(MIB)),
        FINAL | DEFLATED | BINARY, hello=_DEFLATED),
    _ws("ws-inflate16m", "WebSocket: messages that inflate to 16 MiB", lambda: block(_deflated(16 * MIB)),
        FINAL | BINARY, hello=_DEFLATED),
    _ws("ws-utf8", "WebSocket: text of 16 MiB beyond ASCII", _frames("é".encode() * (8 * MIB), FINAL | TEXT),
        FINAL | TEXT),
    _ws("ws-16m", "WebSocket: messages of 16 MiB in two fragments", _two_fragments, FINAL | BINARY),
    _tls("https-get", "HTTPS: the same GET, pipelined", _get(b"/head"), port="https"),
    _tls("tls", "TLS: a flood", _flood),
    _tls("tls-records", "TLS: records of one byte", lambda: block(b"x", size=4096), step=1),
    _tls("tls-keys", "TLS: key updates", list, keys=True, reads=False),
    _tls("tls-handshakes", "TLS: handshakes without end", list, connections="answer", expected=b"\x16\x03"),
    Attack("tcp", "TCP: a flood", _flood, port="tcp", expected=pattern(16)),
    Attack("tcp-unread", "the same, and nothing is read", _flood, port="tcp", expected=b"", reads=False),
    Attack("tcp-segments", "TCP: segments of one byte", _flood, port="tcp", expected=pattern(1), step=1),
    Attack("tcp-discard", "TCP: a flood, --tcp-mode discard", _flood, port="tcp", expected=b"",
           options=("--tcp-mode", "discard")),
    Attack("tcp-chargen", "TCP: --tcp-mode chargen, read", None, port="tcp", expected=b" ",
           options=("--tcp-mode", "chargen")),
    Attack("tcp-delay", "TCP: a flood, --tcp-delay 1ms", _flood, port="tcp", expected=pattern(16),
           options=("--tcp-delay", "1ms")),
    Attack("tcp-rate", "TCP: a flood, --tcp-rate 10MiB", _flood, port="tcp", expected=pattern(16),
           options=("--tcp-rate", "10MiB")),
    Attack("proxy", "connections without end, a PROXY preamble of 1,000 TLVs each",
           lambda: [(_preamble_with_tlvs() + _CLOSE, 1)], connections="eof",
           options=("--proxy-protocol", "on"), preamble="PROXY UNKNOWN\r\n"),
    Attack("udp64", "UDP: datagrams of 64 B", lambda: [(pattern(64), 1)], port="udp", expected=pattern(16), step=64),
    Attack("udp64k", "UDP: datagrams of 65,507 B", lambda: [(pattern(65507), 1)], port="udp", expected=pattern(16),
           step=65507),
)  # fmt: skip

ATTACKS = {each.name: each for each in _ATTACKS}

QUICK = ("quiet", "get", "ws-1", "close", "udp64")
"""What --quick runs: each way to attack."""
