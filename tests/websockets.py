"""A WebSocket client's side in bytes, right or wrong as it is asked for, and what a server's frames say."""

import struct
import zlib
from typing import NamedTuple

from tests.servers import request

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The example of RFC 6455, section 1.3."""
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
MASK = b"\x37\xfa\x21\x3d"


def upgrade(*fields: str, target: str = "/chat", key: str = KEY, version: str = "13") -> bytes:
    """A handshake."""
    return request(
        f"GET {target} HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: keep-alive, Upgrade",
        f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Version: {version}", *fields,
    )  # fmt: skip


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes | None = MASK, form: int = 0
) -> bytes:
    """A frame; mask None: a server's, or a client's that is wrong. form: how many bytes its length takes, at least."""
    first, length, masked = fin << 7 | rsv << 4 | opcode, len(payload), 0 if mask is None else 0x80
    if length < 126 and not form:
        head = bytes((first, masked | length))
    elif length < 1 << 16 and form < 8:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def large(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0) -> bytes:
    """The same for a long payload, quickly: under a mask of zeros."""
    server = frame(opcode, payload, fin, rsv, None)
    header = server[: len(server) - len(payload)]
    return header[:1] + bytes((header[1] | 0x80,)) + header[2:] + bytes(4) + payload


def close(code: int | None = 1000, reason: bytes = b"", mask: bytes | None = MASK) -> bytes:
    payload = b"" if code is None else code.to_bytes(2, "big") + reason
    return frame(CLOSE, payload, mask=mask)


def echo(opcode: int, payload: bytes) -> bytes:
    """A server's frame."""
    return frame(opcode, payload, mask=None)


class Deflate:
    """One direction of permessage-deflate."""

    def __init__(self, bits: int = 12, takeover: bool = True) -> None:
        self._bits, self._takeover = bits, takeover
        self._begin()

    def _begin(self) -> None:
        self._out, self._in = zlib.compressobj(wbits=-self._bits), zlib.decompressobj(wbits=-self._bits)

    def deflate(self, data: bytes) -> bytes:
        if not self._takeover:
            self._begin()
        return (self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")

    def inflate(self, data: bytes) -> bytes:
        if not self._takeover:
            self._begin()
        return self._in.decompress(data + b"\0\0\xff\xff")


class Frame(NamedTuple):
    """A server's frame."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0

    @property
    def code(self) -> int:
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


def split(data: bytes) -> list[Frame]:
    """The server's frames that data is made of, all of them whole."""
    found, position = [], 0
    while position < len(data):
        first, length = data[position], data[position + 1]
        assert length < 128, "a server does not mask"
        position += 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        assert position + length <= len(data), "the last frame is not whole"
        found.append(Frame(first & 15, data[position : position + length], bool(first & 0x80), first >> 4 & 7))
        position += length
    return found
