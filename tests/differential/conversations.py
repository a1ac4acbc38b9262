"""Random conversations: what a client sends, in which pieces, and how it ends. Each is made from a seed and a number.

What is sent here says nothing of what must come back: see reading.py and promises.py.
"""

import random
from collections.abc import Callable
from typing import NamedTuple

KIB = 1 << 10

_BLOCK = random.Random(1).randbytes(1 << 20)
_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz 0123456789\r\n"
_TEXT = random.Random(2).randbytes(1 << 20).translate((_CHARACTERS * 7)[:256])


class Settings(NamedTuple):
    """What a server was started with, as far as answers depend on it, and how large contents are to be."""

    name: str
    options: tuple[str, ...] = ()
    buffer_limit: int = 16 << 20
    pressed: bool = False
    """--buffer-total is small: any request may get 503 for what others keep."""
    max_body: int = 0
    max_header: int = 64 * KIB
    long_contents: tuple[int, ...] = (64 * KIB, 65 * KIB, 100 * KIB, 300 * KIB)
    very_long: int = 17 << 20


MAX_DELAY, MAX_SIZE = 5, 1 << 20  # seconds, bytes: one byte makes a minute of a millisecond
_ALWAYS = ("--header-timeout", "60s", "--max-delay", f"{MAX_DELAY}s", "--max-size", f"{MAX_SIZE}")
"""What all servers are started with. Clients on a busy machine are slow."""

SETTINGS = {
    each.name: each
    for each in (
        Settings("default", _ALWAYS),
        Settings(
            "small buffers",
            (*_ALWAYS, "--buffer-limit", "64KiB", "--buffer-total", "256KiB"),
            buffer_limit=64 * KIB, pressed=True, very_long=300 * KIB,
        ),
        Settings(
            "small messages",
            (*_ALWAYS, "--max-body", "32KiB", "--max-header", "2KiB", "--idle-timeout", "60s"),
            max_body=32 * KIB, max_header=2 * KIB, very_long=100 * KIB,
            long_contents=(32 * KIB, 32 * KIB + 1, 64 * KIB),
        ),
    )
}  # fmt: skip


class Send(NamedTuple):
    """These bytes, in one call."""

    data: bytes


class Sleep(NamedTuple):
    """Do nothing for so many seconds, but read."""

    seconds: float


class Await(NamedTuple):
    """Go on when so many answers are complete, and so many interim ones (100) have come.

    patience: seconds after which to go on without, where what was sent may not be what it seems.
    """

    answers: int
    interim: int = 0
    patience: float = 60.0


Step = Send | Sleep | Await

FIN, AFTER, SLAM, CUT = "FIN", "FIN after all answers", "close after all answers", "reset"
"""How a client ends a conversation."""


class Conversation(NamedTuple):
    """number: which it is. steps: what the client does. late: it reads when all is sent, or nothing more is taken.
    hasty: pieces follow each other at once, or after gap seconds. buffer: SO_RCVBUF, 0 for the system's.
    """

    number: int
    steps: list[Step]
    ending: str
    late: bool
    hasty: bool
    gap: float
    buffer: int

    @property
    def sent(self) -> bytes:
        return b"".join(step.data for step in self.steps if isinstance(step, Send))


class _Wanted(NamedTuple):
    """A request as it was thought of. pause: where in data a client waits for 100, 0: nowhere. odd: it may be none."""

    data: bytes
    pause: int = 0
    odd: bool = False


Random = random.Random


# --- requests ---

METHODS = (
    "GET", "GET", "GET", "POST", "POST", "PUT", "HEAD", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO", "get",
    "!#$%&'*+-.^_`|~09az",
)  # fmt: skip
TARGETS = (
    "/", "/", "/a/../b//c", "/%00%ff?", "/a?b=c&d", "/x?y#z", "*", "http://example.com/", "http://example.com:80/a?b",
    "/healthz/", "/~%7Euser/a.b;c=d,e", "/?", "//a", "/a?status", "/HEALTHZ", "http://[::1]:8080", "HTTPS://a?b",
)  # fmt: skip
PAGES = ("/healthz", "/readyz", "/.echo", "/metrics", "/healthz?x", "/readyz?delay=1ms", "/.echo?status=503",
    "http://a/readyz", "https://a:1/healthz?status=999", "/metrics?abort", "/readyz/?x",
)  # fmt: skip
HOSTS = ("Host: a", "host:a", "HOST: \t example.com:8080 \t", "Host: [::1]:80", "hOsT: 127.0.0.1", "Host:")
FIELDS = (
    "Accept: */*", "accept:text/html, */*;q=0.1", "X-Empty:", "X-Blank: \t ", "x-a:1", "X-A: 2",
    "User-Agent: a/1 (b; c) d", "Cookie: a=b; c=d", "Authorization: Basic c2VjcmV0", "Proxy-Authorization: x",
    "X-Latin: \xe4\x80\xff", "Referer: http://a/", "Accept: application/json;q=0.1:, */*", "Accept: application/json",
    "Accept: text/plain, application/json;q=0.5", "Upgrade: h2c", "Upgrade: foo/2, websocket", "TE: trailers",
    "Trailer: X-T", "Keep-Alive: timeout=5", "Cookie2: x", "X-Quotes: \"a, b\"", "Connection: x-a", "Connection:",
    "Proxy-Connection: close", "Content-Encoding: gzip", "content-encoding:br, gzip", "CONTENT-ENCODING: \t x-a ",
    "Content-Encoding:", "Content-Language: de", "content-language:en,fr", "Content-Location: /a", "Content-MD5: x",
    "Expect:",
)  # fmt: skip
TYPES = ("Content-Type: text/html", 'content-type:a/b; c="d"', "CONTENT-TYPE: \t x/y \t", "Content-Type:")
CONTROLS = (
    "echo=json", "echo=head", "echo=body", "echo=none", "status=200", "status=404", "status=503:100", "status=500:50",
    "status=204", "status=205", "status=304", "status=599", "status=301", "delay=1ms", "delay=1ms-3ms",
    "delay=2ms:50", "delay=0", "size=0", "size=1", "size=1000", "size=70KiB", "header=X-Added:1",
    "header=Server:other", "header=content-type:x/y", "header=x-b:", "header=X-Served-By:me", "rate=10MB",
    "rate=1GiB", "chunked", "close", "close=0", "close=100", "abort=0", "other=1", "status%3d=1", "Status=404",
    "echo2=json", "delay=off", "close=off", "abort=off", "header=Content-Language:fr",
)  # fmt: skip
BAD_CONTROLS = (
    "status=600", "status=999", "status=5030", "status=503,404", "status=200x", "echo=JSON", "echo=headers",
    "echo=bodyx", "delay=1d", "delay=2h", "delay=10sec", "size=2TiB", "size=5GiB", "size=10XB", "rate=0", "rate=1TB",
    "close=101", "close=5percent", "abort=101", "header=X%20Y:1", "header=Content-Length:1", "header=:x",
    "header=Access-Control-Allow-Origin:*", "status=200:60,404:60", "delay=5ms-1ms",
)  # fmt: skip
DECIDED = (
    "/?status=404", "/?status=503:100&delay=2ms", "/?status=500&echo=json", "/?status=400&size=1000&chunked",
    "/?status=418&echo=head", "/?status=599&header=X-Added:1&close", "/?abort", "/?status=500:50",
    "/a?status=404&echo=body", "/?status=502&echo=none&size=XL",
)  # fmt: skip
"""With an answer that is an error whatever is sent, or may be."""
APPLICATIONS = (
    "status=open", "status=1", "status=99", "status=5xx", "status=", "status", "echo=xml", "echo=true", "echo=",
    "delay=soon", "delay=-1", "delay", "delay=offline", "size=XL", "size=-1", "size", "rate=x", "rate=", "close=yes",
    "close=once", "abort=yes", "abort=x", "chunked=1", "chunked=true", "header=X", "header",
    "status=200&status=404", "status=open&status=200", "echo=json&echo=json", "size=1&size=2", "close&close",
    "abort&abort", "delay=1s&delay=1s", "status=9%399", "header=X&header=X-B:1",
)  # fmt: skip
"""Parameters that are another's, whose names ours have too."""


def _content(rng: Random, settings: Settings) -> bytes:
    long = rng.choice(settings.long_contents)
    size = rng.choices(
        (0, 1, rng.randrange(2, 300), rng.randrange(300, 5000), rng.randrange(5000, 30_000), long),
        (8, 8, 40, 24, 8, 5),
    )[0]  # fmt: skip
    if size >= 30_000 and rng.random() < 0.03:
        size = settings.very_long
    block = _TEXT if rng.random() < 0.5 else _BLOCK
    start = rng.randrange(0, 1000)
    if size > len(block) - 1000:
        return (block * (size // len(block) + 1))[:size]
    return block[start : start + size]


def _chunked(rng: Random, content: bytes) -> bytes:
    out = []
    position = 0
    many = rng.random() < 0.3
    while position < len(content):
        left = len(content) - position
        size = rng.randint(1, max(1, min(left, 40 if many and left < 2000 else left)))
        line = rng.choice((f"{size:x}", f"{size:X}", f"{size:x}", f"{size:08x}"))
        out.append(f"{line}{_extension(rng)}\r\n".encode("latin-1") + content[position : position + size] + b"\r\n")
        position += size
    out.append(f"{rng.choice(('0', '0', '0', '000'))}{_extension(rng)}\r\n".encode("latin-1"))
    if rng.random() < 0.1:
        out.append(
            "".join(
                rng.choice(("X-T: 1\r\n", "x:\r\n", "Content-Length: 5\r\n", "Host: \xe4\r\n"))
                for _ in range(rng.randint(1, 3))
            ).encode("latin-1")
        )
    out.append(b"\r\n")
    return b"".join(out)


def _extension(rng: Random) -> str:
    """As RFC 9112 section 7.1.1 has them."""
    some = (";a", ";a=b", " ;a", ';a="b;c"', "\t;x=1;y", '; a\t=\t"\\"\xe4,"', ";a=1 ;b", '; ~="";c=d')
    return rng.choice(some) if rng.random() < 0.07 else ""


def _fields(rng: Random, version: str) -> list[str]:
    fields = rng.sample(FIELDS, rng.choices((0, 1, 2, 4, 8), (40, 25, 15, 15, 5))[0])
    chance = rng.random()
    if chance < 0.06:
        fields.append(
            rng.choice(
                ("Connection: close", "connection:Close", "Connection: x, close ,y", "Connection: close, keep-alive")
            )
        )
    elif chance < (0.7 if version == "1.0" else 0.1):
        fields.append(rng.choice(("Connection: keep-alive", "Connection: Keep-Alive", "connection: a,keep-alive")))
    if version != "1.0" or rng.random() < 0.5:
        fields.insert(rng.randint(0, len(fields)), rng.choice(HOSTS))
    return fields


def _target(rng: Random) -> str:
    chance = rng.random()
    if chance < 0.72:
        return rng.choice(TARGETS)
    if chance < 0.80:
        return rng.choice(PAGES)
    some = rng.sample(CONTROLS, rng.choices((1, 2, 3, 5), (60, 25, 10, 5))[0])
    if rng.random() < 0.08:
        some.insert(rng.randint(0, len(some)), rng.choice(BAD_CONTROLS))
    if rng.random() < 0.2:
        some.insert(rng.randint(0, len(some)), rng.choice(APPLICATIONS))
    if rng.random() < 0.04:
        some.append(rng.choice(("abort", "abort=100")))
    return f"{rng.choice(('/', '/', '/a/b', 'http://example.com/', '/healthz'))}?{'&'.join(some)}"


def _head(line: str, fields: list[str]) -> bytes:
    return "".join(f"{each}\r\n" for each in (line, *fields, "")).encode("latin-1")


def _a_request(rng: Random, settings: Settings) -> _Wanted:
    version = rng.choices(("1.1", "1.0", "1.2"), (90, 9, 1))[0]
    method = rng.choice(METHODS)
    fields = _fields(rng, version)
    target = _target(rng)
    if target in PAGES and rng.random() < 0.5:
        method = rng.choice(("GET", "HEAD", "OPTIONS"))
    elif method == "OPTIONS" and rng.random() < 0.1:
        target = "*"
    content, pause = b"", 0
    chance = rng.random()
    if chance < 0.55 if method != "TRACE" else chance < 0.05:
        payload = _content(rng, settings)
        if rng.random() < 0.7:
            fields.insert(rng.randint(0, len(fields)), rng.choice(TYPES))
        if version != "1.0" and rng.random() < 0.35:
            fields.insert(
                rng.randint(0, len(fields)),
                rng.choice(("Transfer-Encoding: chunked", "transfer-encoding:Chunked", "TRANSFER-ENCODING: chunked ")),
            )
            content = _chunked(rng, payload)
        else:
            fields.insert(
                rng.randint(0, len(fields)),
                rng.choice(
                    (
                        f"Content-Length: {len(payload)}",
                        f"content-length:{len(payload)}",
                        f"Content-Length: \t{len(payload)} ",
                        f"Content-Length: 0{len(payload)}",
                    )
                ),
            )
            content = payload
        if rng.random() < 0.1:
            fields.append(rng.choice(("Expect: 100-continue", "expect:100-Continue")))
            pause = 1 if payload and version == "1.1" and rng.random() < 0.5 else 0
            if rng.random() < 0.3:
                target = rng.choice(DECIDED)
    head = _head(f"{method} {target} HTTP/{version}", fields)
    return _Wanted(head + content, len(head) if pause else 0)


# --- what is no request ---


def _with(line: str, *fields: str, content: bytes = b"", host: str = "Host: a") -> bytes:
    return _head(line, [host, *fields] if host else [*fields]) + content


_BAD_FIELDS = (
    "no colon", "A : b", ": b", "A\t: b", "\xe4: b", "A(: b", "A", "A\x00: b",
)  # fmt: skip
_BAD_LINES = (
    "GET  / HTTP/1.1", "GET\t/\tHTTP/1.1", "GET / http/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ", "GET /", "GET",
    "/ HTTP/1.1", "GET / HTTP/1.10", "GET / HTTP/11", "GET / HTTP/1,1", "GET / FTP/1.1", "G@T / HTTP/1.1",
    "GET /a b HTTP/1.1", "GET /\xe4 HTTP/1.1", "GET /\x7f HTTP/1.1", "GET a HTTP/1.1", "GET ** HTTP/1.1",
    "GET :// HTTP/1.1", "GET ?a HTTP/1.1", "GET * HTTP/1.1", "options * HTTP/1.1", "OPTIONS *?a HTTP/1.1",
    "GET ftp://x/y HTTP/1.1", "GET http:///a HTTP/1.1", "GET http://:80/ HTTP/1.1", "GET http://u@a/ HTTP/1.1",
    "GET https://u:p@a:1/healthz HTTP/1.1", "OPTIONS http://?a HTTP/1.1", "GET http://[fe80::1%25a]/ HTTP/1.1",
    "GET file:///a HTTP/1.1", "GET http://a:b/ HTTP/1.1", "GET http:a HTTP/1.1",
)  # fmt: skip
_BAD_HOSTS = (
    "Host: a b", "Host: a/b", "Host: a:b", "Host: a,b:c", "Host: [::1", "Host: \xe4", "Host: a@b", "Host: %zz",
    "Host: a:1:2", "Host: [fe80::1%25eth0]", "Host: [fe80::1%eth0]:80",
)  # fmt: skip
_BAD_LENGTHS = (
    "+5", "-5", "5, 5", "5,5", "5x", "0x5", "", " ", "5 5", "5.0", "9" * 25, "18446744073709551616", "\xb2",
)  # fmt: skip
_BAD_CODINGS = (
    "Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked;a", "Transfer-Encoding:", "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: gzip,\tCHUNKED", "Transfer-Encoding: gzip, , chunked",
    "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
)  # fmt: skip
_BAD_EXPECTATIONS = (
    "Expect: 200-ok", "Expect: 100-continue, x", "Expect: 100-continue\r\nExpect: 100-continue", "Expect: ",
)  # fmt: skip
_BAD_BEGINNINGS = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\x00", b"hello\r\n", b"\n", b"\r",
    b"\rGET / HTTP/1.1\r\n\r\n", b"<html>\r\n\r\n", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
)  # fmt: skip
_BAD_CHUNKS = (
    b"x\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"-5\r\n", b"5\nhello\n0\n\n", b"\r\n", b"0x5\r\nhello\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n",
    b"5,\r\nhello\r\n0\r\n\r\n", b"5;\x01\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    b"5;\r\nhello\r\n0\r\n\r\n", b"5;\xe4\r\nhello\r\n0\r\n\r\n", b"5;a=\r\nhello\r\n0\r\n\r\n",
    b"5;a b\r\nhello\r\n0\r\n\r\n", b'5;a="b\r\nhello\r\n0\r\n\r\n', b"5;a \r\nhello\r\n0\r\n\r\n",
    b"5;a;;b\r\nhello\r\n0\r\n\r\n", b'5;a="b"c\r\nhello\r\n0\r\n\r\n', b"5;=b\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n0;\r\n\r\n", b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
    b"f" * 17 + b"\r\n", b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n", b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
)  # fmt: skip
_BAD_TRAILERS = (
    b"x\r\n\r\n", b"A : b\r\n\r\n", b"A: b\n\r\n\r\n", b"A: b\r\n c\r\n\r\n", b"\n",
    b"A: " + b"x" * 5000 + b"\r\n\r\n", b"A: \x01\r\n\r\n", b"A: b\r\n" * 700 + b"\r\n",
)  # fmt: skip
_BAD_HANDSHAKES = (
    (), ("Sec-WebSocket-Version: 13",), ("Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13"),
    ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 12"),
)  # fmt: skip

_BOTH = ("Transfer-Encoding: chunked", "Content-Length: 5")
_FIVE = b"5\r\nhello\r\n0\r\n\r\n"
_AROUND = (60, 32, 31, 30, 29, 28, 0, -3000)  # bytes from the longest header section

_MALFORMED: tuple[Callable[[Random, Settings], bytes], ...] = (
    lambda rng, _: _with("GET / HTTP/1.1", "A: b").replace(b"\r\n", b"\n", rng.randint(1, 4)),
    lambda rng, _: _with("GET / HTTP/1.1", "A: b", rng.choice((" c", "\tc: d", " "))),
    lambda rng, _: _head("GET / HTTP/1.1", [" A: b", "Host: a"]),
    lambda rng, _: _with("GET / HTTP/1.1", rng.choice(_BAD_FIELDS)),
    lambda rng, _: _with("GET / HTTP/1.1", f"A: b{chr(rng.choice((*range(9), *range(11, 13), *range(14, 32), 127)))}c"),
    lambda rng, _: _with("GET / HTTP/1.1", rng.choice(("A: b\rc", "A: \r", "A\r: b"))),
    lambda rng, _: _with(rng.choice(_BAD_LINES)),
    lambda rng, _: _with(f"GET / HTTP/{rng.choice(('2.0', '0.9', '3.0', '9.9', '0.0'))}"),
    lambda rng, _: _with("GET / HTTP/1.1", host=""),
    lambda rng, _: _with("GET / HTTP/1.2", host=""),
    lambda rng, _: _with("GET / HTTP/1.1", rng.choice(("Host: a", "host:b", "HOST:"))),
    lambda rng, _: _with("GET / HTTP/1.0", "Host: b"),
    lambda rng, _: _with("GET / HTTP/1.1", host=rng.choice(_BAD_HOSTS)),
    lambda rng, _: _with("POST / HTTP/1.1", "Content-Length: " + rng.choice(_BAD_LENGTHS), content=b"hello"),
    lambda rng, _: _with("POST / HTTP/1.1", _BOTH[1], f"content-length: {rng.choice('56')}", content=b"hello"),
    lambda rng, _: _with("POST / HTTP/1.1", rng.choice(_BAD_CODINGS), content=_FIVE),
    lambda rng, _: _with("POST / HTTP/1.1", *rng.sample(_BOTH, 2), content=_FIVE),
    lambda rng, _: _with("POST / HTTP/1.0", "Transfer-Encoding: chunked", content=_FIVE),
    lambda rng, _: _with("POST / HTTP/1.1", "Content-Length: 5", rng.choice(_BAD_EXPECTATIONS), content=b"hello"),
    lambda rng, _: _with(rng.choice(("CONNECT a:443 HTTP/1.1", "CONNECT / HTTP/1.1", "CONNECT http://a/ HTTP/1.1"))),
    lambda rng, _: rng.choice(_BAD_BEGINNINGS),
    lambda rng, s: _with(f"GET /{'x' * (s.max_header + rng.choice((-60, -30, 0, 3000)))} HTTP/1.1"),
    lambda rng, s: _with("GET / HTTP/1.1", f"A: {'x' * (s.max_header - rng.choice(_AROUND))}"),
    lambda rng, _: _with("GET / HTTP/1.1", *("A: b" for _ in range(rng.choice((98, 99, 100, 200))))),
    lambda rng, _: _with("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=rng.choice(_BAD_CHUNKS)),
    lambda rng, _: _with("POST / HTTP/1.1", _BOTH[0], content=_FIVE[:-2] + rng.choice(_BAD_TRAILERS)),
    lambda rng, _: _with("TRACE / HTTP/1.1", f"Content-Length: {rng.choice((0, 5))}", content=b"hello"),
    lambda rng, _: _with("GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", *rng.choice(_BAD_HANDSHAKES)),
)  # fmt: skip


def _changed(rng: Random, data: bytes) -> bytes:
    """A byte of the header section is another, missing or one too many."""
    end = data.find(b"\r\n\r\n") + 4
    place = rng.randrange(end)
    new = bytes([rng.choice((rng.randrange(256), *b"\r\n \t:,;?/\x00"))])
    return rng.choice(
        (data[:place] + new + data[place + 1 :], data[:place] + data[place + 1 :], data[:place] + new + data[place:])
    )


# --- conversations ---


def _another(rng: Random, before: bytes) -> bytes:
    """The same request, but for a value or a path that means nothing."""
    mark = b"%x" % rng.randrange(1 << rng.choice((4, 32)))
    if b"X-A: " in before:
        start = before.index(b"X-A: ") + 5
        return before[:start] + mark + before[before.index(b"\r\n", start) :]
    return before.replace(b" / ", b" /%b " % mark, 1)


def _requests(rng: Random, settings: Settings) -> list[_Wanted]:
    wanted: list[_Wanted] = []
    count = rng.choices((1, 2, rng.randint(3, 5), rng.randint(6, 8)), (35, 25, 25, 15))[0]
    alike = rng.choice((0.0, 0.2, 0.9))
    while len(wanted) < count:
        chance = rng.random()
        if wanted and rng.random() < alike and len(wanted[-1].data) < 200 * KIB:
            before = wanted[-1]
            wanted.append(before if rng.random() < 0.6 else _Wanted(_another(rng, before.data), odd=before.odd))
        elif chance < 0.06:
            wanted.append(_Wanted(rng.choice(_MALFORMED)(rng, settings), odd=True))
        else:
            made = _a_request(rng, settings)
            wanted.append(_Wanted(_changed(rng, made.data), odd=True) if chance < 0.09 else made)
        if chance > 0.98:
            wanted[-1] = _Wanted(b"\r\n" * rng.randint(1, 3) + wanted[-1].data, odd=wanted[-1].odd)
    return wanted


def _cuts(rng: Random, size: int) -> list[int]:
    """Where so many bytes are torn."""
    how = rng.random()
    if how < 0.4 or size < 2:
        return []
    if how < 0.75:
        return sorted({rng.randrange(1, size) for _ in range(rng.randint(1, 3))})
    if how < 0.9:
        return sorted({rng.randrange(1, size) for _ in range(rng.randint(4, 20))})
    step = max(1, size // 40)  # every byte, where there are not too many
    return list(range(step, size, step))


def _pieces(rng: Random, data: bytes, sleeps: float) -> list[Step]:
    steps: list[Step] = []
    before = 0
    for cut in (*_cuts(rng, len(data)), len(data)):
        if before and rng.random() < sleeps:
            steps.append(Sleep(rng.choice((0.0005, 0.002, 0.005))))
        steps.append(Send(data[before:cut]))
        before = cut
    return steps


def conversation(seed: int, index: int, settings: Settings) -> Conversation:
    rng = random.Random(f"{seed} {index} {settings.name}")
    wanted = _requests(rng, settings)
    sleeps = rng.choice((0.0, 0.0, 0.1, 0.5))
    steps: list[Step] = []
    if rng.random() < 0.6:  # pipelined
        data = b"".join(each.data for each in wanted)
        if rng.random() < 0.12:
            data = data[: rng.randrange(1, len(data) + 1)]
        # what comes behind the last request may come when the server closes
        steps = _pieces(rng, data, sleeps) if rng.random() < 0.7 else [Send(each.data) for each in wanted]
    else:  # one after the other
        interim, odd = 0, False
        for number, each in enumerate(wanted):
            data = each.data
            if number:
                steps.append(Await(number, patience=0.2 if odd else 60.0))
            odd = odd or each.odd
            if each.pause:
                interim += 1
                steps += _pieces(rng, data[: each.pause], sleeps)
                steps.append(Await(number, interim))
                data = data[each.pause :]
            if number == len(wanted) - 1 and rng.random() < 0.12:
                data = data[: rng.randrange(1, len(data) + 1)]
            steps += _pieces(rng, data, sleeps)
    ending = rng.choices((FIN, AFTER, SLAM, CUT), (45, 40, 10, 5))[0]
    if ending == CUT:
        del steps[rng.randrange(1, len(steps) + 1) :]
    waits = any(isinstance(step, Await) for step in steps)
    return Conversation(
        index, steps, ending,
        late=not waits and rng.random() < 0.15, hasty=rng.random() < 0.6,
        gap=rng.choice((0.0, 20e-6, 60e-6, 150e-6)), buffer=rng.choice((2048, 8192)) if rng.random() < 0.15 else 0,
    )  # fmt: skip
