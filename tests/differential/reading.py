"""An independent reading of what a client has sent, by h11, and the rules by which ours differs from it.

h11 is asked about each request anew, with what is left of the bytes: how connections go on is not its to say here
(it has no keep-alive for HTTP/1.0). Where it is laxer or stricter than this server means to be, a rule says so.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator

import h11

from tests.differential.conversations import Settings

_ENOUGH = 1 << 30  # bytes of a header section that h11 takes: the limits are rules here


@dataclasses.dataclass(slots=True)
class Message:
    """A request as it was read.

    refused: statuses of which one must be the answer; none for a request that is one. complete: all of it has come.
    content: as far as it came, and was well-formed.
    """

    head: bytes
    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    fields: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)
    declared: bool = False
    chunked: bool = False
    length: int = 0
    content: bytes = b""
    complete: bool = True
    refused: frozenset[int] = frozenset()
    started: bool = False
    """It was refused, or broke off, within its content: the answer to it may have begun."""
    behind: bool = False
    """Something was sent after it."""

    def values(self, name: bytes) -> list[bytes]:
        """Those of the fields of a name, in lower case."""
        return [value for each, value in self.fields if each.lower() == name]

    def listed(self, name: bytes) -> list[bytes]:
        """The members of a list in one or more fields, in lower case."""
        return [each.strip(b" \t").lower() for value in self.values(name) for each in value.split(b",")]

    @property
    def has_content(self) -> bool:
        """Content-Length: 0 declares some, of no bytes."""
        return self.chunked or self.length > 0

    @property
    def persistent(self) -> bool:
        """RFC 9112 section 9.3."""
        options = self.listed(b"connection")
        return b"close" not in options and (self.version != b"1.0" or b"keep-alive" in options)


# --- the rules: where this server is not of h11's opinion about a header section ---

Head = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]


def _lines(head: bytes) -> list[bytes]:
    return head[:-4].split(b"\r\n")


@functools.lru_cache(1)
def _by_name(head: bytes) -> dict[bytes, list[bytes]]:
    """Values of fields by their names, read off the lines: h11 has not agreed to them yet."""
    found: dict[bytes, list[bytes]] = {}
    for line in _lines(head)[1:]:
        name, _, value = line.partition(b":")
        found.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return found


def _named(head: bytes, name: bytes) -> list[bytes]:
    return _by_name(head).get(name, [])


def _is_control(head: bytes) -> bool:
    """RFC 9110 section 5.5 has no control characters in values; h11 takes them, for there are cookies like that."""
    return any(re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line) for line in _lines(head)[1:])


def _is_bare_lf(head: bytes) -> bool:
    """RFC 9112 section 2.2 lets a recipient take a single LF for a line's end: h11 does, we don't (smuggling)."""
    return re.search(rb"(?<!\r)\n", head) is not None


def _is_folded(head: bytes) -> bool:
    """RFC 9112 section 5.2: a server refuses obs-fold, or replaces it as h11 does."""
    return any(line[:1] in (b" ", b"\t") for line in _lines(head)[1:])


_HOST = rb"(?:\[[0-9a-fA-F:.]+\]|(?:[!$&-.0-9;=A-Z_a-z~]|%[0-9a-fA-F]{2})*?)(?::[0-9]*)?"
"""RFC 9110 section 4.2, without the zones that RFC 9844 has taken out of URIs."""


def _is_no_host(head: bytes) -> bool:
    """RFC 9112 section 3.2: an invalid value of Host is a 400; h11 does not look at it."""
    return any(not re.fullmatch(_HOST, value) for value in _named(head, b"host"))


def _has_no_host(head: bytes) -> bool:
    """h11 asks for Host in HTTP/1.1 only, not in minor versions to come (RFC 9110 section 2.5)."""
    return not head.partition(b"\r\n")[0].endswith(b"/1.0") and not _named(head, b"host")


def _has_lengths(head: bytes) -> bool:
    """RFC 9112 section 6.3 lets a recipient take a length that is there repeatedly: h11 does, llhttp doesn't."""
    values = _named(head, b"content-length")
    return len(values) > 1 or any(b"," in value for value in values)


def _is_immense(head: bytes) -> bool:
    """llhttp counts content with 64 bits."""
    return any(re.fullmatch(rb"[0-9]+", value) and int(value) >= 1 << 64 for value in _named(head, b"content-length"))


def _codings(head: bytes) -> list[bytes]:
    values = _named(head, b"transfer-encoding")
    return [each.strip(b" \t").lower() for each in b",".join(values).split(b",")] if values else []


def _is_without_end(head: bytes) -> bool:
    """RFC 9112 sections 6.1 and 6.3: chunked is the last coding, and there once; h11 has a 501 for all but chunked."""
    codings = _codings(head)
    return bool(codings) and (codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or b"" in codings)


def _is_another_coding(head: bytes) -> bool:
    """RFC 9112 section 6.1; h11 says so too, where it does not stumble before."""
    return len(_codings(head)) > 1 and not _is_without_end(head)


def _is_tab_behind_coding(head: bytes) -> bool:
    """RFC 9110 section 5.5 has tabs behind a value: h11 takes them, and llhttp does not behind Transfer-Encoding."""
    return re.search(rb"(?i)\r\ntransfer-encoding:[^\r]*\t *\r", head) is not None


def _has_both(head: bytes) -> bool:
    """RFC 9112 section 6.1: a server may refuse Content-Length beside Transfer-Encoding."""
    return bool(_named(head, b"content-length")) and bool(_named(head, b"transfer-encoding"))


def _is_old_and_chunked(head: bytes) -> bool:
    """RFC 9112 section 6.1: Transfer-Encoding in HTTP/1.0 is to be taken for faulty framing."""
    return head.partition(b"\r\n")[0].endswith(b"/1.0") and bool(_named(head, b"transfer-encoding"))


def _is_another_version(head: bytes) -> bool:
    """RFC 9110 section 15.6.6; h11 leaves that to its caller."""
    found = re.search(rb"\AHTTP/([0-9])\.[0-9]\Z", head.partition(b"\r\n")[0].rpartition(b" ")[2])
    return found is not None and found[1] != b"1"


def _is_tunnel(head: bytes) -> bool:
    return head.startswith(b"CONNECT ")


def _is_no_target(head: bytes) -> bool:
    """RFC 9112 section 3.2: a path, a URI or an asterisk; h11 takes any visible characters."""
    words = head.partition(b"\r\n")[0].split(b" ")
    return len(words) == 3 and not re.match(rb"/|\*\Z|[a-zA-Z][a-zA-Z0-9+.-]*://", words[1])


def _is_no_resource(head: bytes) -> bool:
    """RFC 9110 sections 4.2.1 to 4.2.4: http or https, a host, nobody before it; what else is not served here."""
    target = head.partition(b"\r\n")[0].split(b" ")[1:2]
    uri = re.match(rb"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/?#]*)", target[0]) if target else None
    if uri is None:
        return False
    wrong = uri[1].lower() not in (b"http", b"https") or uri[2][:1] in (b"", b":")
    return wrong or not re.fullmatch(_HOST, uri[2])  # which has no @ in it


def _is_misplaced_asterisk(head: bytes) -> bool:
    """RFC 9112 section 3.2.4: it is for OPTIONS."""
    words = head.partition(b"\r\n")[0].split(b" ")
    return words[1:2] == [b"*"] and words[0] != b"OPTIONS"


def _expects_more(head: bytes) -> bool:
    """RFC 9110 section 10.1.1: an expectation other than 100-continue may get a 417; HTTP/1.0 has none."""
    expected = _named(head, b"expect")
    return (
        bool(expected) and not head.partition(b"\r\n")[0].endswith(b"/1.0")
        and [each.lower() for each in expected] != [b"100-continue"]
    )  # fmt: skip


def _is_traced_content(head: bytes) -> bool:
    """RFC 9110 section 9.3.8: a client must not send content in TRACE."""
    lengths = _named(head, b"content-length")
    some = any(not re.fullmatch(rb"0+", each) for each in lengths) or bool(_named(head, b"transfer-encoding"))
    return head.startswith(b"TRACE ") and some


STRICTER: dict[Callable[[bytes], bool], int] = {
    _is_control: 400, _is_bare_lf: 400, _is_folded: 400, _is_no_host: 400, _has_no_host: 400, _has_lengths: 400,
    _is_immense: 400, _has_both: 400, _is_without_end: 400, _is_another_coding: 501, _is_no_resource: 400,
    _is_misplaced_asterisk: 400, _is_tab_behind_coding: 400,
    _is_old_and_chunked: 400, _is_another_version: 505, _is_tunnel: 501,
    _is_no_target: 400, _expects_more: 417, _is_traced_content: 400,
}  # fmt: skip
"""What we refuse and h11 does not, or for another reason, and with which status."""


def _too_long(head: bytes, settings: Settings) -> set[int]:
    """The limits of this server, which h11 was not told."""
    found = set()
    if len(head) > settings.max_header:
        found.add(414 if head.find(b"\r\n", 0, settings.max_header) < 0 else 431)
    if head.count(b"\r\n") > 102:
        found.add(431)
    return found


@functools.lru_cache(64)
def _stricter(head: bytes, settings: Settings) -> frozenset[int]:
    """The statuses of all rules that are broken: clients repeat themselves."""
    return frozenset({status for rule, status in STRICTER.items() if rule(head)} | _too_long(head, settings))


def _unread(head: bytes, settings: Settings) -> set[int]:
    """Statuses for a header section of which not all has come."""
    return {400} | _too_long(head, settings) | ({503} if settings.pressed else set())


# --- chunked content, looked at line by line: for rules, and beside h11's reading of it ---

_LINE, _TRAILERS = 4096, 4096


_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE_LINE = rb"0*([0-9a-fA-F]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
_ONLY_OURS = re.compile(rb"[0-9a-fA-F][ \t]+;|0{6}")
"""What we take of chunked content, and h11 does not."""


def _scan(data: bytes, position: int) -> tuple[bytes, int, int]:
    """Content, where it ended (-1: not yet), and the status it is refused with (0: none).

    Laxer than h11: blanks before an extension (BWS, RFC 9112 section 7.1.1), any number of zeros before a size.
    Stricter: no blanks behind a size, extensions have a name and perhaps a value, no control characters in a trailer,
    no folded trailers, no line that ends in LF; and lines, sizes and trailer sections have a limit.
    """
    out: list[bytes] = []
    while True:
        end = data.find(b"\r\n", position)
        line = data[position : end if end >= 0 else len(data)]
        if len(line.removesuffix(b"\r") if end < 0 else line) > _LINE or b"\n" in line:
            return b"".join(out), -1, 400
        if end < 0:
            return b"".join(out), -1, 0
        size = re.fullmatch(_SIZE_LINE, line)
        if size is None:
            return b"".join(out), -1, 400
        left, position = int(size[1], 16), end + 2
        if not left:
            return b"".join(out), *_scan_trailers(data, position)
        out.append(data[position : position + left])
        position += left
        if not b"\r\n".startswith(data[position : position + 2]):
            return b"".join(out), -1, 400
        if len(data) < position + 2:
            return b"".join(out), -1, 0
        position += 2


def _scan_trailers(data: bytes, position: int) -> tuple[int, int]:
    start = position
    while True:
        end = data.find(b"\r\n", position)
        line = data[position : end if end >= 0 else len(data)]
        if (end + 2 if end >= 0 and line else position + len(line.removesuffix(b"\r"))) - start > _TRAILERS - 2 * (
            end < 0
        ):
            return -1, 431
        if end < 0:
            return -1, 400 if b"\n" in line else 0
        if not line:
            return end + 2, 0
        if not re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\x00-\x08\x0a-\x1f\x7f]*", line):
            return -1, 400
        position = end + 2


class Disagreement(AssertionError):
    """h11 and the rules are not of one opinion, and no rule says why: the rules lack one."""


def read(data: bytes, settings: Settings) -> Iterator[Message]:
    """The requests in what a client has sent before its FIN. After one that is refused, nothing is read."""
    position = 0
    while True:
        while data.startswith(b"\r\n", position):  # RFC 9112 section 2.2: empty lines before a request; h11 takes none
            position += 2
        rest = data[position:]
        if rest in (b"", b"\r"):
            return
        blank = rest.find(b"\r\n\r\n")
        if blank < 0:
            # it may be refused at its first bytes: then all others came behind it
            yield Message(rest, complete=False, refused=frozenset(_unread(rest, settings)), behind=True)
            return
        head = rest[: blank + 4]
        message = Message(head)
        refused = set(_stricter(head, settings))
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=_ENOUGH)
        reader.receive_data(rest)
        if not refused or not _is_bare_lf(head):
            theirs = _ask_for_head(reader, message)
            refused |= theirs - {501} if refused else theirs  # 501 is about codings: rules say which it is
        if refused:
            message.refused = frozenset(refused)
            message.behind = True  # torn, it may be refused at its first bytes
            yield message
            return
        end = _read_content(reader, message, rest, settings)
        message.behind = end < len(rest)
        yield message
        if message.refused or not message.complete:
            return
        position += end


def _ask_for_head(reader: h11.Connection, message: Message) -> set[int]:
    try:
        event = reader.next_event()
    except h11.RemoteProtocolError as error:
        return {error.error_status_hint}
    assert isinstance(event, h11.Request)
    message.method, message.target, message.version = event.method, event.target, event.http_version
    message.fields = event.headers.raw_items()
    message.chunked = bool(message.values(b"transfer-encoding"))
    lengths = message.values(b"content-length")
    message.declared = message.chunked or bool(lengths)
    message.length = int(lengths[0]) if lengths else 0
    return set()


def _read_content(reader: h11.Connection, message: Message, rest: bytes, settings: Settings) -> int:
    """Take the content; returns where the request ends in rest."""
    content, ended, wrong = [], False, False
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Data):
                content.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                ended = True
                break
            else:
                break
    except h11.RemoteProtocolError:
        wrong = True
    theirs = b"".join(content)
    start = len(message.head)
    if not message.chunked:
        message.content, message.complete, end = theirs, ended, start + message.length
    else:
        message.content, end, status = _scan(rest, start)
        message.complete = end >= 0
        if status:
            message.refused, message.started = frozenset({status}), True
        elif (
            message.complete
            and ended
            and (theirs != message.content or end != len(rest) - len(reader.trailing_data[0]))
        ):
            raise Disagreement(f"content of {message.head!r}")
        elif message.complete and not ended and not _ONLY_OURS.search(rest[start:end]):
            raise Disagreement(f"h11 does not take this: {rest[start:end][:300]!r}")
        elif wrong and not message.complete and not _ONLY_OURS.search(rest[start:]):
            raise Disagreement(f"h11 refuses this: {rest[start:][:300]!r}")
    over = settings.max_body and max(len(message.content), 0 if message.chunked else message.length) > settings.max_body
    if over:
        message.refused = message.refused | {413}
        message.started = message.chunked
    if not message.complete and not message.refused:
        message.refused, message.started = frozenset({400}), True
    return end
