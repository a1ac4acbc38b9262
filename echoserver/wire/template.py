"""Header sections that differ only where it does not matter, known by what they have in common."""

import re

from echoserver.wire.request import TOKEN, Request

MOST_PARTS = 6
"""Looking at more takes longer than to read the section anew."""

_TARGET = re.compile(rb"(" + TOKEN + rb" /)[!->@-~]*( HTTP/1\.[0-9])")
_VALUE = re.compile(
    rb"((?!(?:host|content-(?:length|type|encoding|language)|transfer-encoding|connection|expect|upgrade"
    rb"|proxy-connection):)" + TOKEN + rb":)[ -~]*()",
    re.IGNORECASE,
)
_PRINTABLE = bytes(byte if 0x20 <= byte <= 0x7E else 0x20 for byte in range(256))
"""For bytes.translate(): it changes what is not printable ASCII."""
_WITHOUT_QUERY = _PRINTABLE.replace(b"?", b" ")
"""The same, and what begins a query: there may be controls in it."""


class HeadTemplate:
    """A header section that has been read, but for the parts of it that vary from request to request.

    These are the path, and values of fields that mean nothing to this server. Any printable ASCII may stand there
    without making it another request, or one that llhttp would refuse; in the path all but what begins a query.
    The path may be that of a page, which is echoed to such a request; but no template may outlive the server's being
    ready.
    """

    __slots__ = ("_beginning", "_rest", "varying")

    def __init__(self, head: bytes, varying: set[int]) -> None:
        """varying: the numbers of the lines in which there is a part that varies.

        Raises ValueError where another part of such a line matters.
        """
        pieces, tables = [b""], [b""]
        for number, line in enumerate(head[:-2].split(b"\r\n")):
            if number in varying:
                found = (_VALUE if number else _TARGET).fullmatch(line)
                if found is None:
                    raise ValueError("a line that matters, or is out of the ordinary")
                pieces[-1] += found[1]
                pieces.append(found[2])
                tables.append(_PRINTABLE if number else _WITHOUT_QUERY)
            else:
                pieces[-1] += line
            pieces[-1] += b"\r\n"
        self.varying = varying
        self._beginning = pieces[0]
        self._rest = [(piece[:1], piece, table) for piece, table in zip(pieces[1:], tables[1:], strict=True)]

    def fits(self, data: bytes, most: int) -> int:
        """The length of the header section of this kind, of most bytes at most, that data begins with; else -1."""
        beginning = self._beginning
        if not data.startswith(beginning):
            return -1
        end = len(beginning)
        for first, piece, table in self._rest:
            start = end
            end = data.find(first, start, most)
            part = data[start:end]
            if end < 0 or part.translate(table) != part or not data.startswith(piece, end):
                return -1
            end += len(piece)
        return end if end <= most else -1


def template_of(request: Request, before: Request) -> HeadTemplate | None:
    """The template of a request with content of a known length, as far as it is also that of the one before; or None.

    What has varied earlier on the connection may go on to do so.
    """
    if not request.content_type or request.size < 0 or request.content_length != before.content_length:
        return None
    lines, lines_before = request.head.split(b"\r\n"), before.head.split(b"\r\n")
    if len(lines) != len(lines_before):
        return None
    varying = {number for number, line in enumerate(lines) if line != lines_before[number]}
    if before.template is not None:
        varying |= before.template.varying
    if len(varying) > MOST_PARTS:
        return None
    try:
        return HeadTemplate(request.head, varying)
    except ValueError:
        return None
