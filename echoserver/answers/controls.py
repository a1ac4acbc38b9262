"""What a request asks for in its query besides an echo: a status, a delay, other content, a misbehaving server."""

import functools
import random
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from echoserver.config import values
from echoserver.wire.response import HttpError

BODY, HEAD, JSON, NONE = "body", "head", "json", "none"
"""What is echoed (?echo=): the content, the header section, a description of the request, nothing."""

_LONGEST = 1000  # characters of a value that is no field
_SHOWN = 60  # characters of a wrong value that its error shows
_FRAMING = frozenset({
    b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
    b"upgrade",
})  # fmt: skip
"""Fields that say where a message ends, or what becomes of the connection: wrong ones would hurt the next request."""
_NEVER = re.compile(rb"access-control-.*|clear-site-data|service-worker-allowed|strict-transport-security")
"""Fields that would let other pages read answers, or that browsers remember: not for who makes somebody open a link."""
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t -~\x80-\xff]*")
_MOST_FIELDS = 100
_MOST_PARAMETERS = 1000  # that are looked at, and that a description lists


class Caps(NamedTuple):
    """How far requests may go: delay in seconds, size in bytes. prefix: what the names of all parameters begin with."""

    delay: float
    size: int
    prefix: bytes = b""


class Share(NamedTuple):
    """A range of values, from low to high, for that many percent of the requests."""

    percent: float
    low: float
    high: float


class Outcome(NamedTuple):
    """What was chosen for one request. status: None for what there is otherwise; delay: seconds."""

    status: int | None
    delay: float
    close: bool
    abort: bool


class Controls:
    """The controls of a request; those that are given in percent are chosen anew for each request that has them.

    echo: what is echoed, None for what it would be anyway. size: bytes of other content instead, None without. rate:
    bytes a second, 0 for any. fields: lines that are added to the answer; replaced: their names, in lower case.
    """

    __slots__ = (
        "_abort",
        "_close",
        "_count",
        "_delays",
        "_statuses",
        "chunked",
        "echo",
        "fields",
        "rate",
        "replaced",
        "size",
    )

    def __init__(self, echo: str | None = None, fields: bytes = b"") -> None:
        self.echo = echo
        self.fields = fields
        self.replaced: set[bytes] = set()
        self.size: int | None = None
        self.rate = 0
        self.chunked = False
        self._statuses: list[Share] = []
        self._delays: list[Share] = []
        self._close = self._abort = 0.0
        self._count = 0

    def choose(self) -> Outcome:
        """What one request gets."""
        status, delay = chosen(self._statuses), chosen(self._delays)
        code = None if status is None else int(status)
        return Outcome(code, delay or 0.0, _happens(self._close), _happens(self._abort))

    # --- one method for each parameter: text in, ConfigError with what was expected ---

    def set_echo(self, text: str, _: Caps) -> None:
        if text not in (BODY, HEAD, JSON, NONE):
            raise values.ConfigError(f"expected {JSON}, {HEAD}, {BODY} or {NONE}")
        self.echo = text

    def set_status(self, text: str, _: Caps) -> None:
        self._statuses = weighted(text, _status)

    def set_delay(self, text: str, caps: Caps) -> None:
        self._delays = weighted(text, duration_range)
        if any(share.high > caps.delay for share in self._delays):
            raise values.ConfigError(f"at most {caps.delay:g} s are allowed here (--max-delay)")

    def set_size(self, text: str, caps: Caps) -> None:
        self.size = values.size(text)
        if self.size > caps.size:
            raise values.ConfigError(f"at most {caps.size} bytes are allowed here (--max-size)")

    def set_rate(self, text: str, _: Caps) -> None:
        self.rate = values.size(text)
        if not self.rate:
            raise values.ConfigError("expected at least a byte a second")

    def set_close(self, text: str, _: Caps) -> None:
        self._close = _percent_or_always(text)

    def set_abort(self, text: str, _: Caps) -> None:
        self._abort = _percent_or_always(text)

    def set_chunked(self, _: str, __: Caps) -> None:
        self.chunked = True

    def add_field(self, value: bytes) -> None:
        """A field line for the answer. Raises ConfigError."""
        name, _, text = value.partition(b":")
        text = text.strip(b" \t")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(text):
            raise values.ConfigError("expected Name:Value, without control characters")
        lower = name.lower()
        if lower in _FRAMING:
            raise values.ConfigError(
                f"{name.decode()} must not be set: it is about the end of the response or the connection"
            )
        if _NEVER.fullmatch(lower):
            raise values.ConfigError(f"{name.decode()} must not be set by a request (CORS: --cors)")
        self._count += 1
        if self._count > _MOST_FIELDS:
            raise values.ConfigError(f"expected at most {_MOST_FIELDS} fields")
        self.replaced.add(lower)
        self.fields += b"%b: %b\r\n" % (name, text)


_PARAMETERS: dict[str, Callable[[Controls, str, Caps], None]] = {
    "echo": Controls.set_echo, "status": Controls.set_status, "delay": Controls.set_delay, "size": Controls.set_size,
    "rate": Controls.set_rate, "close": Controls.set_close, "abort": Controls.set_abort,
    "chunked": Controls.set_chunked,
}  # fmt: skip


_NUMBER = r"\s*[0-9]"
_MEANT = {
    name: re.compile(beginning, re.ASCII | re.IGNORECASE)
    for name, beginning in {
        "echo": f"{BODY}|{HEAD}|{JSON}|{NONE}",
        "status": r"\s*[0-9]{3}",
        "delay": rf"{_NUMBER}|off(?![a-z])",
        "size": _NUMBER,
        "rate": _NUMBER,
        "close": rf"\Z|{_NUMBER}|(?:on|off)(?![a-z])",
        "abort": rf"\Z|{_NUMBER}|(?:on|off)(?![a-z])",
        "chunked": r"\Z",
        "header": r"[^:]*:",
    }.items()
}
"""How a control's values begin: what begins otherwise was meant for somebody else, an application whose traffic comes
here, and leaves the request alone."""


@functools.lru_cache(8)
def _known(prefix: bytes) -> "re.Pattern[bytes]":
    names = "|".join(_MEANT).encode()
    return re.compile(rb"(?:\A|&)%b(%b)(?:=([^&]*))?(?=&|\Z)" % (re.escape(prefix), names))


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The names and values of a query, in order, as forms encode them; a name without ``=`` has an empty value.

    The first thousand of them: a description has the query itself besides.
    """
    pairs = (each.partition(b"=") for each in query.split(b"&", _MOST_PARAMETERS)[:_MOST_PARAMETERS] if each)
    return [(_decoded(name), _decoded(value)) for name, _, value in pairs]


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def names_any(query: bytes, caps: Caps) -> bool:
    """Whether a query names a control."""
    return _known(caps.prefix).search(query) is not None


def read(query: bytes, caps: Caps) -> tuple[Controls | None, list[bytes]]:
    """The controls in a query, None where there are none; and what is named as one and has a value of somebody else's.

    Controls are among the first thousand parameters. Raises HttpError (400) where a value meant for us is wrong.
    """
    if query.count(b"&") >= _MOST_PARAMETERS:
        query = b"&".join(query.split(b"&", _MOST_PARAMETERS)[:_MOST_PARAMETERS])
    given: dict[str, list[bytes]] = {}
    for parameter in _known(caps.prefix).finditer(query):
        given.setdefault(parameter[1].decode(), []).append(_decoded(parameter[2] or b""))
    found: Controls | None = None
    ignored = []
    for name, given_values in given.items():
        texts = [value.decode("utf-8", "backslashreplace") for value in given_values]
        meant = [place for place, text in enumerate(texts) if _MEANT[name].match(text)]
        if name != "header" and len(given_values) > 1:  # as applications repeat theirs
            meant = []
        if len(meant) < len(given_values):
            ignored.append(caps.prefix + name.encode())
        for place in meant:
            found = found or Controls()
            try:
                _set(found, name, given_values[place], texts[place], caps)
            except values.ConfigError as error:
                why = _explain(caps.prefix.decode() + name, texts[place], str(error))
                raise HttpError(400, why) from None
    return found, ignored


def _set(found: Controls, name: str, value: bytes, text: str, caps: Caps) -> None:
    """Raises ConfigError."""
    if name == "header":
        found.add_field(value)
        return
    if len(text) > _LONGEST:
        raise values.ConfigError(f"expected {_LONGEST} characters at most")
    _PARAMETERS[name](found, text, caps)


def _explain(name: str, text: str, why: str) -> str:
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    return f"{name}: {why}" if why.startswith(repr(text)) else f"{name}={shown}: {why}"


# --- values -------------------------------------------------------------------------------------------------------


def _percent_or_always(text: str) -> float:
    return values.percent(text) if text else 100.0


def weighted(text: str, parse: Callable[[str], tuple[float, float]]) -> list[Share]:
    """``VALUE``, or ``VALUE:PERCENT,VALUE:PERCENT``: for the rest nothing special happens."""
    items = text.split(",")
    shares = []
    for item in items:
        value, colon, percent = item.partition(":")
        if not colon and len(items) > 1:
            raise values.ConfigError(f"{item[:_SHOWN]!r} has no percentage: expected VALUE:PERCENT,VALUE:PERCENT")
        shares.append(Share(values.percent(percent) if colon else 100.0, *parse(value)))
    if sum(share.percent for share in shares) > 100 + 1e-9:
        raise values.ConfigError("the percentages must add up to at most 100")
    return shares


def _status(text: str) -> tuple[float, float]:
    if not re.fullmatch(r"[2-5][0-9][0-9]", text, re.ASCII):
        raise values.ConfigError(f"{text[:_SHOWN]!r} is not the status of a response: expected 200 to 599")
    return float(text), float(text)


def duration_range(text: str) -> tuple[float, float]:
    """The shortest and the longest, in seconds. Raises ConfigError."""
    low, dash, high = text.partition("-")
    first = values.duration(low)
    last = values.duration(high) if dash else first
    if last < first:
        raise values.ConfigError(f"{text[:_SHOWN]!r} is not a range: expected the shorter duration first")
    return first, last


def chosen(shares: list[Share]) -> float | None:
    """A value of one of the ranges, by their percentages; None for the rest."""
    if not shares:
        return None
    point = random.random() * 100  # noqa: S311 - nothing secret
    for share in shares:
        point -= share.percent
        if point < 0:
            return random.uniform(share.low, share.high)  # noqa: S311 - likewise
    return None


def _happens(percent: float) -> bool:
    return percent > 0 and random.random() * 100 < percent  # noqa: S311 - likewise
