"""Header sections: what good ones mean, and what bad ones get.

Modules: answers.asked, answers.cors, wire.response.
"""

import dataclasses
import re
from collections.abc import Callable

import httptools
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from echoserver.answers import asked as answers
from echoserver.answers import controls
from echoserver.answers.controls import Caps, Controls
from echoserver.answers.cors import preflight
from echoserver.wire import request as messages
from echoserver.wire.reader import RequestReader
from echoserver.wire.request import MAX_FIELDS, NO_REQUEST, Known, Request
from echoserver.wire.response import HttpError, fields
from tests.unit.examples import examples

LINE_EXPECTED = "the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF"
OTHER_CODING = "the only transfer coding supported is chunked"
NOT_CHUNKED_LAST = "Transfer-Encoding must name chunked once, as the last coding, and have no empty members"
RAW_TARGET = "the request target has bytes that are not ASCII: expected them percent-encoded, as in %C3%A9"
NO_SCHEME = "the scheme of the request target must be http or https"
NO_FIELD_LINE = "a field line must be Name: value, and the name a token (RFC 9110 section 5.1)"
NO_HOST = "the request target must have a host after its scheme (RFC 9110 section 4.2.1)"
ASTERISK = "the request target * must be used with OPTIONS only (RFC 9112 section 3.2.4)"
BINARY = b"application/octet-stream"


def head(line: bytes = b"GET / HTTP/1.1", *more: bytes, host: bytes | None = b"Host: x") -> bytes:
    """A header section: the request line, Host, and more fields."""
    return b"\r\n".join((line, *([host] if host is not None else []), *more, b"", b""))


def refusal_of(read: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        read()
    return caught.value.status, caught.value.reason


@dataclasses.dataclass(frozen=True)
class Means:
    """What is to be found in a Request; the defaults are those of ``GET / HTTP/1.1``."""

    keep_alive: bool = True
    connection: bytes = b""
    content_length: int = 0
    chunked: bool = False
    expects: bool = False
    no_body: bool = False
    page: bytes | None = None
    content_type: bytes = b""  # of the content, if there is any
    known_size: bool = True  # head and content can be taken from the data without looking at them


def content(length: int, content_type: bytes = BINARY) -> Means:
    return Means(content_length=length, content_type=content_type)


CHUNKED = Means(chunked=True, content_type=BINARY, known_size=False)
CLOSE = Means(keep_alive=False, connection=b"close")

GOOD: dict[str, tuple[bytes, Means]] = {
    "GET": (head(), Means()),
    "path and query": (head(b"GET /a/b?c=d&e=%00 HTTP/1.1"), Means()),
    "absolute form (RFC 9112 section 3.2.2)": (head(b"GET http://a:1/b HTTP/1.1"), Means()),
    "absolute form, https": (head(b"GET HTTPS://a?b HTTP/1.1"), Means()),
    "absolute form, IPv6": (head(b"GET http://[::1]:80 HTTP/1.1"), Means()),
    "absolute form, another Host": (head(b"GET http://a/ HTTP/1.1", host=b"Host: b"), Means()),
    "absolute form, an @ in the path": (head(b"GET http://a/@b?c://@d HTTP/1.1"), Means()),
    "asterisk form (RFC 9112 section 3.2.4)": (head(b"OPTIONS * HTTP/1.1"), Means()),
    "HTTP/1.0 without Host": (head(b"GET / HTTP/1.0", host=None), CLOSE),
    "HTTP/1.0 keep-alive": (
        head(b"GET / HTTP/1.0", b"Connection: Keep-Alive"),
        Means(keep_alive=True, connection=b"keep-alive"),
    ),
    "HTTP/1.0 keep-alive, close": (head(b"GET / HTTP/1.0", b"Connection: keep-alive, close"), CLOSE),
    "HTTP/1.0 content": (
        head(b"POST / HTTP/1.0", b"Content-Length: 3", host=None),
        dataclasses.replace(content(3), keep_alive=False, connection=b"close"),
    ),
    "HTTP/1.0 expects nothing (RFC 9110 section 10.1.1)": (
        head(b"POST / HTTP/1.0", b"Expect: 100-continue", b"Content-Length: 3", b"Connection: keep-alive"),
        dataclasses.replace(content(3), connection=b"keep-alive"),
    ),
    "HTTP/1.2": (head(b"GET / HTTP/1.2"), Means()),
    "HTTP/1.9 with content": (head(b"POST / HTTP/1.9", b"Content-Length: 3"), content(3)),
    "HTTP/1.9 chunked": (head(b"POST / HTTP/1.9", b"Transfer-Encoding: chunked"), CHUNKED),
    "close": (head(b"GET / HTTP/1.1", b"connection:CLOSE"), CLOSE),
    "close among others": (head(b"GET / HTTP/1.1", b"Connection: x ,\tclose\t, y"), CLOSE),
    "close in a field of two": (head(b"GET / HTTP/1.1", b"Connection: close", b"Connection: keep-alive"), CLOSE),
    "keep-alive is 1.1's own": (head(b"GET / HTTP/1.1", b"Connection: keep-alive"), Means()),
    "not closed": (head(b"GET / HTTP/1.1", b"Connection: closed", b"X-Connection: close"), Means()),
    "HEAD": (head(b"HEAD / HTTP/1.1"), Means(no_body=True)),
    "HEAD with content": (
        head(b"HEAD / HTTP/1.1", b"Content-Length: 3"),
        dataclasses.replace(content(3), no_body=True),
    ),
    "content": (head(b"POST / HTTP/1.1", b"Content-Length: 3"), content(3)),
    "content of a GET": (head(b"GET / HTTP/1.1", b"content-length:\t3\t"), content(3)),
    "content of no bytes": (head(b"POST / HTTP/1.1", b"Content-Length: 0"), content(0)),
    "content of a PUT, with zeros": (head(b"PUT / HTTP/1.1", b"Content-Length: 00003"), content(3)),
    "content of 2**64 - 1 bytes": (head(b"PUT / HTTP/1.1", b"Content-Length: %d" % (2**64 - 1)), content(2**64 - 1)),
    "content type": (
        head(b"POST / HTTP/1.1", b"Content-Type:  text/html; charset=x ", b"Content-Length: 3"),
        content(3, b"text/html; charset=x"),
    ),
    "empty content type": (head(b"POST / HTTP/1.1", b"Content-Type:", b"Content-Length: 3"), content(3)),
    "Content-Encoding": (
        head(b"POST / HTTP/1.1", b"Content-Encoding:  gzip ", b"Content-Length: 3"),
        content(3, BINARY + b"\r\nContent-Encoding: gzip"),
    ),
    "Content-Encoding and Content-Language, repeated": (
        head(
            b"POST / HTTP/1.1",
            b"content-LANGUAGE: de",
            b"Content-Encoding: gzip",
            b"Content-Language: en, fr",
            b"Content-Type: a/b",
            b"content-encoding:br",
            b"Content-Language:",
            b"Content-Length: 3",
        ),
        content(3, b"a/b\r\nContent-Encoding: gzip, br\r\nContent-Language: de, en, fr"),
    ),
    "empty Content-Encoding": (head(b"POST / HTTP/1.1", b"Content-Encoding:", b"Content-Length: 3"), content(3)),
    "Content-Encoding without content": (head(b"POST / HTTP/1.1", b"Content-Encoding: gzip"), Means()),
    "fields of a representation that stay": (
        head(b"POST / HTTP/1.1", b"Content-Location: /a", b"Content-Range: bytes 0-2/9", b"Content-Length: 3"),
        content(3),
    ),
    "content type without content": (head(b"POST / HTTP/1.1", b"Content-Type: text/html"), Means()),
    "chunked": (head(b"POST / HTTP/1.1", b"Transfer-Encoding: chunked"), CHUNKED),
    "Chunked": (head(b"POST / HTTP/1.1", b"transfer-encoding:CHUNKED "), CHUNKED),
    "chunked GET": (head(b"GET / HTTP/1.1", b"Transfer-Encoding: chunked"), CHUNKED),
    "chunked HEAD": (
        head(b"HEAD / HTTP/1.1", b"Transfer-Encoding: chunked"),
        dataclasses.replace(CHUNKED, no_body=True),
    ),
    "expectation": (
        head(b"POST / HTTP/1.1", b"Expect: 100-Continue", b"Content-Length: 3"),
        dataclasses.replace(content(3), expects=True, known_size=False),
    ),
    "expectation, chunked": (
        head(b"POST / HTTP/1.1", b"Expect: 100-continue", b"Transfer-Encoding: chunked"),
        dataclasses.replace(CHUNKED, expects=True),
    ),
    "expectation without content": (head(b"GET / HTTP/1.1", b"Expect: 100-continue"), Means()),
    "expectation, and content of no bytes": (
        head(b"GET / HTTP/1.1", b"Content-Length: 0", b"Expect: 100-continue"),
        content(0),
    ),
    "upgrade": (head(b"GET / HTTP/1.1", b"Upgrade: h2c", b"Connection: upgrade"), Means()),
    "upgrade with content": (
        head(b"POST / HTTP/1.1", b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 3"),
        content(3),
    ),
    "upgrade, chunked": (
        head(b"POST / HTTP/1.1", b"Upgrade: h2c", b"Connection: upgrade", b"Transfer-Encoding: chunked"),
        CHUNKED,
    ),
    "upgrade of a method llhttp does not know": (
        head(b"FOO / HTTP/1.1", b"Upgrade: h2c", b"Connection: upgrade", b"Content-Length: 3"),
        content(3),
    ),
    "TRACE": (head(b"TRACE / HTTP/1.1"), Means()),
    "healthz": (head(b"GET /healthz HTTP/1.1"), Means(page=b"/healthz", known_size=False)),
    "readyz": (
        head(b"HEAD /readyz HTTP/1.1"),
        Means(page=b"/readyz", no_body=True, known_size=False),
    ),
    **{
        f"readyz: {line.decode()}": (head(line), Means(page=b"/readyz", known_size=False))
        for line in (
            b"GET /readyz? HTTP/1.1",
            b"GET /readyz?a=b?c HTTP/1.1",
            b"OPTIONS /readyz HTTP/1.1",
            b"GET http://h/readyz?x HTTP/1.1",
            b"OPTIONS HTTPS://h:1/readyz HTTP/1.1",
        )
    },
    "healthz, Content-Length: 0": (
        head(b"GET /healthz HTTP/1.1", b"Content-Length: 0"),
        Means(page=b"/healthz", known_size=False),
    ),
    "POST to healthz": (head(b"POST /healthz HTTP/1.1"), Means()),
    "POST to readyz": (head(b"POST /readyz HTTP/1.1"), Means(known_size=False)),
    "content for healthz": (head(b"GET /healthz HTTP/1.1", b"Content-Length: 3"), content(3)),
    "content for readyz": (
        head(b"PUT /readyz?a HTTP/1.1", b"Content-Length: 3"),
        dataclasses.replace(content(3), known_size=False),
    ),
    "not quite healthz": (head(b"GET /healthz/ HTTP/1.1"), Means()),
    "not quite healthz, absolute": (head(b"GET http://healthz HTTP/1.1"), Means()),
    "TRACE, Content-Length: 0": (head(b"TRACE / HTTP/1.1", b"Content-Length: 0"), Means()),
    "100 fields": (head(b"GET / HTTP/1.1", *[b"A: b"] * (MAX_FIELDS - 1)), Means()),
    "repeats, cases and all that may be in a value": (
        head(b"GET / HTTP/1.1", b"a: 1", b"A:2", b"a:", b"b: \t\xff\x80 :,;\"' "),
        Means(),
    ),
    "underscores": (head(b"GET / HTTP/1.1", b"Content_Length: 3", b"Transfer_Encoding: chunked"), Means()),
    "names within names": (head(b"GET / HTTP/1.1", b"X-Host: y", b"X-Content-Length: 3", b"A: Host: z"), Means()),
}
for method in (b"FOO", b"get", b"M-SEARCH", b"SOURCE", b"DESCRIBE", b"PRI", b"!#$%&'*+-.^_`|~", b"X" * 300):
    GOOD[f"method {method[:20].decode()}"] = (head(b"%b / HTTP/1.1" % method), Means())
for host in (b"", b"x", b"x:", b"x:80", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"a-b_c.d~e", b"%C3%A9", b"\tx "):
    GOOD[f"Host: {host!r}"] = (head(host=b"hOST:" + host), Means())


@pytest.mark.parametrize(("section", "means"), GOOD.values(), ids=GOOD)
def test_what_a_header_section_means(section: bytes, means: Means) -> None:
    found = messages.read(section)
    read = {each.name: getattr(found, each.name) for each in dataclasses.fields(Means) if each.name != "known_size"}
    assert Means(**read, known_size=found.size >= 0) == means
    assert (found.head, found.head_size) == (section, len(section))
    assert found.size == (len(section) + means.content_length if means.known_size else -1)


@pytest.mark.parametrize(("section", "means"), GOOD.values(), ids=GOOD)
def test_what_it_is_answered(section: bytes, means: Means) -> None:
    answer = messages.read(section).answer
    if means.page:
        assert answer == b""
    elif means.content_type:
        assert answer == fields(means.content_type, means.content_length, means.connection)
    else:
        echo = b"" if means.no_body else section
        length = len(section) - (1 if means.no_body else 0)  # as GET, which is one byte shorter
        kind = b"message/http" if section.startswith(b"TRACE") else b"text/plain"
        assert answer == fields(kind, length, means.connection) + echo


@pytest.mark.parametrize("more", [(), (b"A: b",), (b"Content-Length: 3",), (b"Connection: close",)])
def test_head_is_told_what_get_is(more: tuple[bytes, ...]) -> None:
    get = messages.read(head(b"GET /some/path HTTP/1.1", *more)).answer
    told = messages.read(head(b"HEAD /some/path HTTP/1.1", *more)).answer
    assert told.endswith(b"\r\n\r\n")
    assert get.startswith(told)


def test_the_answer_in_full() -> None:
    section = head(b"GET /x HTTP/1.1", b"Connection: close")
    assert messages.read(section).answer == (
        b"Content-Type: text/plain\r\nX-Content-Type-Options: nosniff\r\n"
        b"Content-Length: 47\r\nConnection: close\r\n\r\n"
        b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )


def test_trace_keeps_credentials_to_itself() -> None:
    secret = [b"Authorization: s", b"COOKIE:s", b"proxy-authorization: \ts ", b"Cookie: s; s", b"cookie:"]
    kept = [b"X-Cookie: k", b"Cookies: k", b"Authorization-Info: k", b"A: Cookie: k"]
    section = head(b"TRACE /x HTTP/1.1", *secret[:3], *kept, *secret[3:])
    answer = messages.read(section).answer
    assert answer.partition(b"\r\n\r\n")[2] == head(b"TRACE /x HTTP/1.1", *kept)
    assert answer.startswith(fields(b"message/http", len(head(b"TRACE /x HTTP/1.1", *kept)), b""))


@pytest.mark.parametrize("name", ["GET", "HTTP/1.0 keep-alive", "content", "chunked"])
def test_the_last_answer_of_a_connection_says_so(name: str) -> None:
    found = messages.read(GOOD[name][0], closing=True)
    assert (found.keep_alive, found.connection) == (False, b"close")
    assert b"\r\nConnection: close\r\n\r\n" in found.answer


def test_max_body__content_up_to_it_is_taken() -> None:
    section = head(b"POST / HTTP/1.1", b"Content-Length: 1000")
    assert messages.read(section, max_body=1000).content_length == 1000
    assert refusal_of(lambda: messages.read(section, max_body=999)) == (
        413,
        "the content has 1000 bytes: expected at most 999 (--max-body)",
    )


@pytest.mark.parametrize("blank", [b"", b" ", b"   "])
def test_blanks_around_a_coding_are_no_part_of_it(blank: bytes) -> None:
    """RFC 9110 section 5.5."""
    assert messages.read(head(b"POST / HTTP/1.1", b"Transfer-Encoding:%bchunked%b" % (blank, blank))).chunked


def test_no_request_is_like_none() -> None:
    assert NO_REQUEST.size < 0
    for section, _ in GOOD.values():
        assert not section.startswith(NO_REQUEST.head)


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, LINE_EXPECTED),
    "blank": (b"\r\n\r\n", 400, LINE_EXPECTED),
    "no version": (head(b"GET /"), 400, LINE_EXPECTED),
    "no target": (head(b"GET  HTTP/1.1"), 400, LINE_EXPECTED),
    "two spaces": (head(b"GET  / HTTP/1.1"), 400, LINE_EXPECTED),
    "a space before": (head(b" GET / HTTP/1.1"), 400, LINE_EXPECTED),
    "a space behind": (head(b"GET / HTTP/1.1 "), 400, LINE_EXPECTED),
    "a space in the target": (head(b"GET /a b HTTP/1.1"), 400, LINE_EXPECTED),
    "a tab": (head(b"GET\t/ HTTP/1.1"), 400, LINE_EXPECTED),
    "a control in the target": (head(b"GET /\x01 HTTP/1.1"), 400, LINE_EXPECTED),
    "NUL in the target": (head(b"GET /\0 HTTP/1.1"), 400, LINE_EXPECTED),
    "another protocol": (head(b"GET / RTSP/1.0"), 400, LINE_EXPECTED),
    "a lower case version": (head(b"GET / http/1.1"), 400, LINE_EXPECTED),
    "HTTP/1.10": (head(b"GET / HTTP/1.10"), 400, LINE_EXPECTED),
    "HTTP/1": (head(b"GET / HTTP/1"), 400, LINE_EXPECTED),
    "a method that is no token": (head(b"G@T / HTTP/1.1"), 400, LINE_EXPECTED),
    "NUL first": (b"\0" + head(), 400, LINE_EXPECTED),
    "a bare LF behind the request line": (b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400, LINE_EXPECTED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, LINE_EXPECTED),
    "a target that is none": (head(b"GET foo HTTP/1.1"), 400, LINE_EXPECTED),
    "authority form": (head(b"GET x:443 HTTP/1.1"), 400, LINE_EXPECTED),
    "authority form, a method llhttp does not know": (
        head(b"FOO x:443 HTTP/1.1"),
        400,
        LINE_EXPECTED,
    ),
    "a target with high bytes": (head(b"GET /\xff HTTP/1.1"), 400, RAW_TARGET),
    "a target in UTF-8": (head("GET /é?ü HTTP/1.1".encode()), 400, RAW_TARGET),
    "a target in UTF-8, with a blank": (head("GET /é ü HTTP/1.1".encode()), 400, LINE_EXPECTED),
    **{
        f"RFC 9112 section 3.2.4: {method.decode()} *": (head(b"%b * HTTP/1.1" % method), 400, ASTERISK)
        for method in (b"GET", b"POST", b"HEAD", b"TRACE", b"FOO", b"options")
    },
    **{
        f"RFC 9110 section 4.2.1: {target!r}": (head(b"GET %b HTTP/1.1" % target), 400, NO_HOST)
        for target in (b"http://", b"http:///a", b"https://?a", b"http://:80/", b"http://#")
    },
    **{
        f"RFC 9110 section 4.2.4: {target!r}": (
            head(b"GET %b HTTP/1.1" % target),
            400,
            "the request target must not have a user before its host (RFC 9110 section 4.2.4)",
        )
        for target in (b"http://u@a/", b"http://u:p@a:80/", b"https://@a", b"http://@/")
    },
    **{
        f"RFC 9110 section 4.2: {target!r}": (head(b"GET %b HTTP/1.1" % target), 400, NO_SCHEME)
        for target in (b"ftp://a/", b"ws://a/", b"file:///a", b"httpx://a/", b"x+y-z.1://a")
    },
    **{
        f"RFC 9110 section 4.2: {target!r}": (
            head(b"GET %b HTTP/1.1" % target),
            400,
            "the host in the request target must be HOST or HOST:PORT",
        )
        for target in (b"http://a:b/", b"http://[::1/", b"http://a[/", b"http://%/", b'http://"a"/')
    },
    "RFC 9844: a zone in the target": (
        head(b"GET http://[fe80::1%25eth0]/ HTTP/1.1"),
        400,
        "the host in the request target must not have an IPv6 zone (%...): only the client's machine knows it",
    ),
    **{
        f"RFC 9844: Host: {host!r}": (
            head(host=b"Host: " + host),
            400,
            "the Host field must not have an IPv6 zone (%...): only the client's machine knows it",
        )
        for host in (b"[fe80::1%25eth0]", b"[fe80::1%eth0]", b"[fe80::1%eth0]:8080", b"[fe80::1%1]:", b"[fe80::1%]")
    },
    "HTTP/2.0": (head(b"GET / HTTP/2.0"), 505, "HTTP/2.0 is not supported: expected HTTP/1.1 or HTTP/1.0"),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\n", 505, "HTTP/2.0 is not supported: expected HTTP/1.1 or HTTP/1.0"),
    "HTTP/0.9": (head(b"GET / HTTP/0.9"), 505, "HTTP/0.9 is not supported: expected HTTP/1.1 or HTTP/1.0"),
    "HTTP/3.1": (head(b"GET / HTTP/3.1"), 505, "HTTP/3.1 is not supported: expected HTTP/1.1 or HTTP/1.0"),
    "101 fields": (
        head(b"GET / HTTP/1.1", *[b"A: b"] * MAX_FIELDS),
        431,
        "the header section has more than 100 field lines",
    ),
    "no Host": (head(host=None), 400, "an HTTP/1.1 request must have a Host field"),
    "no Host on 1.2": (head(b"GET / HTTP/1.2", host=None), 400, "an HTTP/1.1 request must have a Host field"),
    "two Hosts": (head(b"GET / HTTP/1.1", b"host:x"), 400, "a request must not have more than one Host field"),
    "two Hosts on 1.0": (head(b"GET / HTTP/1.0", b"Host: x"), 400, "a request must not have more than one Host field"),
    "CONNECT": (head(b"CONNECT x:443 HTTP/1.1"), 501, "CONNECT is not supported: an echo server opens no tunnels"),
    "CONNECT to a path": (
        head(b"CONNECT / HTTP/1.1"),
        501,
        "CONNECT is not supported: an echo server opens no tunnels",
    ),
    "TRACE with content": (
        head(b"TRACE / HTTP/1.1", b"Content-Length: 1"),
        400,
        "a TRACE request must not have content (RFC 9110 section 9.3.8)",
    ),
    "TRACE with chunked content": (
        head(b"TRACE / HTTP/1.1", b"Transfer-Encoding: chunked"),
        400,
        "a TRACE request must not have content (RFC 9110 section 9.3.8)",
    ),
    "chunked on 1.0": (
        head(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"),
        400,
        "an HTTP/1.0 request must not have Transfer-Encoding",
    ),
    "another expectation": (
        head(b"POST / HTTP/1.1", b"Expect: 200-ok", b"Content-Length: 3"),
        417,
        "the only expectation supported is 100-continue",
    ),
    "two expectations": (
        head(b"GET / HTTP/1.1", b"Expect: 100-continue", b"Expect: x"),
        417,
        "the only expectation supported is 100-continue",
    ),
}
for host in (b"a@b", b"x y", b"x, y", b"x:y", b"a/b", b"x:80:80", b"::1", b"[::1", b"[x]", b"\xc3\xa9", b"%", b'"x"'):
    BAD[f"Host: {host!r}"] = (head(host=b"Host: " + host), 400, "the Host field must be HOST or HOST:PORT")
for name, lines, reason in (
    ("5, 5", b"Content-Length: 5, 5", "Content-Length must be a decimal number"),
    ("+5", b"Content-Length: +5", "Content-Length must be a decimal number"),
    ("-5", b"Content-Length: -5", "Content-Length must be a decimal number"),
    ("0x5", b"Content-Length: 0x5", "Content-Length must be a decimal number"),
    ("5 5", b"Content-Length: 5 5", "Content-Length must be a decimal number"),
    ("1_0", b"Content-Length: 1_0", "Content-Length must be a decimal number"),
    ("a vertical tab", b"Content-Length: 5\x0b", "Content-Length must be a decimal number"),
    ("none", b"Content-Length:", "Content-Length must be a decimal number, it is empty"),
    ("only blanks", b"Content-Length: \t ", "Content-Length must be a decimal number, it is empty"),
    ("2**64", b"Content-Length: %d" % 2**64, "Content-Length must be less than 2^64"),
    ("5000 digits", b"Content-Length: " + b"9" * 5000, "Content-Length must be less than 2^64"),
    (
        "twice the same",
        b"Content-Length: 5\r\ncontent-length: 5",
        "a request must not have more than one Content-Length field",
    ),
    (
        "two that differ",
        b"Content-Length: 5\r\nContent-Length: 6",
        "a request must not have more than one Content-Length field",
    ),
):
    BAD[f"Content-Length: {name}"] = (head(b"POST / HTTP/1.1", lines), 400, reason)
    BAD[f"Content-Length: {name}, a method llhttp does not know"] = (head(b"FOO / HTTP/1.2", lines), 400, reason)
    BAD[f"Content-Length: {name}, with Upgrade"] = (
        head(b"POST / HTTP/1.1", b"Connection: upgrade", b"Upgrade: x", lines),
        400,
        reason,
    )
for coding in (
    b"", b"gzip", b"identity", b"chunked, gzip", b"chunked, chunked", b"xchunked", b"gzip, xchunked", b"chunked;a=b",
    b"\x0bchunked", b"chunked\r\nTransfer-Encoding: identity", b", chunked", b"chunked,", b"gzip, chunked;a=b",
):  # fmt: skip
    section = head(b"POST / HTTP/1.1", b"Transfer-Encoding: " + coding)
    BAD[f"RFC 9112 section 6.3: Transfer-Encoding: {coding!r}"] = (section, 400, NOT_CHUNKED_LAST)
for coding in (
    b"gzip, chunked",
    b"identity\r\nTransfer-Encoding: chunked",
    b"deflate, gzip ,\tCHUNKED",
    b'x;a="b",chunked',
):
    section = head(b"POST / HTTP/1.1", b"Transfer-Encoding: " + coding)
    BAD[f"RFC 9112 section 6.1: Transfer-Encoding: {coding!r}"] = (section, 501, OTHER_CODING)
for first, second in (
    (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    (b"Content-Length: 0", b"transfer-encoding:x"),
):
    for pair in ((first, second), (second, first)):
        section = head(b"POST / HTTP/1.1", *pair)
        BAD[f"both {pair!r}"] = (section, 400, "a request must not have both Content-Length and Transfer-Encoding")
for name, line, reason in (
    ("an obsolete fold", b"A: b\r\n c", "a field value must not be folded onto another line"),
    ("a fold of a secret", b"Cookie: b\r\n\tc", "a field value must not be folded onto another line"),
    ("a bare LF", b"A: b\nContent-Length: 5", "a field line must end in CRLF"),
    ("a bare CR", b"A: b\rContent-Length: 5", "a field line must end in CRLF"),
    ("a space before the colon", b"A : b", NO_FIELD_LINE),
    ("a space before the colon of Content-Length", b"Content-Length : 5", NO_FIELD_LINE),
    ("NUL", b"A: \0", "a field value must not have control characters"),
    ("NUL in the name", b"A\0: b", NO_FIELD_LINE),
    ("DEL", b"A: \x7f", "a field value must not have control characters"),
    ("a control", b"A: \x01", "a field value must not have control characters"),
    ("a name of high bytes", b"\xff: b", NO_FIELD_LINE),
    ("no name", b": b", NO_FIELD_LINE),
    ("no colon", b"A", NO_FIELD_LINE),
    ("a bracket in the name", b"A[]: b", NO_FIELD_LINE),
):
    for method in (b"GET", b"FOO"):
        BAD[f"{name}, {method.decode()}"] = (head(b"%b / HTTP/1.1" % method, line), 400, reason)
BAD["a space before the first field"] = (head(host=b" Host: x"), 400, NO_FIELD_LINE)


@pytest.mark.parametrize(("section", "status", "reason"), BAD.values(), ids=BAD)
def test_what_a_header_section_is_refused_for(section: bytes, status: int, reason: str) -> None:
    assert refusal_of(lambda: messages.read(section)) == (status, reason)


# --- the beginning of a header section ---


def look(pending: bytes, looked_at: int = 0, max_header: int = 1000) -> None:
    messages.check_partial_head(bytearray(pending), looked_at, max_header)


@pytest.mark.parametrize("section", [section for section, _ in GOOD.values() if len(section) < 300])
def test_a_beginning_of_what_is_good_is_never_refused(section: bytes) -> None:
    for end in range(1, len(section)):
        look(section[:end], end - 1)
        look(section[:end])


@pytest.mark.parametrize(
    ("pending", "reason"),
    [
        (b"\0", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b" GET", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b"\n", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b"G@", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b"GET\r\n", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b"\x16\x03\x01", "this is not an HTTP request: expected a method, such as GET, and a space"),
        (b"GET / HTTP/1.1\n", "a line of the header section does not end in CRLF"),
        (b"GET / HTTP/1.1\r\nA: b\n", "a line of the header section does not end in CRLF"),
        (b"GET / HTTP/1.1\r\n\n", "a line of the header section does not end in CRLF"),
        (b"GET /\r\n", LINE_EXPECTED),
        (b"GET  / HTTP/1.1\r\nA", LINE_EXPECTED),
    ],
)
def test_a_beginning_that_cannot_become_one_is_refused(pending: bytes, reason: str) -> None:
    assert refusal_of(lambda: look(pending)) == (400, reason)


def test_a_line_end_cut_in_two_is_one() -> None:
    pending = b"GET / HTTP/1.1\r\nA: b\r\nC"
    look(pending, looked_at=pending.rindex(b"\n"))
    bare = pending.replace(b"b\r\n", b"b\n")
    reason = "a line of the header section does not end in CRLF"
    assert refusal_of(lambda: look(bare, bare.rindex(b"\n"))) == (400, reason)


@pytest.mark.parametrize(
    ("section", "limit", "expected"),
    [
        (head(), 27, None),
        (head(), 26, (431, "the header section is longer than 26 bytes")),
        (head(), 16, (431, "the header section is longer than 16 bytes")),
        (head(), 15, (414, "the request line is longer than 15 bytes")),
        (head(b"GET /" + b"x" * 400 + b" HTTP/1.1"), 300, (414, "the request line is longer than 300 bytes")),
        (head(b"GET / HTTP/1.1", b"A: " + b"x" * 400), 300, (431, "the header section is longer than 300 bytes")),
    ],
)
def test_the_limit_of_a_header_section(section: bytes, limit: int, expected: tuple[int, str] | None) -> None:
    assert len(head()) == 27
    if expected is None:
        look(section, 0, limit)
    else:
        assert refusal_of(lambda: look(section, 0, limit)) == expected
        assert messages.too_long(section, limit).args == expected


# --- fields that are remembered ---


def everything(found: Request) -> list[object]:
    return [getattr(found, name) for name in Request.__slots__]


def test_fields_that_are_remembered_mean_the_same() -> None:
    known: Known = {}
    for _ in range(3):
        for section, _ in GOOD.values():
            assert everything(messages.read(section, known)) == everything(messages.read(section))
        for section, status, reason in BAD.values():
            assert refusal_of(lambda section=section: messages.read(section, known)) == (status, reason)  # type: ignore[misc]


@pytest.mark.parametrize("line", [b"GET / HTTP/1.0", b"FOO /x HTTP/1.2", b"HEAD / HTTP/1.1", b"TRACE / HTTP/1.1"])
def test_fields_remembered_of_one_request_serve_another(line: bytes) -> None:
    for section, _ in GOOD.values():
        known: Known = {}
        messages.read(section, known)
        other = line + section[section.index(b"\r\n") :]
        expected, found = read_or_refuse(other), read_or_refuse(other, known)
        assert (expected and everything(expected)) == (found and everything(found))


def test_what_is_remembered_is_bounded() -> None:
    known: Known = {}
    for number in range(1000):
        messages.read(head(b"GET / HTTP/1.1", b"A: %d" % number), known)
        assert len(known) <= 256
        messages.read(head(b"GET / HTTP/1.1", host=b"Host: %d" % number), known)
        assert len(known) <= 256
    for line in (b"A: ", b"Content-Type: "):
        section = head(b"GET / HTTP/1.1", line + b"b" * messages.REMEMBERED_SIZE)
        for _ in range(3):
            messages.read(section, known)
    assert max(map(len, known)) <= messages.REMEMBERED_SIZE


def outcome(section: bytes, known: Known | None) -> object:
    """All that is found in a header section, or the whole refusal."""
    try:
        return everything(messages.read(section, known))
    except HttpError as refusal:
        return refusal.args


def knowing(section: bytes) -> Known:
    """What is known after a section, and two with other fields that do not matter, have been read."""
    known: Known = {}
    for more in (b"", b"\r\nX-Request-Id: 1", b"\r\nX-Request-Id: 2"):
        outcome(section[:-4] + more + b"\r\n\r\n", known)
    return known


@pytest.mark.parametrize("section", [*(good for good, _ in GOOD.values()), *(bad for bad, *_ in BAD.values())])
def test_another_field_is_read_as_strictly_where_the_others_are_known(section: bytes) -> None:
    for line in (b"A: b", b"A: b\r\n c", b"A : b", b"A: \0", b"A: \x7f", b"A: b\nC: d", b"A: b\rC: d", b"A", b"Host: y",
                 b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: x",
                 b"A: b\r\n" * MAX_FIELDS + b"A: b"):  # fmt: skip
        for changed in (
            section[:-4] + b"\r\n" + line + section[-4:],
            section.replace(b"\r\n", b"\r\n%b\r\n" % line, 1),
        ):
            assert outcome(changed, knowing(section)) == outcome(changed, None)


# --- whatever is sent ---


def read_or_refuse(section: bytes, known: Known | None = None) -> Request | None:
    """read() gives a Request or a HttpError, and nothing else."""
    try:
        return messages.read(section, known)
    except HttpError as error:
        refusal = error
    assert refusal.status in {400, 413, 417, 431, 501, 505}
    assert re.fullmatch("[^\r\n]+", refusal.reason)
    return None


class Judge:
    """What llhttp has found in a header section."""

    def __init__(self, section: bytes) -> None:
        self.heads = 0
        self.error: str | None = None
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(section)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            self.error = str(error)

    def on_headers_complete(self) -> None:
        self.heads += 1


SECTIONS = [section for section, _ in GOOD.values()] + [section for section, *_ in BAD.values()]
PIECES = [
    b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"\0", b"\xff", b"5", b"chunked", b"Host: x\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close, Upgrade\r\n",
    b"HTTP/1.0", b"HEAD ", b"FOO ",
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A header section of the tables in which some pieces have been put, taken out or replaced."""
    section = draw(st.sampled_from(SECTIONS))[:2000]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(section)))
        stop = min(len(section), start + draw(st.sampled_from([0, 0, 1, 2, 9])))
        section = section[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=3)) + section[stop:]
    return section.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


@examples(200)
@given(
    section=st.binary(max_size=200) | st.binary(max_size=100).map(lambda more: b"GET / HTTP/1.1\r\n%b\r\n\r\n" % more)
)
def test_arbitrary_bytes_are_read_or_refused(section: bytes) -> None:
    read_or_refuse(section)


@examples(600)
@given(section=mutated())
@example(section=head(b"POST / HTTP/1.1", b"\xff: \r\nTransfer-Encoding: chunked"))
def test_a_mutated_header_section_is_read_or_refused(section: bytes) -> None:
    found = read_or_refuse(section)
    judge = Judge(section)
    if found is None:
        return
    if re.match(rb"(GET|HEAD|POST|PUT) \S+ HTTP/1\.[01]\r\n", section):
        assert judge.error is None, "what llhttp refuses is refused"
        assert judge.heads == 1
    if found.chunked:
        assert found.content_length == 0
    elif found.content_length:
        assert re.findall(rb"(?i)\r\ncontent-length:[ \t]*(\d+)", section) == [b"%d" % found.content_length] or (
            re.search(rb"(?i)\r\ncontent-length:[ \t]*0+%d[ \t]*\r" % found.content_length, section)
        )
    if section.startswith(b"GET ") and not found.content_type and not found.page:
        assert found.answer.endswith(b"\r\n\r\n" + section)


@st.composite
def related(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A header section, and one that was made of it: lines put between, taken out, or changed within."""
    one = draw(st.sampled_from(SECTIONS).filter(lambda section: len(section) < 2000) | mutated())
    line, *fields_, _, _ = one.split(b"\r\n") if one.count(b"\r\n") > 1 else (one, b"", b"")
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(fields_)))
        inserted = draw(
            st.sampled_from([b"X-Request-Id: 1", b"A:b", b" fold", b"\tfold", b"Host: x"]) | st.binary(max_size=6)
        )
        if draw(st.booleans()):
            fields_.insert(place, inserted)
        elif place < len(fields_):
            at = draw(st.integers(0, len(fields_[place])))
            fields_[place] = fields_[place][:at] + inserted + fields_[place][at:]
    return one, b"\r\n".join((line, *fields_, b"", b""))


@examples(1000)
@given(sections=related())
def test_what_is_known_of_a_section_changes_nothing_in_the_reading_of_its_relations(
    sections: tuple[bytes, bytes],
) -> None:
    one, other = sections
    assume(all(section.find(b"\r\n\r\n") == len(section) - 4 for section in sections))  # it ends where it is cut
    known = knowing(one)
    for _ in range(3):
        assert outcome(other, known) == outcome(other, None)
        assert outcome(one, known) == outcome(one, None)


names = st.text("abcXYZ-_!#$%&'*+.^`|~019", min_size=1, max_size=12).map(lambda name: b"x" + name.encode())
values = st.binary(max_size=30).map(lambda value: re.sub(rb"[\x00-\x08\x0a-\x1f\x7f]", b"?", value))


@examples(200)
@given(extra=st.lists(st.tuples(names, values), max_size=8))
def test_the_answer_to_get_ends_with_its_head(extra: list[tuple[bytes, bytes]]) -> None:
    section = head(b"GET / HTTP/1.1", *(b"%b:%b" % each for each in extra))
    found = messages.read(section)
    assert found.answer == fields(b"text/plain", len(section), b"") + section
    assert found.size == len(section)


# --- controls, Accept, preflight requests ---

CAPS = Caps(60.0, 1 << 30)
ASKS = answers.Asked(CAPS, cors=False)
ACROSS = answers.Asked(CAPS, cors=True)


def asked(*lines: bytes, cors: bool = False) -> Controls | None:
    return messages.read(b"\r\n".join((*lines, b"Host: a", b"", b"")), asks=ACROSS if cors else ASKS).controls  # type: ignore[no-any-return]


def test_a_query_with_controls_needs_more_than_a_prebuilt_answer() -> None:
    head = b"GET /?status=503 HTTP/1.1\r\nHost: a\r\n\r\n"
    assert messages.read(head).size == len(head)
    found = messages.read(head, asks=ASKS)
    assert (found.size, found.controls is not None) == (-1, True)
    other = messages.read(b"GET /?other=503 HTTP/1.1\r\nHost: a\r\n\r\n", asks=ASKS)
    assert (other.size > 0, other.controls) == (True, None)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (b"application/json", True),
        (b"APPLICATION/JSON; charset=utf-8", True),
        (b"application/json, text/plain, */*", True),
        (b"text/html, application/json;q=0.1", True),
        (b"text/plain;q=0.5, application/json", True),
        (b"text/plain, application/json", False),
        (b"text/plain, application/json;q=0.9", False),
        (b"application/json;q=0", False),
        (b"application/json;q=0.000 ", False),
        (b"application/json;version=1; q=0 ; a=b", False),
        (b"text/plain;q=0.5;a=b, application/json;q=0.6", True),
        (b"*/*", False),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", False),
        (b"text/plain, text/json", False),
        (b"application/json-seq", False),
        (b"application/jsonp", False),
        (b"*/*, application/json;q=0.9", False),
        (b"*/*;q=0.8, application/json;q=0.9", True),
        (b"text/*, application/json;q=0.5", False),
        (b"*/*, application/json", True),
        (b"text/plain\r\nAccept: application/json;q=0.1", False),
        (b"text/plain;q=0.1\r\nAccept: application/json", True),
        (b"", False),
    ],
)
def test_accept(accept: bytes, json: bool) -> None:
    found = asked(b"GET / HTTP/1.1", b"aCCept:  " + accept)
    assert (found is not None and found.echo == controls.JSON) == json
    assert asked(b"POST / HTTP/1.1", b"Accept: " + accept, b"Content-Length: 1") is None, "there is content to echo"
    assert (asked(b"POST / HTTP/1.1", b"Accept: " + accept, b"Content-Length: 0") is not None) == json
    assert messages.read(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: " + accept + b"\r\n\r\n").controls is None, "off"


def test_what_the_query_asks_for_goes_before_accept() -> None:
    found = asked(b"GET /?echo=head HTTP/1.1", b"Accept: application/json")
    assert found is not None
    assert found.echo == controls.HEAD


def test_chunked_is_nothing_for_http_1_0() -> None:
    with pytest.raises(HttpError, match="must not be chunked"):
        asked(b"GET /?chunked HTTP/1.0")


PREFLIGHT = (b"OPTIONS / HTTP/1.1", b"Origin: http://a", b"Access-Control-Request-Method: PUT")


@pytest.mark.parametrize("query", [b"", b"?a", b"?status=503&delay=1s&abort"])
def test_a_preflight_request(query: bytes) -> None:
    """What the request behind it asks for is not asked of it."""
    line = b"OPTIONS /%b HTTP/1.1" % query
    found = asked(line, *PREFLIGHT[1:], b"access-control-request-headers: X-A, content-type", cors=True)
    assert found is not None
    assert (found.echo, found.fields) == (
        controls.NONE,
        b"Access-Control-Allow-Methods: PUT\r\nAccess-Control-Allow-Headers: X-A, content-type\r\n"
        b"Access-Control-Max-Age: 600\r\n",
    )
    assert found.choose() == controls.Outcome(None, 0.0, close=False, abort=False)


@pytest.mark.parametrize(
    ("lines", "cors"),
    [
        (PREFLIGHT, False),
        (PREFLIGHT[:2], True),
        ((PREFLIGHT[0], PREFLIGHT[2]), True),
        ((b"GET / HTTP/1.1", *PREFLIGHT[1:]), True),
        ((*PREFLIGHT, b"Content-Length: 1"), True),
        ((*PREFLIGHT[:2], b"Access-Control-Request-Method: P T"), True),
    ],
)
def test_no_preflight_request(lines: tuple[bytes, ...], cors: bool) -> None:
    assert asked(*lines, cors=cors) is None


def test_a_preflight_request_of_no_bytes() -> None:
    assert asked(*PREFLIGHT, b"Content-Length: 0", cors=True) is not None


PAGES = [
    (line, fields)
    for line in (
        b"GET /readyz HTTP/1.1",
        b"HEAD /readyz?x HTTP/1.1",
        b"OPTIONS http://h/readyz?x HTTP/1.1",
        b"GET /.echo?status=503&delay=lots HTTP/1.1",
    )
    for fields in (
        (),
        (b"Accept: application/json",),
        (b"Content-Length: 0",),
        (b"Connection: upgrade", b"Upgrade: websocket"),
    )
]


@pytest.mark.parametrize(("line", "fields"), PAGES)
def test_page__controls_accept_and_upgrade_do_not_touch_it(line: bytes, fields: tuple[bytes, ...]) -> None:
    pages = messages.PAGES | {messages.BROWSER_PAGE}
    found = messages.read(
        head(line, *fields), asks=ACROSS, preflight=preflight, pages=pages, extra=b"X-Client-Subject: a\r\n"
    )
    assert (found.page in pages, found.controls, found.upgrade, found.size) == (True, None, False, -1)
    assert found.extra == (b"Allow: GET, HEAD, OPTIONS\r\n" if line.startswith(b"OPTIONS") else b"")


def test_page__preflight() -> None:
    section = head(b"OPTIONS /metrics HTTP/1.1", *PREFLIGHT[1:])
    allow = b"Allow: GET, HEAD, OPTIONS\r\n"
    assert messages.read(section, preflight=preflight).extra == (
        allow + b"Access-Control-Allow-Methods: PUT\r\nAccess-Control-Max-Age: 600\r\n"
    )
    assert messages.read(section).extra == allow


@pytest.mark.parametrize("length", [b"00", b"3"])
@pytest.mark.parametrize("target", [b"/readyz", b"/readyz?status=200", b"http://h/readyz?x"])
@pytest.mark.parametrize("method", [b"POST", b"PUT", b"FOO", b"GET"])
def test_readyz__unready_refuses_whatever_is_no_page(method: bytes, target: bytes, length: bytes) -> None:
    section = head(b"%b %b HTTP/1.1" % (method, target), b"Content-Length: " + length)
    reader, admin = RequestReader(asks=ASKS), RequestReader(echoes=False)
    if method != b"GET" or length == b"3":
        assert reader.read(section).probe
    reader.unready = admin.unready = True
    if method == b"GET" and length == b"00":
        assert reader.read(section).page == b"/readyz"
    else:
        assert refusal_of(lambda: reader.read(section)) == (503, "the server is shutting down")
        assert refusal_of(lambda: admin.read(section)) == (503, "the server is shutting down")


def test_admin__405_and_400_and_404() -> None:
    def refused(line: bytes, *fields: bytes) -> HttpError:
        with pytest.raises(HttpError) as caught:
            RequestReader(echoes=False).read(head(line, *fields))
        return caught.value

    for method in (b"POST", b"DELETE", b"TRACE", b"FOO"):
        refusal = refused(b"%b /metrics?x HTTP/1.1" % method)
        assert refusal.args == (405, "the methods for the server's own pages are GET, HEAD and OPTIONS")
        assert refusal.extra == b"Allow: GET, HEAD, OPTIONS\r\n"
    why = "a request for one of the server's own pages must not have content"
    assert refused(b"GET /readyz HTTP/1.1", b"Content-Length: 3").args == (400, why)
    assert refused(b"GET /x HTTP/1.1").args == (404, "this listener serves only /healthz, /metrics, /readyz")
    assert refused(b"OPTIONS * HTTP/1.1").status == 404


@pytest.mark.parametrize("names", [b"a b", b"a,,b", b"a;b", b"a" * 100 + b";", b"a," * 100 + b";"])
def test_a_preflight_request_for_names_that_are_none(names: bytes) -> None:
    found = asked(*PREFLIGHT, b"Access-Control-Request-Headers: " + names, cors=True)
    assert found is not None
    assert b"Allow-Headers" not in found.fields
