"""CORS preflight requests (Fetch section 4.8): what a page of another origin may send."""

import re

from echoserver.wire.request import TOKEN

_PREFLIGHT = re.compile(
    rb"\r\n(?:(origin)|access-control-request-(?:(method)|(headers))):[ \t]*([^\r]*)", re.IGNORECASE
)
_TOKENS = re.compile(TOKEN + rb"(?:[ \t]*,[ \t]*" + TOKEN + rb")*")


def preflight(head: bytes) -> bytes:
    """What a CORS preflight request is allowed, as field lines; b"" where it is none (Fetch section 4.8)."""
    if not head.startswith(b"OPTIONS "):
        return b""
    origin = method = names = b""
    for found in _PREFLIGHT.finditer(head):
        if found[1]:
            origin = found[4]
        elif found[2]:
            method = found[4].strip(b" \t")
        else:
            names = found[4].strip(b" \t")
    if not origin or not re.fullmatch(TOKEN, method):
        return b""
    allowed = b"Access-Control-Allow-Methods: %b\r\n" % method
    if _TOKENS.fullmatch(names):
        allowed += b"Access-Control-Allow-Headers: %b\r\n" % names
    return allowed + b"Access-Control-Max-Age: 600\r\n"
