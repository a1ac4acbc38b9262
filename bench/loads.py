"""What the clients do: one row a load, and the very bytes that it sends."""

import dataclasses
import struct

COUNTED = b"@@@@@@@@"
"""Stands in a request, once or more often, for a number that is another one in each."""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""What begins WebSocket; its key is the one of RFC 6455, section 1.3, so all know the answer."""
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

_MASK = bytes.fromhex("37fa213d")

_BROWSER = (
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", b"Accept: */*",
    b"Accept-Language: en-US,en;q=0.5", b"Accept-Encoding: gzip, deflate, br, zstd",
    b"Referer: http://localhost/app/", b"Origin: http://localhost", b"Sec-Fetch-Dest: empty",
    b"Sec-Fetch-Mode: cors", b"Sec-Fetch-Site: same-origin", b"Cookie: session=0123456789abcdef; theme=dark",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """protocol: what the server speaks (tcp, udp, http, https, ws; HTTP/2 is h2c, and h2 over TLS; gRPC over h2c is
    grpc), on a unix socket where unix is set. content: bytes a request, None where it has none. sent: what a connection
    sends at a time, over HTTP/2 the content alone; answers: how many answers that gets. pool: instead of what is sent
    and its content, one request after the other of those that bench.pools has by this name.

    rate: so many requests a second, whatever the server does; 0: each as soon as its connection has the last answer.
    half_of: the rate is half of what this arm answers where each is sent as soon as its connection has the last answer,
    which is measured before.
    streams: of HTTP/2, that a connection has busy. encoding: of header blocks of a pool, one of bench.http2's.
    active: connections that do something, the rest are idle. native: the native client, which compares every byte.
    handshakes: bench.handshakes is the client, a connection each, with a TLS handshake that is "new" or "resumed".
    steps: numbers of idle connections at which memory is read. arms: those that it is for, where not all that can.
    """

    name: str
    title: str
    group: str
    protocol: str
    content: int | None
    sent: bytes
    connections: int = 64
    active: int = 0
    answers: int = 1
    streams: int = 1
    pool: str = ""
    encoding: str = ""
    rate: int = 0
    half_of: str = ""
    unix: bool = False
    native: bool = False
    handshakes: str = ""
    workers: int = 1
    steps: tuple[int, ...] = ()
    arms: tuple[str, ...] = ()


def request(
    *fields: bytes, content: bytes | None = None, line: bytes = b"POST / HTTP/1.1", chunked: bool = False
) -> bytes:
    """A request as wrk would send it; its content declared by Content-Length, or chunked."""
    head = [line, b"Host: localhost"]
    if content is not None:
        head.append(b"Content-Type: application/octet-stream")
        head.append(b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(content))
    body = content or b""
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"\r\n".join([*head, *fields, b"", body])


def pattern(size: int) -> bytes:
    """Content whose bytes tell where they belong."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def frame(content: bytes, first: int = 0x82) -> bytes:
    """A frame of a WebSocket client, masked (RFC 6455, section 5.2); first: its first byte, by default that of a binary
    message in one frame."""
    size = len(content)
    head = bytes([first]) + (
        bytes([0x80 | size]) if size < 126
        else b"\xfe" + struct.pack("!H", size) if size < 1 << 16
        else b"\xff" + struct.pack("!Q", size)
    )  # fmt: skip
    key = (_MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(content) ^ int.from_bytes(key)
    return head + _MASK + masked.to_bytes(size)


PREFIX = 5
"""Bytes of a message of gRPC before its content."""


def message(content: bytes) -> bytes:
    """A message of gRPC, not compressed."""
    return struct.pack("!BI", 0, len(content)) + content


def _tcp(name: str, title: str, size: int, **rest: object) -> Load:
    return Load(name, title, "tcp", "tcp", size, pattern(size), native=True, **rest)  # type: ignore[arg-type]


def _ws(name: str, title: str, size: int, *, connections: int) -> Load:
    return Load(name, title, "ws", "ws", size, frame(pattern(size)), connections, native=True)


def _post(
    name: str, title: str, size: int = 64, *fields: bytes, connections: int = 64, arms: tuple[str, ...] = ()
) -> Load:
    sent = request(*fields, content=pattern(size))
    return Load(name, title, "http", "http", size, sent, connections, arms=arms)


def _udp(name: str, title: str, size: int) -> Load:
    return Load(name, title, "udp", "udp", size, pattern(size), 50, native=True)


def _tls(name: str, title: str, size: int = 64, *fields: bytes, connections: int = 64, handshakes: str = "") -> Load:
    sent = request(*fields, content=pattern(size))
    return Load(name, title, "tls", "https", size, sent, connections, handshakes=handshakes)


def _h2(
    name: str, title: str, size: int | None = 64, *, connections: int = 50, streams: int = 1, tls: bool = False
) -> Load:
    sent = b"" if size is None else pattern(size)
    return Load(name, title, "h2", "h2" if tls else "h2c", size, sent, connections, streams=streams)


def _grpc(name: str, title: str, *, streams: int = 1) -> Load:
    sent = message(pattern(64))
    return Load(name, title, "grpc", "grpc", len(sent), sent, 50, streams=streams)


def _h2_pool(name: str, title: str, encoding: str) -> Load:
    return Load(name, title, "h2", "h2c", None, b"", 50, streams=10, pool="mix", encoding=encoding, native=True)


def _pool(name: str, title: str) -> Load:
    return Load(name, title, "mix", "http", None, b"", pool=name)


_SMALL = request(content=pattern(64))
_FEW = ("limit", "echoserver", "nginx", "fasthttp", "nethttp", "node")  # where only the way of the cost is of interest

_COLD = request(
    b"X-Real-IP: 192.0.2.7", b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https",
    b"X-Request-Id: 5ca1ab1e-" + COUNTED, b"User-Agent: axios/1.7.2", b"Accept: */*",
    content=pattern(64), line=b"POST /v1/orders/%b HTTP/1.1" % COUNTED,
)  # fmt: skip

_LOADS = (
    _pool("mix", "a proxy's requests: 70 % GET, POST of 16 to 4,000 B"),
    _pool("mixpost", "a proxy's requests, those with content"),
    _pool("lengths", "POST of JSON, 20 to 1,000 B, from one client"),
    _pool("big1500", "POST of 64 B, header sections of 1,500 B that differ"),
    Load("cold", "POST of 64 B, path and X-Request-Id never seen before", "mix", "http", 64, _COLD),
    _tcp("tcp64", "TCP, 64 B", 64, connections=50),
    _tcp("tcp4k", "TCP, 4 KiB", 4 << 10, connections=50),
    _tcp("tcp64k", "TCP, 64 KiB", 64 << 10, connections=50),
    _tcp("tcp1m", "TCP, 1 MiB", 1 << 20, connections=16),
    _tcp("unix64", "unix socket, 64 B", 64, connections=50, unix=True),
    _udp("udp64", "UDP, datagrams of 64 B", 64),
    _udp("udp1400", "UDP, datagrams of 1,400 B", 1400),
    Load("get", "GET, the header section comes back", "http", "http", None, request(line=b"GET /head HTTP/1.1")),
    Load("getpath", "GET, another path each time", "http", "http", None,
         request(line=b"GET /head/%b HTTP/1.1" % COUNTED)),
    _post("post64", "POST of 64 B"),
    Load("path", "POST of 64 B, another path each time", "http", "http", 64,
         request(content=pattern(64), line=b"POST /%b HTTP/1.1" % COUNTED)),
    _post("fields", "POST of 64 B, another X-Request-Id each time", 64, b"X-Request-Id: 5ca1ab1e-" + COUNTED),
    _post("browser", "POST with a browser's 13 fields", 64, *_BROWSER),
    _post("post1k", "POST of 1 KiB", 1 << 10, arms=_FEW),
    _post("post4k", "POST of 4 KiB", 4 << 10, arms=_FEW),
    _post("post16k", "POST of 16 KiB", 16 << 10, connections=32, arms=_FEW),
    _post("post64k", "POST of 64 KiB", 64 << 10, connections=32),
    _post("post256k", "POST of 256 KiB", 256 << 10, connections=16, arms=_FEW),
    _post("post1m", "POST of 1 MiB", 1 << 20, connections=16),
    _post("post4m", "POST of 4 MiB", 4 << 20, connections=8, arms=_FEW),
    _post("post16m", "POST of 16 MiB", 16 << 20, connections=4, arms=_FEW),
    Load("pipe16", "16 POSTs of 64 B pipelined, each of them", "http", "http", 64, _SMALL * 16, answers=16),
    Load("chunked", "POST of 64 B, chunked", "http", "http", 64, request(content=pattern(64), chunked=True)),
    _post("close", "POST of 64 B, a connection each", 64, b"Connection: close"),
    _post("one", "POST of 64 B on one connection", connections=1, arms=_FEW),
    _tls("tls64", "POST of 64 B over TLS"),
    _tls("tls64k", "POST of 64 KiB over TLS", 64 << 10, connections=32),
    _tls("tlsnew", "POST of 64 B, a connection each, TLS handshake in full", 64, b"Connection: close", connections=8,
         handshakes="new"),
    _tls("tlsresume", "POST of 64 B, a connection each, TLS session resumed", 64, b"Connection: close", connections=8,
         handshakes="resumed"),
    _h2("h2get", "HTTP/2, GET, the header section comes back", None),
    _h2("h2post64", "HTTP/2, POST of 64 B"),
    _h2("h2post64x10", "HTTP/2, POST of 64 B, 10 streams", streams=10),
    _h2("h2post64x100", "HTTP/2, POST of 64 B, 100 streams", streams=100),
    _h2_pool("h2mix", "HTTP/2, a proxy's requests, 10 streams, fields as nginx sends them", "nginx"),
    _h2_pool("h2mixindexed", "HTTP/2, a proxy's requests, 10 streams, all fields put into the table", "indexed"),
    _h2("h2post64k", "HTTP/2, POST of 64 KiB", 64 << 10, connections=32),
    _h2("h2post1m", "HTTP/2, POST of 1 MiB, 10 streams", 1 << 20, connections=8, streams=10),
    _h2("h2tls64", "HTTP/2 over TLS, POST of 64 B", tls=True),
    _h2("h2tls64x10", "HTTP/2 over TLS, POST of 64 B, 10 streams", streams=10, tls=True),
    _h2("h2tls64x100", "HTTP/2 over TLS, POST of 64 B, 100 streams", streams=100, tls=True),
    _grpc("grpc64", "gRPC, unary calls with a message of 64 B"),
    _grpc("grpc64x10", "gRPC, unary calls with a message of 64 B, 10 streams", streams=10),
    _grpc("grpc64x100", "gRPC, unary calls with a message of 64 B, 100 streams", streams=100),
    _ws("ws64", "WebSocket, 64 B", 64, connections=50),
    _ws("ws4k", "WebSocket, 4 KiB", 4 << 10, connections=50),
    _ws("ws1m", "WebSocket, 1 MiB", 1 << 20, connections=16),
    Load("idle1k", "POST of 64 B on 10 of 1,000 connections", "http", "http", 64, _SMALL, 1000, 10, native=True),
    Load("idle10k", "POST of 64 B on 100 of 10,000 connections", "http", "http", 64, _SMALL, 10_000, 100, native=True),
    Load("latency", "POST of 64 B, 10,000 a second", "rate", "http", 64, _SMALL, rate=10_000, native=True),
    Load("mixrate", "a proxy's requests, half as many as nginx can answer", "rate", "http", None, b"", pool="mix",
         half_of="nginx", native=True),
    Load("workers2", "POST of 64 B, two workers against one", "workers", "http", 64, _SMALL, workers=2),
    Load("memory", "idle keep-alive connections", "memory", "http", 64, _SMALL, native=True,
         steps=(0, 1000, 5000, 10_000)),
)  # fmt: skip

LOADS = {each.name: each for each in _LOADS}

QUICK = (
    "mix", "tcp64", "unix64", "udp64", "fields", "pipe16", "post1m", "tls64", "tlsresume", "h2post64x10", "h2mix",
    "h2tls64", "grpc64x10", "ws64", "latency", "mixrate",
)  # fmt: skip
"""What --quick runs: each client, and what they do otherwise than by default."""
