"""Frames of WebSocket: where each ends, whether it may be there at all, and UTF-8 as it comes (RFC 6455 section 5)."""

import codecs

try:
    from websockets.speedups import apply_mask as apply_mask  # noqa: PLC0414 - for others too
except ImportError:  # a wheel without it
    from websockets.utils import apply_mask as apply_mask  # noqa: PLC0414

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODE = 0xF
FINAL, COMPRESSED, RESERVED = 0x80, 0x40, 0x30
"""The bits of a frame's first byte beside its opcode; COMPRESSED as RFC 7692 section 6 has it."""
MASKED = 0x80
"""The bit of a frame's second byte beside the length."""

GOING_AWAY, PROTOCOL_ERROR, INVALID_DATA = 1001, 1002, 1007
TOO_BIG, INTERNAL_ERROR, TRY_AGAIN_LATER = 1009, 1011, 1013
_CODES = frozenset({*range(1000, 1004), *range(1007, 1015)})
"""Those of the protocol that may be sent."""

LONGEST_HEADER = 10
"""Bytes of a server's frame's header at most."""

_STEP = 64 << 10  # bytes unmasked at a time: a block of that size is used again and again, and stays in the cache

_OPCODES = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})


class CloseError(Exception):
    """What the connection is closed for: a close code, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def measure(
    data: bytes | bytearray, position: int, *, deflate: bool = False, within: bool = False
) -> tuple[int, int] | None:
    """The sizes of a client's frame's header and payload; None: more of the header has to come.

    deflate: permessage-deflate was negotiated. within: a fragmented message is in progress. Raises CloseError as soon
    as the bytes that are there say so: what such a frame has as a payload nobody need wait for.
    """
    have = len(data) - position
    if have < 2:
        return None
    first, second = data[position], data[position + 1]
    opcode, length = first & OPCODE, second & 0x7F
    if first & RESERVED or (first & COMPRESSED and not (deflate and opcode in (TEXT, BINARY))):
        raise CloseError(PROTOCOL_ERROR, _wrong_bit(first, deflate=deflate))
    if opcode not in _OPCODES:
        raise CloseError(PROTOCOL_ERROR, f"opcode {opcode} is reserved: expected 0, 1, 2, 8, 9 or 10")
    if not second & MASKED:
        raise CloseError(PROTOCOL_ERROR, "client frames must be masked")
    if opcode >= CLOSE:
        if not first & FINAL:
            raise CloseError(PROTOCOL_ERROR, "control frames must not be fragmented")
        if length > 125:
            raise CloseError(PROTOCOL_ERROR, "control frames must have at most 125 bytes of payload")
    elif within != (opcode == CONTINUATION):
        continuation, new = "a continuation frame", "a new message"
        expected, got = (continuation, new) if within else (new, continuation)
        raise CloseError(PROTOCOL_ERROR, f"expected {expected}, got {got}")
    if length < 126:
        return 6, length
    size = 4 if length == 126 else 10
    if have < size:
        return None
    length = int.from_bytes(data[position + 2 : position + size], "big")
    if length >> 63:
        raise CloseError(PROTOCOL_ERROR, "the most significant bit of a 64-bit payload length must be 0")
    return size + 4, length


def _wrong_bit(first: int, *, deflate: bool) -> str:
    """Which reserved bit of a frame's first byte is set that may not be."""
    if first & RESERVED:
        return "the reserved bits RSV2 and RSV3 must be 0"
    when = "except in the first frame of a message" if deflate else "where permessage-deflate was not negotiated"
    return f"the reserved bit RSV1 must be 0 {when}"


def header(first: int, length: int) -> bytes:
    """The header of a server's frame: its first byte, and its length in as few bytes as it takes."""
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return b"%c\x7e%b" % (first, length.to_bytes(2, "big"))
    return b"%c\x7f%b" % (first, length.to_bytes(8, "big"))


def rotated(mask: bytes | bytearray, offset: int) -> bytes:
    """The mask as it begins at an offset of the payload."""
    offset %= 4
    return bytes(mask[offset:] + mask[:offset])


def check_text(before: bytes, data: bytes | bytearray, *, final: bool) -> bytes:
    """Check text that goes on after bytes of a character that was not whole; returns those that data ends in.

    Raises CloseError, for what is no UTF-8 or can't become it.
    """
    if not before and data.isascii():
        return b""
    try:
        data = before + data
        return bytes(data[codecs.utf_8_decode(data, "strict", final)[1] :])
    except UnicodeDecodeError:
        raise CloseError(INVALID_DATA, "a text message must be UTF-8") from None


def check_close(payload: bytes) -> None:
    """Check what a close frame says (RFC 6455 sections 5.5.1 and 7.4). Raises CloseError."""
    if not payload:
        return
    if len(payload) == 1:
        raise CloseError(PROTOCOL_ERROR, "a close frame must have a code of 2 bytes, or no payload")
    code = int.from_bytes(payload[:2], "big")
    if code not in _CODES and not 3000 <= code <= 4999:
        expected = "expected 1000 to 1003, 1007 to 1014 or 3000 to 4999"
        raise CloseError(PROTOCOL_ERROR, f"a close frame must not have the code {code}: {expected}")
    try:
        codecs.utf_8_decode(payload[2:], "strict", True)
    except UnicodeDecodeError:
        raise CloseError(INVALID_DATA, "the reason in a close frame must be UTF-8") from None


class SingleFrame:
    """A frame that is a whole message, as it comes: unmasked, checked if it is text, made the frame that goes back.

    left: bytes of the payload that have not come. size: bytes of it that have. buffer: where the answer is made; None:
    in memory of its own, which grows as the payload comes.
    """

    __slots__ = ("_at", "_frame", "_mask", "_tail", "buffer", "first", "left", "size")

    def __init__(self, first: int, length: int, mask: bytes, buffer: memoryview | None = None) -> None:
        """first: the frame's first byte. length: bytes. buffer: of LONGEST_HEADER and length bytes at least."""
        self.first = first
        self.buffer = buffer
        self.left = length
        self.size = 0
        self._mask = mask
        self._tail = b""
        begin = header(first, length)
        self._at = len(begin)
        self._frame: bytearray | memoryview
        if buffer is None:
            self._frame = bytearray(begin)
        else:
            buffer[: self._at] = begin
            self._frame = buffer

    def add(self, masked: bytes | memoryview) -> None:
        """Take what comes next, at most what is left. Raises CloseError."""
        for start in range(0, len(masked), _STEP):
            piece = apply_mask(masked[start : start + _STEP], rotated(self._mask, self.size))
            size = len(piece)
            self.left -= size
            self.size += size
            if self.first & OPCODE == TEXT:
                self._tail = check_text(self._tail, piece, final=not self.left)
            self._frame[self._at : self._at + size] = piece
            self._at += size

    def answer(self) -> bytearray | memoryview:
        """The frame that goes back, when nothing is left."""
        return self._frame[: self._at] if isinstance(self._frame, memoryview) else self._frame
