"""Frames of HTTP/2: types, flags, errors and settings, and those that a server sends (RFC 9113 sections 4, 6, 7)."""

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (section 3.4)."""

HEADER = 9
"""Octets of a frame's header."""
MAX_SIZE = 16384
"""Octets of a frame's payload at most: the initial value of the setting, and the only one that is used here."""
WINDOW = 65535
"""The initial size of all windows (section 6.9.2)."""
MAX_WINDOW = (1 << 31) - 1
MAX_STREAM = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
"""RFC 9218 section 7.1."""

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
INADEQUATE_SECURITY, HTTP_1_1_REQUIRED = 12, 13

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)
MAX_HEADER_LIST_SIZE, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 6, 8, 9

_SETTING = struct.Struct(">HI")
_LONG = struct.Struct(">I")
_GOAWAY = struct.Struct(">II")

header = struct.Struct(">HBBBI").unpack_from
"""A frame's header at an offset: its length without the last eight bits, those, type, flags, stream."""


class Http2Error(Exception):
    """A connection error (section 5.4.1): what the connection ends for, a code and why, for GOAWAY."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def too_long() -> Http2Error:
    """What a frame with a longer payload than MAX_SIZE is (section 4.2)."""
    return Http2Error(FRAME_SIZE_ERROR, f"frames must have {MAX_SIZE} octets at most")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return b"%b%b" % (begin(kind, flags, stream, len(payload)), payload)


def begin(kind: int, flags: int, stream: int, length: int) -> bytes:
    """A frame's header; length: octets of the payload."""
    return (length << 48 | kind << 40 | flags << 32 | stream).to_bytes(HEADER, "big")


def headers(stream: int, block: bytes, *, end_stream: bool = False) -> bytes:
    """A field section, as HEADERS and as many frames of CONTINUATION as it takes (section 4.3)."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= MAX_SIZE:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    frames = [frame(HEADERS, flags, stream, block[:MAX_SIZE])]
    for start in range(MAX_SIZE, len(block), MAX_SIZE):
        last = start + MAX_SIZE >= len(block)
        frames.append(frame(CONTINUATION, END_HEADERS if last else 0, stream, block[start : start + MAX_SIZE]))
    return b"".join(frames)


def settings(values: dict[int, int]) -> bytes:
    """SETTINGS (section 6.5)."""
    return frame(SETTINGS, 0, 0, b"".join(map(_SETTING.pack, values.keys(), values.values())))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings in a payload, in order. Raises Http2Error where they are none (section 6.5)."""
    if len(payload) % 6:
        raise Http2Error(FRAME_SIZE_ERROR, "SETTINGS must have a length that is a multiple of 6")
    found = list(_SETTING.iter_unpack(payload))
    for name, value in found:
        if name == ENABLE_PUSH and value > 1:
            raise Http2Error(PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH must be 0 or 1")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise Http2Error(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE must be less than 2^31")
        if name == MAX_FRAME_SIZE and not MAX_SIZE <= value < 1 << 24:
            raise Http2Error(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE must be from 2^14 to 2^24 - 1")
        if name == ENABLE_CONNECT_PROTOCOL and value > 1:
            raise Http2Error(PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL must be 0 or 1")
    return found


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM (section 6.4)."""
    return frame(RST_STREAM, 0, stream, _LONG.pack(code))


def goaway(last: int, code: int, reason: str = "") -> bytes:
    """GOAWAY (section 6.8): the last stream that was or may be processed; reason: for a person to read."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last, code) + reason.encode())


def window_update(stream: int, octets: int) -> bytes:
    """WINDOW_UPDATE (section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream, _LONG.pack(octets))


def number(payload: bytes) -> int:
    """The number of 32 bits that is all of a payload."""
    return int.from_bytes(payload, "big")


def field_section(payload: bytes, flags: int) -> tuple[bytes, int]:
    """What of a payload of HEADERS is of the block (section 6.2), and the stream that it depends on, 0 for none.

    Raises Http2Error.
    """
    if flags & PADDED:
        payload = unpadded(payload)
    if not flags & PRIORITIZED:
        return payload, 0
    if len(payload) < 5:
        raise Http2Error(FRAME_SIZE_ERROR, "HEADERS with the PRIORITY flag must have five octets for it")
    return payload[5:], number(payload[:4]) & MAX_STREAM


def unpadded(payload: bytes) -> bytes:
    """A payload without its padding (section 6.1). Raises Http2Error."""
    if not payload:
        raise Http2Error(FRAME_SIZE_ERROR, "a frame with the PADDED flag must have a length of the padding")
    padding = payload[0]
    if padding >= len(payload):
        raise Http2Error(PROTOCOL_ERROR, "the padding must be shorter than the frame")
    return payload[1 : len(payload) - padding]
