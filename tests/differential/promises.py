"""What README.md and DESIGN.md promise as the answer to a request. One function for each promise."""

import base64
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable

from tests.differential.conversations import MAX_DELAY, MAX_SIZE, Settings
from tests.differential.reading import Message

TEXT, OCTETS, JSON = b"text/plain", b"application/octet-stream", b"application/json"
_ERROR_TYPE = b"text/plain; charset=utf-8"
_EMPTY = frozenset({204, 205, 304})
_SECRET = (b"authorization", b"proxy-authorization", b"cookie")
_CODED = (b"content-encoding", b"content-language")
_DESCRIBED = 64 << 10  # bytes of content up to which a description has the content itself
_PAGES = {
    b"/healthz": (_ERROR_TYPE, b"ok\n"),
    b"/readyz": (_ERROR_TYPE, b"ready\n"),
    b"/.echo": None,
    b"/metrics": None,
}
_MORE = 300  # bytes of a response's head and of framing that are sent besides content

Check = Callable[[bytes], str]
"""Says what is wrong with content: "" for nothing."""


@dataclasses.dataclass(slots=True)
class Answer:
    """What must come back for one request.

    statuses: one of them. content: the content, None where check says what it may be. content_type: None for any.
    length: Content-Length where there is one, None where it is the content's. chunked: True or False, None for either.
    closes: it is the connection's last; None: the response says which. cut: it may also be one of status 200 that
    breaks off, after a beginning of content. reset: there is none, the connection is reset. interim: 100 may come
    before it. fields: others that it has. coded: how its content is coded, in which language, None where nobody knows.
    ignored: what X-Echo-Ignored names. early: what may come in place of it and of 100, and ends the connection.
    """

    statuses: frozenset[int] = frozenset({200})
    content: bytes = b""
    check: Check | None = None
    content_type: bytes | None = TEXT
    length: int | None = None
    chunked: bool | None = False
    closes: bool | None = False
    keep_alive: bool = False
    cut: bytes | None = None
    reset: bool = False
    interim: bool = False
    silent: bool = False
    error: bool = False
    fields: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)
    replaced: frozenset[bytes] = frozenset()
    coded: dict[bytes, bytes] | None = dataclasses.field(default_factory=dict)
    ignored: frozenset[bytes] = frozenset()
    early: "Answer | None" = None
    behind: bool = False
    about: Message | None = None


# --- controls ---


def _decoded(value: bytes) -> bytes:
    value = value.replace(b"+", b" ")
    return re.sub(rb"%([0-9a-fA-F]{2})", lambda found: bytes.fromhex(found[1].decode()), value)


_TIME = rb"(?:off|\s*[0-9]{1,9}(?:\.[0-9]{1,9})?\s*(?:ms|s|m|h)?\s*)"
_SIZE = re.compile(rb"\s*([0-9]{1,15})\s*(B|KiB|MiB|GiB|KB|MB|GB)?\s*", re.IGNORECASE)
_UNITS = {b"": 1, b"b": 1, b"kib": 1 << 10, b"mib": 1 << 20, b"gib": 1 << 30, b"kb": 10**3, b"mb": 10**6, b"gb": 10**9}
_PERCENT = re.compile(rb"on|off|\s*([0-9]{1,3}(?:\.[0-9]+)?)\s*%?\s*")
_MEANT = {
    b"status": rb"\s*[0-9]{3}", b"delay": rb"\s*[0-9]|off(?![a-z])", b"size": rb"\s*[0-9]", b"rate": rb"\s*[0-9]",
    b"echo": rb"json|head|body|none", b"close": rb"\Z|\s*[0-9]|(?:on|off)(?![a-z])",
    b"abort": rb"\Z|\s*[0-9]|(?:on|off)(?![a-z])",
    b"chunked": rb"\Z", b"header": rb"[^:]*:",
}  # fmt: skip
"""How a value begins that was meant for this server: another one is an application's."""


class Refused(Exception):
    """A control that was meant, and can't be."""


class ChanceError(Exception):
    """Nobody can say what the answer must be: it is left to chance."""


@dataclasses.dataclass(slots=True)
class Wishes:
    """The controls of a query. Of those in percent all that may happen."""

    echo: bytes = b""
    statuses: frozenset[int | None] = frozenset({None})
    size: int | None = None
    fields: list[tuple[bytes, bytes]] = dataclasses.field(default_factory=list)
    chunked: bool = False
    close: bool = False
    abort: bool = False
    any: bool = False
    """There are controls."""
    ignored: frozenset[bytes] = frozenset()
    """Names of controls with values that are none."""


def _percent(value: bytes) -> float:
    found = _PERCENT.fullmatch(value)
    if not found or (found[1] and float(found[1]) > 100):
        raise Refused
    return float(found[1]) if found[1] else 100.0 * (value == b"on")


def _size(value: bytes) -> int:
    found = _SIZE.fullmatch(value)
    if not found:
        raise Refused
    return int(found[1]) * _UNITS[(found[2] or b"").lower()]


def _shares(value: bytes, form: bytes) -> list[tuple[bytes, float]]:
    items = value.split(b",")
    found = [
        (each, _percent(percent) if colon else 100.0)
        for each, colon, percent in (item.partition(b":") for item in items)
    ]
    if not all(re.fullmatch(form, each) for each, _ in found) or (
        len(items) > 1 and not all(b":" in item for item in items)
    ):
        raise Refused
    if sum(percent for _, percent in found) > 100:
        raise Refused
    return found


def _wish(wishes: Wishes, name: bytes, value: bytes) -> None:
    """What one control asks for. Raises Refused."""
    if name == b"echo":
        if value not in (b"json", b"head", b"body", b"none"):
            raise Refused
        wishes.echo = value
    elif name == b"status":
        shares = _shares(value, rb"[2-5][0-9][0-9]")
        rest = frozenset({None}) if sum(percent for _, percent in shares) < 100 else frozenset[None]()
        wishes.statuses = frozenset(int(each) for each, percent in shares if percent) | rest
    elif name == b"delay":
        for each, _ in _shares(value, _TIME + rb"(?:-" + _TIME + rb")?"):
            low, dash, high = each.partition(b"-")
            if (dash and _seconds(high) < _seconds(low)) or _seconds(high or low) > MAX_DELAY:
                raise Refused
    elif name == b"size":
        wishes.size = _size(value)
        if wishes.size > MAX_SIZE:
            raise Refused
    elif name == b"rate":
        if not _size(value):
            raise Refused
    elif name in (b"close", b"abort"):
        happens = _percent(value) if value else 100.0
        if happens not in (0.0, 100.0):
            raise ChanceError
        setattr(wishes, name.decode(), bool(happens))
    elif name == b"chunked":
        if value:
            raise Refused
        wishes.chunked = True
    else:
        wishes.fields.append(_field(value))


def _seconds(text: bytes) -> float:
    number = re.match(rb"\s*[0-9.]+", text)
    unit = text[number.end() :].strip() if number else b""
    return float(number[0]) * {b"ms": 0.001, b"s": 1, b"": 1, b"m": 60, b"h": 3600}[unit] if number else 0.0


def _field(value: bytes) -> tuple[bytes, bytes]:
    name, colon, text = value.partition(b":")
    text = text.strip(b" \t")
    if (
        not colon
        or not re.fullmatch(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name)
        or not re.fullmatch(rb"[\t -~\x80-\xff]*", text)
    ):
        raise Refused
    lower = name.lower()
    if lower in {
        b"connection",
        b"content-length",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }:
        raise Refused
    if re.fullmatch(rb"access-control-.*|clear-site-data|service-worker-allowed|strict-transport-security", lower):
        raise Refused
    return name, text


def wishes_of(message: Message) -> Wishes:
    """The controls of a request. Raises Refused."""
    wishes = Wishes()
    if page_of(message) is not None:
        return wishes
    pairs = [each.partition(b"=") for each in message.target.partition(b"?")[2].split(b"&")]
    names = [name for name, _, _ in pairs]
    for name, _, text in pairs:
        if name not in _MEANT:
            continue
        value = _decoded(text)
        if (name != b"header" and names.count(name) > 1) or not re.match(_MEANT[name], value, re.IGNORECASE):
            wishes.ignored |= {name}
            continue
        wishes.any = True
        _wish(wishes, name, value)
    if _prefers_json(message) and not message.has_content:
        wishes.any = True
        wishes.echo = wishes.echo or b"json"
    if wishes.chunked and message.version == b"1.0":
        raise Refused
    return wishes


def _prefers_json(message: Message) -> bool:
    """RFC 9110 section 12.5.1: application/json is named, and text weighs less, or as much and comes later.

    What is no media range and weight says nothing of JSON.
    """
    weights: dict[bytes, float] = {}
    for each in message.listed(b"accept"):
        media_type, *parameters = (part.strip() for part in each.split(b";"))
        weight = next((part[2:] for part in parameters if part.startswith(b"q=")), b"1")
        known = re.fullmatch(rb"[01](?:\.[0-9]{0,3})?", weight)
        weights.setdefault(media_type, float(weight) if known else 1.0)
    wanted = weights.get(JSON, 0.0)
    text = next((weights[each] for each in (TEXT, b"text/*", b"*/*") if each in weights), 0.0)
    order = list(weights)
    return wanted > text or (0 < wanted == text and (TEXT not in order or order.index(JSON) < order.index(TEXT)))


# --- answers ---


def page_of(message: Message) -> bytes | None:
    """Which of the server's own pages a request is for."""
    path = re.sub(rb"\A[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]*", b"", message.target).partition(b"?")[0]
    asks = message.method in (b"GET", b"HEAD", b"OPTIONS") and not message.has_content
    return path if asks and path in _PAGES else None


def _head_echo(message: Message) -> tuple[bytes, bytes]:
    if message.method == b"TRACE":
        lines = message.head[:-4].split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in _SECRET]
        return b"message/http", b"\r\n".join(kept) + b"\r\n\r\n"
    if message.method == b"HEAD":
        return TEXT, message.head[1:]
    return TEXT, message.head


def _content_type(message: Message) -> bytes:
    return (message.values(b"content-type") or [b""])[0] or OCTETS


def _coded(message: Message) -> dict[bytes, bytes]:
    """The fields that say how to read the content."""
    lists = {name: b", ".join(filter(None, message.values(name))) for name in _CODED}
    return {name: value for name, value in lists.items() if value}


def _description(message: Message, content: bytes, *, pressed: bool) -> Check:
    """Checks a description in JSON, as far as it is not about the server. pressed: it may lack the content itself."""
    wanted = content or None

    def check(content: bytes) -> str:
        try:
            said = json.loads(content)
        except ValueError:
            return "the description is no JSON"
        method = b"GET" if message.method == b"HEAD" else message.method
        hidden = _SECRET if message.method == b"TRACE" else ()
        fields = [[name.decode("latin-1"), value] for name, value in message.fields if name.lower() not in hidden]
        theirs = [[name, _bytes(value)] for name, value in said["fields"]]
        for each in (*fields, *theirs):
            if each[0].lower() == "transfer-encoding":  # h11 has it in lower case
                each[1] = each[1].lower()
        described = said["content"]
        if said["method"] != method.decode() or _bytes(said["target"]) != message.target:
            return "the description's request line is another"
        if said["version"] != f"HTTP/{message.version.decode()}":
            return "the description's version is another"
        if not any(name == b"content-length" for name, _ in message.fields) and theirs != fields:
            return "the description's fields are others"
        if (described is None) != (wanted is None):
            return "the description has content, or none"
        if wanted is not None and (
            described["length"] != len(wanted) or described["sha256"] != hashlib.sha256(wanted).hexdigest()
        ):
            return "the description's content is another"
        if wanted is None or (pressed and not {"text", "base64"} & described.keys()):
            return ""
        told = described["text"].encode() if "text" in described else base64.b64decode(described.get("base64", ""))
        return "" if told == (wanted if len(wanted) <= _DESCRIBED else b"") else "the description's text is another"

    return check


def _bytes(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _is_error(status: int) -> Check:
    def check(content: bytes) -> str:
        if not content.startswith(b"%d " % status) or content.count(b"\n") != 1 or not content.endswith(b"\n"):
            return "an error is not a line of text that begins with its status"
        return ""

    return check


def refusal(message: Message, settings: Settings, before: int) -> Answer:
    """An error: a line of text that says why, and the connection closes."""
    answer = Answer(message.refused, content_type=_ERROR_TYPE, closes=True, error=True)
    answer.silent = message.head.startswith(b"HEAD ")
    message.behind = True  # torn, the rest of it comes behind its refusal
    if message.started and (message.chunked or before + message.length > settings.buffer_limit or settings.pressed):
        answer.cut = message.content
    answer.interim = message.started
    return answer


def answers(messages: list[Message], settings: Settings) -> list[Answer]:
    """What must come back for all requests, in order; after the last one, or one that closes, nothing."""
    found = []
    before = 0  # bytes that may still be on their way when the next answer begins
    for message in messages:
        answer = _answer(message, settings, before)
        answer.about = message
        answer.behind = message.behind
        found.append(answer)
        if answer.closes or answer.reset:
            break
        before += len(answer.content) + _MORE + (answer.length or 0)
    return found


def _answer(message: Message, settings: Settings, before: int) -> Answer:
    refused = message.refused
    wishes = Wishes()
    if message.method:
        try:
            wishes = wishes_of(message)
        except Refused:
            message.refused, message.started = (refused if not message.started else frozenset()) | {400}, False
            return refusal(message, settings, before)
    expects = bool(message.values(b"expect")) and message.version != b"1.0" and message.has_content
    decided = expects and (wishes.abort or any((each or 0) >= 400 for each in wishes.statuses))
    if refused:
        answer = refusal(message, settings, before)
        if message.started and decided:
            answer.early = _early(message, wishes, settings)
            answer.interim = not _is_decided(wishes)
        return answer
    if _is_handshake(message) and not wishes.statuses - {None}:
        message.refused = frozenset({400})
        return refusal(message, settings, before)
    answer = _asked(message, wishes, settings) if wishes.any else _plain(message)
    answer.silent = message.method == b"HEAD"
    answer.closes = wishes.close or not message.persistent
    answer.keep_alive = message.version == b"1.0" and not answer.closes
    answer.reset = wishes.abort
    answer.ignored = wishes.ignored
    answer.interim = expects and not _is_decided(wishes)
    if decided:
        answer.early = _early(message, wishes, settings)
    if settings.pressed and (wishes.any or len(message.head) > 4096):
        answer.statuses |= {503}  # --buffer-total is used up
    return answer


def _is_decided(wishes: Wishes) -> bool:
    """The answer is an error, whatever is sent."""
    return wishes.abort or all((each or 0) >= 400 for each in wishes.statuses)


def _early(message: Message, wishes: Wishes, settings: Settings) -> Answer:
    """The answer that is an error whatever is sent, to a client that waits for 100."""
    waiting = dataclasses.replace(message, content=b"")
    answer = _asked(waiting, wishes, settings)
    answer.statuses = frozenset(each for each in answer.statuses if each >= 400)
    if wishes.size is None and wishes.echo in (b"", b"body"):
        answer.content_type, answer.coded = None, None
    answer.silent = message.method == b"HEAD"
    answer.ignored, answer.closes, answer.reset = wishes.ignored, True, wishes.abort
    return answer


def _is_handshake(message: Message) -> bool:
    """All that conversations have are wrong: they get a 400."""
    return (
        message.method == b"GET" and message.version != b"1.0" and not message.chunked and not message.length
        and b"upgrade" in message.listed(b"connection") and b"websocket" in message.listed(b"upgrade")
        and page_of(message) is None
    )  # fmt: skip


def _plain(message: Message) -> Answer:
    page = page_of(message)
    if page is not None:
        if message.method == b"OPTIONS":
            return Answer(content_type=None, fields=[(b"Allow", b"GET, HEAD, OPTIONS")])
        served = _PAGES[page]
        if served is None:
            return Answer(content_type=None, check=lambda content: "" if content else "an empty page")
        return Answer(content_type=served[0], content=served[1])
    if message.declared and message.method != b"TRACE":
        chunked = None if message.chunked else False
        return Answer(
            content_type=_content_type(message), content=message.content, chunked=chunked, coded=_coded(message)
        )
    content_type, content = _head_echo(message)
    return Answer(content_type=content_type, content=content)


def _asked(message: Message, wishes: Wishes, settings: Settings) -> Answer:
    """An answer as the controls want it."""
    echo = wishes.echo or (b"body" if message.declared and message.method != b"TRACE" else b"head")
    answer = Answer()
    if echo == b"body":
        answer.content_type = _content_type(message) if message.declared else OCTETS  # of no content there is no type
        answer.content = message.content
        answer.chunked = None if message.chunked else False
        answer.coded = _coded(message) if message.declared else {}
    elif echo == b"head":
        answer.content_type, answer.content = _head_echo(message)
    elif echo == b"json":
        answer.content_type, answer.check = JSON, _description(message, message.content, pressed=settings.pressed)
    if wishes.size is not None:
        size = wishes.size
        answer.content_type, answer.check, answer.content = TEXT, lambda content: _is_pattern(content, size), b""
        answer.length, answer.chunked, answer.coded = size, False, {}
    default = 204 if echo == b"none" and wishes.size is None else 200
    answer.statuses = frozenset(each or default for each in wishes.statuses)
    if wishes.chunked:
        answer.chunked = True
    if echo == b"body" and wishes.size is None and max(answer.statuses) >= 400 and _is_much(message, settings):
        answer.check = lambda content: "" if content in (b"", message.content) else "content is neither all nor dropped"
        answer.content_type, answer.chunked, answer.coded = None, None, None
    answer.fields, answer.replaced = wishes.fields, frozenset(name.lower() for name, _ in wishes.fields)
    return answer


def _is_much(message: Message, settings: Settings) -> bool:
    """Whether content is not held whole: with a status from 400 on it is dropped, and not echoed."""
    return settings.pressed or len(message.content) >= settings.buffer_limit


def _is_pattern(content: bytes, size: int) -> str:
    return "" if len(content) == size and content.isascii() else "content is not so many bytes of text"


# --- a response against what it must be ---

_EVERY = (b"server", b"date")


def wrong(answer: Answer, status: int, fields: list[tuple[bytes, bytes]], content: bytes) -> str:
    """What is wrong with a response that is complete: "" for nothing. fields: names in lower case."""
    names = [name for name, _ in fields]
    values = dict(fields)
    if answer.cut is not None and answer.silent and 200 <= status < 300:
        return ""  # to HEAD: what broke off is complete without its content
    if status not in answer.statuses:
        return f"status {status} where {'/'.join(map(str, sorted(answer.statuses)))} was due"
    error = answer.error or (status == 503 and values.get(b"content-type") == _ERROR_TYPE)
    if any(names.count(each) != 1 for each in _EVERY):
        return "Server or Date is missing, or there twice"
    if status not in (204, 304) and (b"content-length" in names) == (b"transfer-encoding" in names):
        return "neither Content-Length nor chunked, or both"
    if status not in _EMPTY and values.get(b"x-content-type-options") != b"nosniff":
        return "no nosniff"
    if b"x-served-by" not in names:
        return "no X-Served-By"
    if not error and (found := _wrong_fields(answer, status, fields)):
        return found
    closes = b"close" in values.get(b"connection", b"").split(b", ")
    if answer.closes is not None and closes != (answer.closes or error):
        return "Connection: close is missing" if not closes else "Connection: close where the connection goes on"
    if answer.keep_alive and not error and values.get(b"connection") != b"keep-alive":
        return "Connection: keep-alive is missing"
    return _wrong_content(answer, status, values, content, error=error)


def _wrong_fields(answer: Answer, status: int, fields: list[tuple[bytes, bytes]]) -> str:
    given = [(name.lower(), value) for name, value in answer.fields]
    if any(each not in fields for each in given):
        return "an added field is missing"
    values = dict(fields)
    if frozenset(filter(None, values.get(b"x-echo-ignored", b"").split(b", "))) != answer.ignored:
        return "X-Echo-Ignored names others"
    if status in _EMPTY:
        return ""
    coded = {name: value for name, value in fields if name in _CODED and name not in answer.replaced}
    if answer.coded is not None and coded != {k: v for k, v in answer.coded.items() if k not in answer.replaced}:
        return "the content is said to be coded otherwise"
    if (
        answer.content_type is not None
        and b"content-type" not in answer.replaced
        and values.get(b"content-type") != answer.content_type
    ):
        return f"type {values.get(b'content-type', b'')[:30]!r} where {answer.content_type[:30]!r} was due"
    if answer.chunked is not None and not answer.silent and (b"transfer-encoding" in values) != answer.chunked:
        return "chunked coding is missing" if answer.chunked else "chunked coding where Content-Length was due"
    return ""


def _wrong_content(answer: Answer, status: int, values: dict[bytes, bytes], content: bytes, *, error: bool) -> str:
    if status in _EMPTY:
        return "content with a status that has none" if content else ""
    if answer.silent:
        if content:
            return "content in an answer to HEAD"
        length = answer.length if answer.length is not None else len(answer.content) if answer.check is None else None
        if (
            length is not None
            and not error
            and b"content-length" in values
            and int(values[b"content-length"]) != length
        ):
            return "another Content-Length than GET would have"
        return ""
    if error:
        return _is_error(status)(content)
    if answer.check is not None:
        return answer.check(content)
    if content != answer.content:
        return f"content is {'cut' if answer.content.startswith(content) else 'another'}"
    return ""
