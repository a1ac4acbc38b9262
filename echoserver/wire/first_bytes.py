"""Which protocol a connection speaks, by the first bytes that its client sends.

What they must begin with is in docs/one-port.md, a row for each protocol.
"""

import re

from echoserver.wire.http2_frames import PREFACE
from echoserver.wire.request import TOKEN

TLS, HTTP2, HTTP, RAW = "tls", "h2", "http", "raw"

LONGEST = 8 << 10
"""Bytes of a request line at most: what is longer is none."""

_METHODS = tuple(
    f"{method} ".encode()
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)  # fmt: skip
_RECORD = re.compile(rb"\x16\x03[\x00-\x04]")  # RFC 8446 section 5.1: a handshake, and any version that there has been
_REQUEST_LINE = re.compile(TOKEN + rb" [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
_LINE_SO_FAR = re.compile(
    TOKEN + rb"(?: (?:[!-~]+(?: (?:H(?:T(?:T(?:P(?:/(?:[0-9](?:\.(?:[0-9]\r?)?)?)?)?)?)?)?)?)?)?)?"
)


def protocol_of(data: bytes) -> str | None:
    """TLS, HTTP2, HTTP or RAW; None: that can't be told of so few bytes."""
    if not data:
        return None
    if data[0] == 0x16:
        return TLS if _RECORD.match(data) else None if _is_beginning(data, b"\x16\x03") else RAW
    if data[:1] == b"P" and PREFACE.startswith(data[: len(PREFACE)]):
        return HTTP2 if len(data) >= len(PREFACE) else None
    if data.startswith(_METHODS) or _REQUEST_LINE.match(data):
        return HTTP
    if len(data) <= LONGEST and _LINE_SO_FAR.fullmatch(data):
        return None
    return RAW


def _is_beginning(data: bytes, of: bytes) -> bool:
    return len(data) <= len(of) and of.startswith(data)
