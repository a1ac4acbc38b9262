"""RFC 9112, MUST by MUST: what a server has to do with requests, over sockets. Each case is named by its section."""

import re

import pytest

from tests.servers import HttpClient, Server, request

GET = request("GET / HTTP/1.1")
HOW = {"whole": 0, "byte by byte": 1}
POST = "POST / HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


def chunks(content: bytes, *fields: str, line: str = POST) -> bytes:
    return request(line, *fields, CHUNKED, content=content)


TAKEN = {
    "2.2: an empty line before the request line is ignored": b"\r\n" + GET,
    "2.2: octets, whatever their encoding": request("GET / HTTP/1.1", "X: \xe9\xff\x80"),
    "3: a request line of 8000 octets": request(f"GET /{'x' * 8000} HTTP/1.1"),
    "3.2: no Host in HTTP/1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "3.2: an empty Host": request("GET / HTTP/1.1", "Host:"),
    "3.2.1: origin form, with a query": request("GET /a?b=c HTTP/1.1"),
    "3.2.2: absolute form": request("GET http://a/b HTTP/1.1"),
    "3.2.2: absolute form, and Host is ignored": request("GET http://a/b HTTP/1.1", "Host: c"),
    "3.2.4: asterisk form for OPTIONS": request("OPTIONS * HTTP/1.1"),
    "5: white space around values is none of them": request("GET / HTTP/1.1", "Host: \t a \t", "Content-Length:\t0 "),
    "6.3: without a length there is no content": request(POST),
    "7.1: several chunks": chunks(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
    "7.1: large hexadecimal numerals": chunks(b"0000000000000000000003\r\nabc\r\n0\r\n\r\n"),
    "7.1.1: unknown extensions are ignored": chunks(b'3;a;b=c ; d = "e;\\""\r\nabc\r\n0;f\r\n\r\n'),
    "7.1.2: trailers may be dropped": chunks(b"3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n"),
    "9.3: connections persist": GET,
}  # fmt: skip


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize("sent", TAKEN.values(), ids=TAKEN)
def test_rfc_9112_section_what_is_to_be_taken(server: Server, sent: bytes, piece: int) -> None:
    with HttpClient(server.connect()) as client:
        for _ in range(2):
            answer = client.ask(sent, piece if len(sent) < 1000 else 100)
            head, _, _ = sent.lstrip(b"\r\n").partition(b"\r\n\r\n")
            expected = b"abc" if b"chunked" in head else b"" if b"Content-Length" in head else head + b"\r\n\r\n"
            assert (answer.status, answer.content) == (200, expected)
        client.send((sent + GET) * 2)
        assert [client.answer().status for _ in range(4)] == [200] * 4


REFUSED = {
    "2.2: a bare CR in a field": (400, request("GET / HTTP/1.1", "X: a\rb")),
    "2.2: a bare CR in the request line": (400, request("GET /\r HTTP/1.1")),
    "2.2: white space before the first field": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "2.2: what is no request": (400, b"hello world\r\n\r\n"),
    "2.3: the version is in capitals": (400, request("GET / http/1.1")),
    "2.3: another major version": (505, request("GET / HTTP/2.0")),
    "3: an invalid request line": (400, request("GET /a b HTTP/1.1")),
    "3: a longer target than is wished": (414, request(f"GET /{'x' * 70_000} HTTP/1.1")),
    "3.1: a method that is no token": (400, request("G[T / HTTP/1.1")),
    "3.2: no Host": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "3.2: several Hosts": (400, request("GET / HTTP/1.1", "Host: a", "Host: a")),
    "3.2: an invalid Host": (400, request("GET / HTTP/1.1", "Host: a b")),
    "3.2: an invalid Host, a % and nothing behind it": (400, request("GET / HTTP/1.1", "Host: a%")),
    "3.2: an invalid Host, a % and one digit": (400, request("GET / HTTP/1.1", "Host: a%2")),
    "3.2: an invalid Host, with a zone": (400, request("GET / HTTP/1.1", "Host: [fe80::1%25eth0]")),
    "3.2.3: authority form for GET": (400, request("GET a:80 HTTP/1.1")),
    "3.2.4: asterisk form for GET": (400, request("GET * HTTP/1.1")),
    "5.1: white space before the colon": (400, request("GET / HTTP/1.1", "X : a")),
    "5.2: an obsolete fold": (400, request("GET / HTTP/1.1", "X: a\r\n b")),
    "6.1: an unknown coding before chunked": (501, request(POST, "Transfer-Encoding: x, chunked")),
    "6.1: Transfer-Encoding in HTTP/1.0": (400, request("POST / HTTP/1.0", CHUNKED, content=b"0\r\n\r\n")),
    "6.1: Transfer-Encoding in HTTP/1.0, and Content-Length": (
        400, request("POST / HTTP/1.0", CHUNKED, "Content-Length: 5", content=b"0\r\n\r\n")
    ),
    "6.3: Transfer-Encoding and Content-Length": (400, chunks(b"0\r\n\r\n", "Content-Length: 5")),
    "6.3: chunked is not the final coding": (400, request(POST, "Transfer-Encoding: chunked, gzip")),
    "6.3: not chunked": (400, request(POST, "Transfer-Encoding: gzip")),
    "6.3: an invalid Content-Length": (400, request(POST, "Content-Length: 5x")),
    "6.3: a list of Content-Lengths": (400, request(POST, "Content-Length: 5, 5")),
    "6.3: Content-Lengths that differ": (400, request(POST, "Content-Length: 5", "Content-Length: 6")),
    "7.1: a chunk's size beyond all integers": (400, chunks(b"f" * 20 + b"\r\nabc")),
    "7.1: a chunk's size with a sign": (400, chunks(b"+3\r\nabc\r\n0\r\n\r\n")),
    "7.1: a chunk without its CRLF": (400, chunks(b"3\r\nabcd\r\n0\r\n\r\n")),
    "7.1.1: an extension without a name": (400, chunks(b"3;\r\nabc\r\n0\r\n\r\n")),
    "7.1.1: an extension that is none": (400, chunks(b"3;bad[=x\r\nabc\r\n0\r\n\r\n")),
    "7.1.2: a trailer that is no field": (400, chunks(b"0\r\nX\r\n\r\n")),
}  # fmt: skip


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize(("status", "sent"), REFUSED.values(), ids=REFUSED)
def test_rfc_9112_section_what_is_refused_and_the_connection_closed(
    server: Server, status: int, sent: bytes, piece: int
) -> None:
    with HttpClient(server.connect()) as client:
        client.send(GET + sent, piece if len(sent) < 1000 else 1000)
        client.send(GET)
        assert client.answer().content == GET
        answer = client.rest()
        assert answer.count(b"\r\nServer: ") == 1, "nothing behind it is answered"
        if piece and b"Transfer-Encoding: chunked" in answer:  # the echo had begun: it is broken off
            assert not answer.endswith(b"0\r\n\r\n")
            return
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in answer


@pytest.mark.parametrize("sent", [b"3\r\nab", b"Content-Length: 3"], ids=["chunked", "length"])
def test_rfc_9112_section_6_3_what_ends_too_early_is_incomplete(server: Server, sent: bytes) -> None:
    with HttpClient(server.connect()) as client:
        client.send(request(POST, sent.decode(), content=b"ab") if b":" in sent else chunks(b""))
        client.fin()
        answer = client.answer()
        assert (answer.status, answer["connection"]) == (400, "close")


def test_rfc_9112_section_4_the_space_before_a_reason_that_is_not_there(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        client.send(request("GET /?status=299 HTTP/1.1"))
        assert client.file.readline() == b"HTTP/1.1 299 \r\n"


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_rfc_9112_section_6_1_no_transfer_encoding_where_there_is_no_content(
    server: Server, method: str, status: int
) -> None:
    with HttpClient(server.connect()) as client:
        answer = client.ask(request(f"{method} /?status={status}&chunked&size=5 HTTP/1.1"))
        assert (answer.status, answer["transfer-encoding"], answer.content) == (status, None, b"")
        assert client.ask(GET).content == GET


def test_rfc_9112_section_6_1_no_transfer_encoding_for_http_1_0(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(request("GET /?size=5 HTTP/1.0"))["transfer-encoding"] is None
        assert client.rest() == b""
    with HttpClient(server.connect()) as client:
        assert client.ask(request("GET /?size=5&chunked HTTP/1.0")).status == 400


def test_rfc_9112_section_9_6_nothing_is_answered_behind_close(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        answer = client.ask(request("GET / HTTP/1.1", "Connection: close") + GET)
        assert (answer.status, answer["connection"]) == (200, "close")
        assert client.rest() == b""


def test_rfc_9112_section_6_2_one_framing_in_each_answer(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        for query in ("", "?chunked", "?size=70000&chunked", "?header=X:1"):
            client.send(request(f"GET /{query} HTTP/1.1", "Connection: close" if "X" in query else "X: y"))
            head = b"".join(iter(client.file.readline, b"\r\n"))
            assert len(re.findall(rb"\r\n(?:Content-Length|Transfer-Encoding):", head)) == 1
            if b"Content-Length" in head:
                client.file.read(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
            else:
                while size := int(client.file.readline(), 16):
                    client.file.read(size + 2)
                client.file.readline()
