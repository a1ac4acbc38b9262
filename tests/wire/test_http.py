"""HTTP echo over real sockets: what is answered to what, and how connections end.

Modules: protocols.http1.connection, protocols.http1.site.
"""

import contextlib
import http.client
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.servers import Answer, HttpClient, Server, chunks, let_read, read_exactly, request, sending

GET = request("GET / HTTP/1.1")
TEXT = "text/plain; charset=utf-8"

HEADS = {
    "plain": GET,
    "case, order and repeats": request("GET / HTTP/1.1", "x-B: 1", "hOsT: a", "X-A: 2", "x-B: 3", "X-b: 1"),
    "white space and empty values": request("GET / HTTP/1.1", "Host:a", "A:", "B: ", "C:\t x  y \t", "D:z"),
    "bytes beyond ASCII": request("GET / HTTP/1.1", "X: \xe4\x80"),
    "a query": request("GET /a/../b//c?d=e&f=%00?# HTTP/1.1"),
    "an unknown method": request("FOO /bar HTTP/1.1"),
    "a method of strange characters": request("!#$%&'*+-.^_`|~09az / HTTP/1.1"),
    "a method in lower case": request("get / HTTP/1.1"),
    "DELETE": request("DELETE /x HTTP/1.1"),
    "POST without content": request("POST /x HTTP/1.1"),
    "OPTIONS *": request("OPTIONS * HTTP/1.1"),
    "absolute form": request("GET http://example.com:80/x?y HTTP/1.1", "Host: example.com:80"),
    "an IPv6 host": request("GET / HTTP/1.1", "Host: [::1]:8080"),
    "an empty host": request("GET / HTTP/1.1", "Host:"),
    "a minor version to come": request("GET / HTTP/1.2"),
    "HTTP/1.0, kept alive": request("GET / HTTP/1.0", "Connection: Keep-Alive"),
    "HTTP/1.0 without a host": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "a hundred fields": request("GET / HTTP/1.1", *(f"X-{number}: {number}" for number in range(99))),
    "a long target": request(f"GET /{'x' * 60_000} HTTP/1.1"),
    "one long field": request("GET / HTTP/1.1", f"X: {'x' * 60_000}"),
    "Upgrade to something unknown": request("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c, foo/2"),
    "an expectation, but no content": request("GET / HTTP/1.1", "Expect: 100-continue"),
    "close to a page of the server's own": request("GET /healthz/ HTTP/1.1"),
    "... below one": request("GET /readyz/x?y HTTP/1.1"),
    "... in a query": request("GET /?/readyz HTTP/1.1"),
    "... in capitals": request("GET /HEALTHZ HTTP/1.1"),
    "... by another method": request("DELETE /healthz HTTP/1.1"),
    "... by POST": request("POST /readyz?x HTTP/1.1"),
}


def in_ways(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each case whole, byte by byte (long ones: in 100 pieces) and once more, as what came before is remembered."""
    yield data, 0
    yield data, 1 + len(data) // 500
    yield data, 0
    yield data, 0


def chunked(*contents: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return chunks(*contents) + end


def assert_echo(answer: Answer, content: bytes, content_type: str = "application/octet-stream") -> None:
    assert answer.status == 200
    assert answer.content == content
    assert answer["content-type"] == content_type


# --- no content: the request's own head ---


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_comes_back_as_it_was_sent(client: HttpClient, head: bytes) -> None:
    for data, piece in in_ways(head):
        assert_echo(client.ask(data, piece), head, "text/plain")
    client.send(head + GET + head)
    for expected in (head, GET, head):
        assert_echo(client.answer(), expected, "text/plain")


def test_empty_lines_before_a_request_are_no_part_of_it(client: HttpClient) -> None:
    for _, piece in in_ways(GET):
        assert_echo(client.ask(b"\r\n\r\n" + GET, piece), GET, "text/plain")


def test_a_request_that_begins_in_the_middle_of_a_read_is_not_taken_for_the_last_one(
    server: Server, client: HttpClient
) -> None:
    last = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    client.ask(last)
    client.ask(last)
    begun = b"GET /other HTTP/1.0\r\nX: "
    client.send(begun)
    let_read(server)
    assert_echo(client.ask(last), begun + last, "text/plain")


@pytest.mark.parametrize("target", ["/", "/x?y"])
def test_trace_gives_no_credentials_away(client: HttpClient, target: str) -> None:
    secrets = ("Authorization: Basic c2VjcmV0", "cookie: a=secret", "PROXY-authorization: x", "Cookie:b", "cookie: c")
    harmless = ("X-Authorization: x", "Cookie2: b", "Authorized: c")
    for _, piece in in_ways(GET):
        answer = client.ask(request(f"TRACE {target} HTTP/1.1", secrets[0], *harmless, *secrets[1:], "Last: d"), piece)
        assert_echo(answer, request(f"TRACE {target} HTTP/1.1", *harmless, "Last: d"), "message/http")


# --- content ---


@pytest.mark.parametrize("content", [b"", b"x", b"hello", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", bytes(range(256)) * 20])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET", "DELETE", "PATCH", "OPTIONS", "FOO"])
def test_content_comes_back(client: HttpClient, method: str, content: bytes) -> None:
    post = request(f"{method} /any/path HTTP/1.1", f"Content-Length: {len(content)}", content=content)
    for data, piece in in_ways(post):
        assert_echo(client.ask(data, piece), content)
    client.send(post + GET + post)
    assert_echo(client.answer(), content)
    assert_echo(client.answer(), GET, "text/plain")
    assert_echo(client.answer(), content)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json; charset=UTF-8", 'Multipart/Form-Data; boundary="a:b,c"', "x"]
)
@pytest.mark.parametrize("framing", ["Content-Length: 0", "Content-Length: 3", "Transfer-Encoding: chunked"])
def test_content_has_the_type_it_came_with(client: HttpClient, framing: str, content_type: str) -> None:
    content = b"" if framing.endswith("0") else b"abc"
    sent = chunked(content) if framing.endswith("chunked") else content
    answer = client.ask(request("POST / HTTP/1.1", framing, f"content-TYPE:  {content_type} ", content=sent))
    assert_echo(answer, content, content_type)


CODED = ("content-ENCODING:  gzip ", "Content-Type: application/json", "Content-Encoding: br", "Content-Language: de")
SAYS = {"content-type": "application/json", "content-encoding": "gzip, br", "content-language": "de"}


def assert_coded(answer: Answer, content: bytes) -> None:
    assert_echo(answer, content, "application/json")
    assert {name: answer[name] for name in SAYS} == SAYS


@pytest.mark.parametrize("size", [0, 5, 5000, 100_000, 20 << 20], ids=["0", "5", "in one write", "gathered", "relayed"])
def test_content_encoding_and_content_language_go_back_with_the_content(client: HttpClient, size: int) -> None:
    content = random.Random(size).randbytes(size)
    length = request("POST / HTTP/1.1", *CODED, f"Content-Length: {size}", content=content)
    chunks = request("POST / HTTP/1.1", *CODED, "Transfer-Encoding: chunked", content=chunked(*[content] * (size > 0)))
    for sent in (length, chunks):
        for data, piece in in_ways(sent) if size < 10_000 else [(sent, 0)] * 2:
            with sending(client.socket, data) if not piece else contextlib.nullcontext():
                if piece:
                    client.send(data, piece)
                assert_coded(client.answer(), content)
        if size < 10_000:
            client.send((GET + sent) * 2)
            for _ in range(2):
                answer = client.answer()
                assert (answer.content, answer["content-encoding"], answer["content-language"]) == (GET, None, None)
                assert_coded(client.answer(), content)
            told = client.ask(b"HEAD" + sent[4:])
            assert {name: told[name] for name in SAYS} == SAYS


def test_content_encoding_of_another_request_is_not_taken_for_this_ones(client: HttpClient) -> None:
    for coding in ("gzip", "br", None, "gzip"):
        for number in range(4):  # from the second on by what it has in common with the one before
            said = [f"Content-Encoding: {coding}"] if coding else []
            post = request(f"POST /{number} HTTP/1.1", f"X: {number}", *said, "Content-Length: 1", content=b"x")
            assert client.ask(post)["content-encoding"] == coding


def test_content_encoding_is_no_part_of_an_echo_of_the_header_section(client: HttpClient) -> None:
    sent = request("GET / HTTP/1.1", *CODED)
    for data, piece in in_ways(sent):
        answer = client.ask(data, piece)
        assert_echo(answer, sent, "text/plain")
        assert (answer["content-encoding"], answer["content-language"]) == (None, None)


@pytest.mark.parametrize("content", [b"hello", bytes(5000)])
def test_the_same_head_with_other_content(client: HttpClient, content: bytes) -> None:
    """What is remembered of a request is its head and nothing else."""
    for number in range(10):
        changed = content.replace(content[:1], b"%d" % number)
        post = request("POST / HTTP/1.1", f"Content-Length: {len(changed)}", content=changed)
        assert_echo(client.ask(post), changed)


# --- HEAD ---


@pytest.mark.parametrize(
    "sent",
    [
        request("GET / HTTP/1.1"),
        request("GET /x HTTP/1.1", "Content-Length: 5", "Content-Type: a/b", content=b"hello"),
        request("GET /x HTTP/1.1", "Content-Length: 0"),
        request("GET /x HTTP/1.1", "Content-Length: 5", "Expect: 100-continue", content=b"hello"),
        request("GET /x HTTP/1.1", "Transfer-Encoding: chunked", content=chunked(b"hello", b" ", b"world")),
        request("GET /healthz HTTP/1.1"),
        request("GET /x HTTP/1.0", "Connection: keep-alive"),
    ],
    ids=["no content", "content", "empty content", "Expect", "chunked", "healthz", "1.0"],
)
def test_head_is_answered_as_get_without_the_content(client: HttpClient, sent: bytes) -> None:
    by_get = client.ask(sent)
    assert by_get.status == 200
    for _ in range(3):
        by_head = client.ask(b"HEAD" + sent[3:])
        assert (by_head.status, by_head.content) == (200, b"")
        without_date = [
            [field for field in answer.fields if field[0] not in ("date", "content-length")]
            for answer in (by_get, by_head)
        ]
        assert without_date[0] == without_date[1]
        assert by_head["content-length"] == by_get["content-length"] == str(len(by_get.content))
    client.send((b"HEAD" + sent[3:]) * 2 + GET)
    assert [client.answer("HEAD").content for _ in range(2)] == [b"", b""]
    assert_echo(client.answer(), GET, "text/plain")


def test_head_with_chunks_that_come_one_by_one(client: HttpClient) -> None:
    content = chunked(b"hello", b"world")
    head = request("HEAD / HTTP/1.1", "Transfer-Encoding: chunked")
    client.send(head + content[:10])
    answer = client.answer("HEAD")
    assert (answer.status, answer.content) == (200, b"")
    assert_echo(client.ask(content[10:] + GET), GET, "text/plain")


# --- connections that stay and that end ---


@pytest.mark.parametrize(
    ("line", "fields", "stays", "said"),
    [
        ("GET / HTTP/1.1", (), True, None),
        ("GET / HTTP/1.1", ("Connection: keep-alive",), True, None),
        ("GET / HTTP/1.1", ("Connection: close",), False, "close"),
        ("GET / HTTP/1.1", ("connection: foo ,CLOSE",), False, "close"),
        ("GET / HTTP/1.1", ("Connection: foo", "Connection: close"), False, "close"),
        ("GET / HTTP/1.1", ("Connection: keep-alive, close",), False, "close"),
        ("GET / HTTP/1.1", ("Connection: closed",), True, None),
        ("GET / HTTP/1.1", ("X-Connection: close",), True, None),
        ("GET / HTTP/1.0", (), False, "close"),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), True, "keep-alive"),
        ("GET / HTTP/1.0", ("Connection: x, Keep-Alive",), True, "keep-alive"),
        ("GET / HTTP/1.0", ("Connection: keep-alive, close",), False, "close"),
        ("GET /healthz HTTP/1.1", ("Connection: close",), False, "close"),
        ("GET /healthz HTTP/1.0", (), False, "close"),
        ("HEAD / HTTP/1.0", (), False, "close"),
        ("POST / HTTP/1.0", ("Content-Length: 5",), False, "close"),
        ("POST / HTTP/1.0", ("Content-Length: 5", "Connection: keep-alive"), True, "keep-alive"),
        ("POST / HTTP/1.1", ("Content-Length: 5", "Connection: close"), False, "close"),
        ("POST / HTTP/1.1", ("Transfer-Encoding: chunked", "Connection: close"), False, "close"),
    ],
)
@pytest.mark.parametrize("piece", [0, 1])
def test_which_connections_stay(
    client: HttpClient, line: str, fields: tuple[str, ...], stays: bool, said: str | None, piece: int
) -> None:
    has_content = any("Content-Length" in field for field in fields)
    sent = request(line, *fields, content=b"hello" if has_content else b"")
    if "Transfer-Encoding: chunked" in fields:
        sent += chunked(b"hello")
    answer = client.ask(sent, piece)
    assert (answer.status, answer["connection"]) == (200, said)
    if stays:
        assert_echo(client.ask(GET), GET, "text/plain")
    else:
        assert client.rest() == b""


def test_the_last_answer_comes_in_one_packet_with_the_fin(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(request("GET / HTTP/1.1", "Connection: close"))
        assert connection.recv(1, socket.MSG_PEEK) == b"H"
        close_wait = 8  # include/net/tcp_states.h
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == close_wait


def test_nothing_behind_the_last_request_is_answered(client: HttpClient) -> None:
    client.send(GET + request("GET /last HTTP/1.1", "Connection: close") + GET * 1000)
    assert client.answer().content == GET
    assert client.answer().content.startswith(b"GET /last ")
    assert client.rest() == b""


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(5_000_000), bytes(20 << 20)], ids=["none", "5 B", "5 MB", "20 MiB"]
)
def test_an_answer_is_complete_although_its_client_has_sent_its_fin(client: HttpClient, content: bytes) -> None:
    sent = request("POST / HTTP/1.1", f"Content-Length: {len(content)}", content=content) if content else GET
    with sending(client.socket, sent, fin=True):
        answer = client.answer()
    assert answer.content == content if content else GET
    assert client.rest() == b""


def test_a_connection_without_a_request_ends_without_an_answer(client: HttpClient) -> None:
    client.fin()
    assert client.rest() == b""


# --- pipelining ---


def mixed(count: int) -> list[tuple[bytes, bytes, str]]:
    """Requests of all kinds: what to send, the content of the answer, and its method."""
    draw = random.Random(count)
    requests = []
    for number in range(count):
        body = draw.randbytes(draw.choice([0, 1, 10, 100, 3000]))
        length = f"Content-Length: {len(body)}"
        plain = request(f"GET /{number} HTTP/1.1", f"X-Number: {number}")
        requests.append(
            draw.choice(
                [
                    (plain, plain, "GET"),
                    (GET, GET, "GET"),
                    (request(f"POST /{number} HTTP/1.1", length, content=body), body, "POST"),
                    (request("PUT / HTTP/1.1", length, "Expect: 100-continue", content=body), body, "PUT"),
                    (
                        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunked(b"ab", b"c")),
                        b"abc",
                        "x",
                    ),
                    (request(f"HEAD /{number} HTTP/1.1"), b"", "HEAD"),
                    (request("HEAD /x HTTP/1.1", length, content=body), b"", "HEAD"),
                    (request("GET /healthz HTTP/1.1"), b"ok\n", "GET"),
                    (b"\r\n" + GET, GET, "GET"),
                ]
            )
        )
    return requests


@pytest.mark.parametrize("piece", [0, 1, 7, 1460], ids=["whole", "byte by byte", "7 bytes", "1460 bytes"])
def test_pipelined_requests_are_answered_in_order(client: HttpClient, piece: int) -> None:
    requests = mixed(100)
    client.send(b"".join(sent for sent, _, _ in requests), piece)
    for _, expected, method in requests:
        answer = client.answer(method)
        assert (answer.status, answer.content) == (200, expected)
    client.fin()
    assert client.rest() == b""


# --- Upgrade, Expect ---

UPGRADE = ("Connection: Upgrade", "Upgrade: foo/1")


@pytest.mark.parametrize("upgrade", [UPGRADE, (), ("Upgrade: h2c",), ("Connection: upgrade", "Upgrade: websocketx")])
@pytest.mark.parametrize("method", ["POST", "GET", "FOO"])
@pytest.mark.parametrize("piece", [0, 1])
def test_upgrade_is_ignored_and_the_content_is_not(
    client: HttpClient, method: str, upgrade: tuple[str, ...], piece: int
) -> None:
    line = f"{method} / HTTP/1.1"
    for _ in range(2):
        answer = client.ask(request(line, *upgrade, "Content-Length: 5", content=b"hello"), piece)
        assert_echo(answer, b"hello")
        answer = client.ask(
            request(line, *upgrade, "Transfer-Encoding: chunked", content=chunked(b"he", b"llo")), piece
        )
        assert_echo(answer, b"hello")
        answer = client.ask(request(line, *upgrade), piece)
        assert_echo(answer, request(line, *upgrade), "text/plain")


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue", " 100-continue "])
@pytest.mark.parametrize("size", [1, 5, 100_000, 1_000_000, 20 << 20])
def test_the_client_is_told_to_continue_before_it_sends(client: HttpClient, expect: str, size: int) -> None:
    content = bytes(size)
    for _ in range(2):
        client.send(request("POST / HTTP/1.1", f"Expect:{expect}", f"Content-Length: {size}"))
        assert client.file.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        with sending(client.socket, content):
            assert_echo(client.answer(), content)


def test_the_client_is_told_to_continue_with_chunks(client: HttpClient) -> None:
    client.send(request("POST / HTTP/1.1", "Expect: 100-continue", "Transfer-Encoding: chunked"))
    assert client.file.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert_echo(client.ask(chunked(b"hello")), b"hello")


@pytest.mark.parametrize(
    ("line", "fields", "first", "then", "expected"),
    [
        ("POST / HTTP/1.1", ("Content-Length: 5",), b"hello", b"", b"hello"),
        ("POST / HTTP/1.1", ("Content-Length: 5",), b"he", b"llo", b"hello"),
        ("POST / HTTP/1.1", ("Content-Length: 0",), b"", b"", b""),
        ("POST / HTTP/1.1", ("Transfer-Encoding: chunked",), b"5\r\n", b"hello\r\n0\r\n\r\n", b"hello"),
        ("POST / HTTP/1.0", ("Content-Length: 5", "Connection: keep-alive"), b"", b"hello", b"hello"),
        ("POST / HTTP/1.0", ("Content-Length: 5", "Connection: keep-alive"), b"he", b"llo", b"hello"),
    ],
    ids=["content is here", "content has begun", "no content", "chunks have begun", "1.0", "1.0, content has begun"],
)
def test_nothing_to_continue(
    client: HttpClient, line: str, fields: tuple[str, ...], first: bytes, then: bytes, expected: bytes
) -> None:
    client.send(request(line, "Expect: 100-continue", *fields, content=first))
    with sending(client.socket, then):
        assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"  # http.client would read over a 100
        head = b"".join(iter(client.file.readline, b"\r\n"))
        assert int(re.findall(rb"Content-Length: (\d+)\r\n", head)[0]) == len(expected)
        assert client.file.read(len(expected)) == expected
    assert_echo(client.ask(GET), GET, "text/plain")


# --- chunked ---


@pytest.mark.parametrize(
    "sent",
    [
        chunked(b"hello"),
        chunked(b"h", b"ell", b"o"),
        b'5 ; a=b;c="d"\r\nhello\r\n0;x\r\n\r\n',
        b"0000005\r\nhello\r\n000\r\n\r\n",
        chunked(b"hello", end=b"0\r\nX-Trailer: secret\r\nY: z\r\n\r\n"),
    ],
    ids=["one chunk", "three chunks", "extensions", "leading zeros", "trailers"],
)
@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "chunked "])
def test_chunks_that_are_here_are_answered_with_their_length(client: HttpClient, coding: str, sent: bytes) -> None:
    head = request("POST / HTTP/1.1", f"Transfer-Encoding: {coding}", "Content-Type: a/b", "TE: trailers")
    answer = client.ask(head + sent)
    assert_echo(answer, b"hello", "a/b")
    assert answer["content-length"] == "5"
    client.send((head + sent) * 3 + GET)
    for _ in range(3):
        assert_echo(client.answer(), b"hello", "a/b")
    assert_echo(client.answer(), GET, "text/plain")
    assert_echo(client.ask(head + sent, 1), b"hello", "a/b")
    assert_echo(client.ask(GET), GET, "text/plain")


def test_no_content_in_chunks(client: HttpClient) -> None:
    for _, piece in in_ways(GET):
        answer = client.ask(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunked()), piece)
        assert_echo(answer, b"")


def test_chunks_come_back_as_they_come(client: HttpClient) -> None:
    """Each is answered before the next one is sent; what ends the content drops the trailers."""
    client.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
    for number, piece in enumerate([b"first", b"2nd", bytes(70_000), b"x"]):
        client.send(chunked(piece, end=b""))
        if not number:
            head = b"".join(iter(client.file.readline, b"\r\n"))
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert b"Content-Length" not in head
        content = b""
        while len(content) < len(piece):
            size = int(client.file.readline(), 16)
            content += client.file.read(size)
            assert client.file.readline() == b"\r\n"
        assert content == piece
    client.send(b"0\r\nX-Trailer: secret\r\n\r\n" + GET)
    assert client.file.read(5) == b"0\r\n\r\n"
    assert_echo(client.answer(), GET, "text/plain")


# --- the server's own pages ---


@pytest.mark.parametrize(("target", "text"), [("/healthz", b"ok\n"), ("/readyz", b"ready\n")])
def test_health_pages(client: HttpClient, target: str, text: bytes) -> None:
    for _, piece in in_ways(GET):
        assert_echo(client.ask(request(f"GET {target} HTTP/1.1"), piece), text, TEXT)
        answer = client.ask(request(f"HEAD {target} HTTP/1.1"), piece)
        assert (answer.status, answer["content-length"], answer.content) == (200, str(len(text)), b"")
    post = request(f"POST {target} HTTP/1.1", "Content-Length: 2", content=b"hi")
    for _ in range(3):
        assert_echo(client.ask(post), b"hi")


# --- the standard library's client ---


def test_as_http_client_sees_it(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.http, timeout=20)
    try:
        connection.request("GET", "/path?query", headers={"X-Field": "value"})
        own_port = connection.sock.getsockname()[1]
        with connection.getresponse() as response:
            assert b"GET /path?query HTTP/1.1\r\n" in response.read()
        for method, body, chunks in (
            ("POST", b"x" * 100_000, False),
            ("PUT", (b"piece %d" % number for number in range(50)), True),
            ("POST", (bytes(100_000) for _ in range(20)), True),
        ):
            expected = bytes(2_000_000) if method == "POST" and chunks else b"x" * 100_000
            if method == "PUT":
                expected = b"".join(b"piece %d" % number for number in range(50))
            headers = {"Content-Type": "text/x-special"} | ({"Transfer-Encoding": "chunked"} if chunks else {})
            connection.request(method, "/", body, headers, encode_chunked=chunks)
            with connection.getresponse() as response:
                assert response.status == 200
                assert response.read() == expected
                assert response.headers["Content-Type"] == "text/x-special"
        connection.request("HEAD", "/")
        with connection.getresponse() as response:
            assert response.read() == b""
        assert connection.sock.getsockname()[1] == own_port  # one connection for all of them
    finally:
        connection.close()


# --- what gets an error ---

BIG = 70_000
MARK = "s3cret"
"""Stands in every request that is refused: it must not come back."""

REFUSED = {
    "no request line": (400, b"s3cret\r\n\r\n"),
    "two words": (400, b"GET /s3cret\r\nHost: a\r\n\r\n"),
    "four words": (400, request("GET / s3cret HTTP/1.1")),
    "two spaces": (400, request("GET  /s3cret HTTP/1.1")),
    "a tab for a space": (400, request("GET\t/s3cret HTTP/1.1")),
    "a leading space": (400, request(" GET /s3cret HTTP/1.1")),
    "an empty target": (400, request("GET  HTTP/1.1", "X: s3cret")),
    "a control character in the target": (400, request("GET /s3\0cret HTTP/1.1")),
    "RFC 9112 section 3.2.4: an asterisk for GET": (400, request("GET * HTTP/1.1", "X: s3cret")),
    "RFC 9110 section 4.2.1: a target without a host": (400, request("GET http:///s3cret HTTP/1.1")),
    "RFC 9110 section 4.2.4: a target with a user": (400, request("GET http://s3cret@a/ HTTP/1.1")),
    "RFC 9110 section 4.2: a target of another scheme": (400, request("GET ftp://a/s3cret HTTP/1.1")),
    "RFC 9844: a Host with a zone": (400, request("GET / HTTP/1.1", "Host: [fe80::1%25s3cret]")),
    "RFC 9844: a Host with a zone, not encoded": (400, request("GET / HTTP/1.1", "Host: [fe80::1%s3cret]:80")),
    "RFC 9112 section 7.1.1: a chunk extension without a name": (
        400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"6;\r\ns3cret\r\n0\r\n\r\n")
    ),
    "RFC 9112 section 7.1.1: a chunk extension that is none": (
        400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"6;bad[=x\r\ns3cret\r\n0\r\n\r\n")
    ),
    "a target in UTF-8": (400, "GET /s3crét HTTP/1.1\r\nHost: a\r\n\r\n".encode()),
    "a byte beyond ASCII in the target": (400, request("GET /s3cret\xe4 HTTP/1.1")),
    "a method that is no token": (400, request("G(T /s3cret HTTP/1.1")),
    "another protocol": (400, request("GET /s3cret HTTQ/1.1")),
    "a version of three numbers": (400, request("GET /s3cret HTTP/1.1.1")),
    "no Host": (400, b"GET /s3cret HTTP/1.1\r\nX: a\r\n\r\n"),
    "several Hosts": (400, request("GET /s3cret HTTP/1.1", "Host: a", "X: y", "host: a")),
    "several Hosts in 1.0": (400, request("GET /s3cret HTTP/1.0", "Host: a", "Host: b")),
    "a Host that is none": (400, request("GET / HTTP/1.1", "Host: a/s3cret")),
    "a Host with a space": (400, request("GET / HTTP/1.1", "Host: a s3cret")),
    "a Host with a user": (400, request("GET / HTTP/1.1", "Host: s3cret@a")),
    "a bare LF": (400, b"GET /s3cret HTTP/1.1\nHost: a\r\n\r\n"),
    "a bare LF behind a field": (400, request("GET /s3cret HTTP/1.1", "Host: a\nX: y")),
    "a bare CR": (400, request("GET /s3cret HTTP/1.1", "X: a\rb")),
    "a NUL in a field": (400, request("GET /s3cret HTTP/1.1", "X: a\0b")),
    "a folded field": (400, request("GET /s3cret HTTP/1.1", "X: a\r\n b")),
    "a space before the colon": (400, request("GET /s3cret HTTP/1.1", "X : a")),
    "a space before the field": (400, request("GET /s3cret HTTP/1.1", "Host: a", " X: a")),
    "no colon": (400, request("GET /s3cret HTTP/1.1", "X")),
    "no name": (400, request("GET /s3cret HTTP/1.1", ": x")),
    "a name that is no token": (400, request("GET /s3cret HTTP/1.1", "X(: x")),
    "both lengths": (
        400, request("POST /s3cret HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked", content=b"0\r\n\r\n")
    ),
    "both lengths, the other way round": (
        400, request("POST /s3cret HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5", content=b"0\r\n\r\n")
    ),
    "two lengths": (400, request("POST / HTTP/1.1", "Content-Length: 5", "Content-Length: 6", content=b"s3cret")),
    "a length twice": (400, request("POST / HTTP/1.1", "Content-Length: 6", "Content-Length: 6", content=b"s3cret")),
    "a list of lengths": (400, request("POST / HTTP/1.1", "Content-Length: 6, 6", content=b"s3cret")),
    "an empty length": (400, request("POST / HTTP/1.1", "Content-Length:", content=b"s3cret")),
    "a negative length": (400, request("POST / HTTP/1.1", "Content-Length: -6", content=b"s3cret")),
    "a length with a sign": (400, request("POST / HTTP/1.1", "Content-Length: +6", content=b"s3cret")),
    "a length in hex": (400, request("POST / HTTP/1.1", "Content-Length: 0x6", content=b"s3cret")),
    "a length and more": (400, request("POST / HTTP/1.1", "Content-Length: 6 6", content=b"s3cret")),
    "a length beyond 64 bits": (400, request("POST / HTTP/1.1", f"Content-Length: {1 << 64}", content=b"s3cret")),
    "a length of an unknown method": (400, request("FOO / HTTP/1.1", "Content-Length: x", content=b"s3cret")),
    "chunks in 1.0": (400, request("POST / HTTP/1.0", "Transfer-Encoding: chunked", content=chunked(b"s3cret"))),
    "TRACE with content": (400, request("TRACE / HTTP/1.1", "Content-Length: 6", content=b"s3cret")),
    "a chunk without a size": (
        400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"\r\ns3cret\r\n")
    ),
    "a chunk's size that is none": (
        400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"-6\r\ns3cret\r\n0\r\n\r\n")
    ),
    "a chunk's size without end": (400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"1" * 9000)),
    "a chunk's size beyond 64 bits": (
        400, request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"1" * 17 + b"\r\ns3cret")
    ),
    "NUL first": (400, b"\0s3cret\r\n\r\n"),
    "a long target": (414, request(f"GET /{MARK * (BIG // 6)} HTTP/1.1")),
    "a long method": (414, request(f"{MARK * (BIG // 6)} / HTTP/1.1")),
    "an expectation": (417, request("POST / HTTP/1.1", "Expect: 200-ok", "Content-Length: 6", content=b"s3cret")),
    "two expectations": (417, request("GET /s3cret HTTP/1.1", "Expect: 100-continue, x")),
    "a long field": (431, request("GET / HTTP/1.1", f"X: {MARK * (BIG // 6)}")),
    "many bytes of fields": (431, request("GET / HTTP/1.1", *[f"X: {MARK * 170}"] * 70)),
    "many fields": (431, request("GET /s3cret HTTP/1.1", *(f"X-{number}: y" for number in range(100)))),
    "CONNECT": (501, request("CONNECT s3cret:443 HTTP/1.1")),
    "CONNECT with a path": (501, request("CONNECT /s3cret HTTP/1.1")),
    "RFC 9112 section 6.3: chunked, then gzip": (
        400, request("POST /s3cret HTTP/1.1", "Transfer-Encoding: chunked, gzip", content=b"0\r\n\r\n")
    ),
    "RFC 9112 section 6.3: gzip, not chunked": (400, request("POST /s3cret HTTP/1.1", "Transfer-Encoding: gzip")),
    "gzip": (501, request("POST /s3cret HTTP/1.1", "Transfer-Encoding: gzip, chunked", content=b"0\r\n\r\n")),
    "an unknown coding": (
        501, request("POST / HTTP/1.1", "Transfer-Encoding: s3cret, chunked", content=b"0\r\n\r\n")
    ),
    "RFC 9112 section 6.1: chunked twice": (
        400, request("POST /s3cret HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked")
    ),
    "HTTP/0.9": (505, request("GET /s3cret HTTP/0.9")),
    "HTTP/2": (505, b"GET / HTTP/2.0\r\n\r\n"),
    "HTTP/3.0": (505, request("GET /s3cret HTTP/3.0")),
}  # fmt: skip


def assert_refused(client: HttpClient, status: int, method: str = "GET") -> None:
    """An error and nothing else: one line, nothing of the request; the connection ends after it, without a reset."""
    answer = client.answer(method)
    assert answer.status == status
    assert answer["content-type"] == TEXT
    assert answer["connection"] == "close"
    assert re.fullmatch(rf"{status} [A-Z][A-Za-z ]+: [^\r\n]+\n".encode(), answer.content), answer.content
    assert MARK.encode() not in answer.content
    assert client.rest() == b""


@pytest.mark.parametrize("way", ["whole", "in pieces", "with 1 MiB behind it", "behind a good one"])
@pytest.mark.parametrize(("status", "sent"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(client: HttpClient, way: str, status: int, sent: bytes) -> None:
    if way == "behind a good one":
        client.send(GET + sent)
        assert_echo(client.answer(), GET, "text/plain")
    elif way == "with 1 MiB behind it":
        client.send(sent)
        client.send(GET * ((1 << 20) // len(GET)))  # all of it is taken, and nothing read before
    else:
        client.send(sent, 1 + len(sent) // 500 if way == "in pieces" else 0)
    assert_refused(client, status)


@pytest.mark.parametrize(
    ("sent", "first", "status"),
    [
        (b"6\r\ns3cretX", b"", 400),
        (b"6\r\ns3cret\r\nX\r\n", b"", 400),
        (b"6\r\ns3cret\r\n0\r\nno field\r\n\r\n", b"", 400),
        (b"0\r\n" + b"X: s3cret\r\n" * 1000 + b"\r\n", b"", 431),
        (b"X\r\n", b"5\r\nhello\r\n", 0),
        (b"5\r\nhelloX\r\n", b"5\r\nhello\r\n", 0),
    ],
)
def test_bad_chunks(client: HttpClient, first: bytes, sent: bytes, status: int) -> None:
    """Refused while nothing has been answered; later the missing last chunk says so."""
    client.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=first))
    if status:
        client.send(sent + bytes(1 << 20))
        assert_refused(client, status)
    else:
        b"".join(iter(client.file.readline, b"\r\n"))
        assert client.file.read(10) == first
        client.send(sent + bytes(1 << 20))
        echoed = client.rest()
        assert not echoed.endswith(b"0\r\n\r\n")
        assert bytes(6) not in echoed


@pytest.mark.parametrize(
    "sent",
    [
        request("HEAD / HTTP/1.1", "Host: a", "Host: b"),
        request("HEAD / HTTP/1.1", "Expect: x"),
        request("HEAD / HTTP/1.1", f"X: {'x' * BIG}"),
        request("HEAD / HTTP/1.1", "Transfer-Encoding: chunked", content=b"x\r\n"),
        request("HEAD / HTTP/1.1", "Content-Length: 5", content=b"hel"),
        request("HEAD / HTTP/1.1")[:-2],
    ],
    ids=["several Hosts", "an expectation", "a long field", "a bad chunk", "FIN in the content", "FIN in the head"],
)
@pytest.mark.parametrize("piece", [0, 1000])
def test_an_error_to_head_has_no_content(client: HttpClient, sent: bytes, piece: int) -> None:
    client.send(sent, piece)
    client.fin()
    answer = client.answer("HEAD")
    assert answer.status >= 400
    assert client.rest() == b"", "RFC 9110 section 9.3.2: no content in a response to HEAD"


@pytest.mark.parametrize("size", [5, 100_000, 5_000_000])
@pytest.mark.parametrize("kind", ["head", "content", "chunks"])
def test_an_incomplete_request_is_refused_at_its_clients_fin(client: HttpClient, kind: str, size: int) -> None:
    if kind == "head":
        sent = request("GET /s3cret HTTP/1.1", f"X: {'x' * min(size, 50_000)}")[:-2]
    elif kind == "content":
        sent = request("POST /s3cret HTTP/1.1", f"Content-Length: {size + 1}", content=bytes(size))
    else:
        sent = request("POST /s3cret HTTP/1.1", "Transfer-Encoding: chunked", content=b"100000"[: len(str(size))])
    client.send(sent)
    client.fin()
    assert_refused(client, 400)


def client_hello() -> bytes:
    """How a TLS client begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.fixture(scope="module")
def patient() -> Iterator[Server]:
    """A server that waits for the rest of a header section for ever."""
    with Server("--header-timeout", "off") as running:
        yield running


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(client_hello(), id="a TLS client"),
        b"\0",
        b"\x80\xff",
        b"{}",
        b"hello\r\n",
        b"hello world\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("piece", [0, 1])
def test_what_can_not_become_a_request_is_answered_at_once(patient: Server, sent: bytes, piece: int) -> None:
    with HttpClient(patient.connect()) as client:
        client.send(sent[:50] if piece else sent, piece)
        assert_refused(client, 400)


@pytest.mark.parametrize(
    "last",
    [
        request("GET / HTTP/1.1", "Connection: close"),
        request("GET /?close HTTP/1.1"),
        request("POST / HTTP/1.0", "Content-Length: 5", content=b"hello"),
    ],
    ids=["GET", "close", "POST"],
)
def test_what_comes_behind_the_last_request_destroys_no_answer(server: Server, last: bytes) -> None:
    """It comes at about the time when the server closes: the kernel holds back the answer until then."""
    for number in range(150):
        with HttpClient(server.connect()) as client:
            client.send(last)
            moment = time.perf_counter() + (number % 50) * 5e-6
            while time.perf_counter() < moment:
                pass
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.send(GET)
            assert client.answer().status == 200


def test_what_comes_while_the_last_answer_is_taken_does_not_cut_it(server: Server) -> None:
    content = random.Random(1).randbytes(300_000)
    with HttpClient(server.connect()) as client:
        post = request("POST / HTTP/1.1", f"Content-Length: {len(content)}", "Connection: close", content=content)
        client.send(post)
        let_read(server)
        let_read(server)
        client.send(GET)
        assert_echo(client.answer(), content)


def test_a_reset_leaves_no_trace(server: Server) -> None:
    """Whatever the connection was doing: afterwards the server still serves, and at its end has said nothing."""
    post = request("POST / HTTP/1.1", "Content-Length: 30000000")
    for sent in (
        b"GET", post, post + bytes(300_000), post.replace(b"30", b"10") + bytes(300_000), GET * 10_000,
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunked(bytes(300_000), end=b"5\r\nh")),
        b"\0", request("GET / HTTP/1.1", "Connection: close") * 100,
    ):  # fmt: skip
        for _ in range(5):
            client = server.connect()
            client.sendall(sent)
            client.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of no time: close() sends a reset
            client.close()
    with server.connect() as client:
        client.sendall(GET)
        assert read_exactly(client, 15) == b"HTTP/1.1 200 OK"


def test_the_date_goes_on(client: HttpClient) -> None:
    first = client.ask(GET)["date"]
    end = time.monotonic() + 20
    while client.ask(GET)["date"] == first:
        assert time.monotonic() < end, "the Date stands still"
        time.sleep(0.05)
