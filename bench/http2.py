"""HTTP/2 for the bench: a pool's requests as header blocks of HPACK, and a look at a single echo.

A proxy encodes what it passes on in one of two ways. nginx keeps no table of its own: each field is a literal, its name
spelled out, and only :path, :authority and methods other than GET and POST go into the server's table, where nothing
ever refers to them (ngx_http_grpc_module.c, ngx_http_proxy_v2_module.c). Go (Traefik, Caddy) puts every field into the
table and refers to those that are still there; Envoy and nghttpx do so too, but for :path and a few more. Both are
loads.
"""

import contextlib
import functools
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

from bench import handshakes, pools
from bench.loads import Load
from bench.running import Running

ENCODINGS = ("nginx", "indexed")
"""The two ways."""

Fields = list[tuple[bytes, bytes]]
Encode = Callable[[Fields], bytes]

_TABLE_ANEW = b"\x20\x3f\xe1\x1f"  # its size is 0 now, and now 4,096 again (RFC 7541, section 6.3): it is empty
_METHODS = {b"GET": b"\x82", b"POST": b"\x83"}  # of the static table
_SCHEME_HTTP = b"\x86"
_INSERTED = {b":method": b"\x42", b":path": b"\x44", b":authority": b"\x41"}  # names of the static table
_CLIENT = b"h2load"
_WIDEST = (1 << 31) - 1  # a window, in bytes


class NoEcho(Exception):
    """What came back; the message says what is wrong with it."""


# --- requests ---------------------------------------------------------------------------------------------------------


def fields_of(sent: bytes) -> Fields:
    """The fields of a pool's request, as HTTP/2 has them and in the order in which nginx sends them."""
    line, *lines = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, path, _ = line.split(b" ")
    pairs = [each.split(b": ", 1) for each in lines]
    (host,) = (value for name, value in pairs if name == b"Host")
    rest = [(name.lower(), value) for name, value in pairs if name != b"Host"]
    return [(b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", host), *rest]


@functools.cache
def packed(name: str, connections: int, encoding: str) -> bytes:
    """A pool as the native client of HTTP/2 reads it, for so many connections."""
    requests = pools.pool(name)
    parts: list[bytes] = []
    for number in range(connections):
        encode, before = _encoder(encoding)
        for sent in requests[number * len(requests) // connections : (number + 1) * len(requests) // connections]:
            block = before + encode(fields_of(sent))
            content = sent.partition(b"\r\n\r\n")[2]
            within = b"" if content else sent.partition(b"\r\nX-Request-Id: ")[2].partition(b"\r\n")[0]
            parts += [struct.pack("<III", len(block), len(content), len(within)), block, content, within]
            before = b""
    return b"".join(parts)


def _encoder(encoding: str) -> tuple[Encode, bytes]:
    """What encodes the blocks of a connection, in their order; and what the first one begins with: its connection
    sends them again and again, and the table has to be empty each time."""
    if encoding == "nginx":
        return _as_nginx, b""
    from hpack import Encoder  # noqa: PLC0415 - where it is

    return Encoder().encode, _TABLE_ANEW


def _as_nginx(fields: Fields) -> bytes:
    parts = []
    for name, value in fields:
        if name == b":scheme":
            parts.append(_SCHEME_HTTP)
        elif name == b":method" and value in _METHODS:
            parts.append(_METHODS[value])
        else:
            parts.append(_INSERTED.get(name) or b"\x00" + _string(name))
            parts.append(_string(value))
    return b"".join(parts)


@functools.lru_cache(1 << 12)
def _string(text: bytes) -> bytes:
    """A string literal (RFC 7541, section 5.2), by Huffman's code where that is shorter."""
    from hpack.hpack import encode_integer  # noqa: PLC0415 - where it is

    short = _huffman().encode(text)
    coded, head = (short, 0x80) if len(short) < len(text) else (text, 0)
    length = encode_integer(len(coded), 7)
    length[0] |= head
    return bytes(length) + coded


@functools.cache
def _huffman() -> Any:
    from hpack.huffman import HuffmanEncoder  # noqa: PLC0415 - where it is
    from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH  # noqa: PLC0415

    return HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


# --- h2load's request -------------------------------------------------------------------------------------------------


def request_of(load: Load) -> tuple[str, Fields]:
    """The path of a load's request, and those of its fields that h2load is told and does not know by itself."""
    fields = [(b":authority", b"localhost"), (b"user-agent", _CLIENT)]
    if load.content is None:
        return "/head", fields
    if load.protocol == "grpc":
        return "/bench.Echo/Unary", [*fields, (b"content-type", b"application/grpc"), (b"te", b"trailers")]
    return "/", [*fields, (b"content-type", b"application/octet-stream")]


def look(load: Load, server: Running) -> int:
    """Make one exchange; returns the bytes of the answer's content. Raises NoEcho and OSError."""
    path, fields = request_of(load)
    method, scheme = ("GET" if load.content is None else "POST"), ("https" if load.protocol == "h2" else "http")
    head = [(b":method", method.encode()), (b":scheme", scheme.encode()), (b":path", path.encode()), *fields]
    sent = load.sent
    if load.content is not None:
        head.append((b"content-length", b"%d" % load.content))
    with _connected(load, server) as connection:
        status, content, trailers = _exchange(connection, head, sent)
    if status != b"200":
        raise NoEcho(f"it answers {status.decode(errors='replace')}")
    if load.protocol == "grpc" and trailers.get(b"grpc-status") != b"0":
        raise NoEcho(f"its trailers have no grpc-status of 0: {trailers}")
    if b"localhost" not in content if load.content is None else content != sent:
        raise NoEcho(f"its content is no echo: {content[:80]!r}")
    return len(content)


def _connected(load: Load, server: Running) -> socket.socket:
    """Raises NoEcho and OSError."""
    connection = server.connect()
    if load.protocol != "h2":
        return connection
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        context = handshakes.context()
        context.set_alpn_protocols(["h2"])
        secure: ssl.SSLSocket = context.wrap_socket(connection)
        if secure.selected_alpn_protocol() != "h2":
            raise NoEcho("its TLS does not agree on h2")
        stack.pop_all()
        return secure


def _exchange(connection: socket.socket, head: Fields, sent: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """Status, content and trailers of the answer. Content is sent as the server's windows let it. Raises NoEcho."""
    from h2 import events  # noqa: PLC0415 - where it is
    from h2.config import H2Configuration  # noqa: PLC0415
    from h2.connection import H2Connection  # noqa: PLC0415
    from h2.exceptions import ProtocolError  # noqa: PLC0415

    it = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    it.initiate_connection()
    it.increment_flow_control_window(_WIDEST - 65535)
    it.send_headers(1, head, end_stream=not sent)
    it.increment_flow_control_window(_WIDEST - 65535, 1)
    left, status, content = sent, b"", bytearray()
    trailers: dict[bytes, bytes] = {}
    while True:
        while left and (room := min(it.local_flow_control_window(1), it.max_outbound_frame_size)):
            it.send_data(1, left[:room], end_stream=len(left) <= room)
            left = left[room:]
        connection.sendall(it.data_to_send())
        data = connection.recv(1 << 16)
        if not data:
            raise NoEcho(f"its answer ends after {len(content)} bytes of content")
        try:
            happened = it.receive_data(data)
        except ProtocolError as error:
            raise NoEcho(f"it does not speak HTTP/2: {error or type(error).__name__}") from None
        for event in happened:
            if isinstance(event, events.ResponseReceived):
                status = dict(event.headers or [])[b":status"]
            elif isinstance(event, events.DataReceived):
                content += event.data or b""
            elif isinstance(event, events.TrailersReceived):
                trailers = dict(event.headers or [])
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                raise NoEcho(f"it ends the {'stream' if isinstance(event, events.StreamReset) else 'connection'}: "
                             f"error {event.error_code!r}")  # fmt: skip
            elif isinstance(event, events.StreamEnded):
                return status, bytes(content), trailers
