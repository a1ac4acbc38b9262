"""What requests ask for in their query, over sockets: other answers, late ones, slow ones, none.

Modules: protocols.http1.demand, answers.cors.
"""

import calendar
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echoserver.answers.pattern import pattern
from tests.certificates import Certificates
from tests.process.processes import Group, samples
from tests.servers import PATIENCE, Answer, HttpClient, Server, chunks, let_read, request, sending, wait_for

MIB = 1 << 20
MOST = 64 << 10
"""Bytes of content at most that are in its description."""
GET = request("GET / HTTP/1.1")
LOOPS = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])


def get(query: str, *fields: str, method: str = "GET", version: str = "1.1") -> bytes:
    return request(f"{method} /path?{query} HTTP/{version}", *fields)


def post(query: str, content: bytes, *fields: str) -> bytes:
    return request(f"POST /path?{query} HTTP/1.1", f"Content-Length: {len(content)}", *fields, content=content)


def chunked(query: str, *contents: bytes) -> bytes:
    return request(f"POST /path?{query} HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(*contents, b""))


def is_reset(connection: socket.socket) -> bool:
    """Whether a reset is the end of what comes."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        return True
    return False


SENT: dict[str, tuple[Callable[[str], bytes], bytes]] = {
    "no content": (get, b""),
    "content": (lambda query: post(query, b"hello"), b"hello"),
    "chunked content": (lambda query: chunked(query, b"hel", b"lo"), b"hello"),
}
ASKED: dict[str, tuple[int, bytes | None, dict[str, str | None]]] = {
    # query: status, content (None: the echo), fields
    "status=503": (503, None, {}),
    "status=299": (299, None, {}),
    "status=302&header=Location:/b": (302, None, {"location": "/b"}),
    "status=204": (204, b"", {"content-type": None}),
    "status=205": (205, b"", {"content-length": "0", "content-type": None}),
    "status=304&size=10": (304, b"", {"content-length": None}),
    "echo=none": (204, b"", {}),
    "echo=none&status=500": (500, b"", {"content-length": "0"}),
    "size=10": (200, pattern(10), {"content-length": "10", "content-type": "text/plain"}),
    "size=0": (200, b"", {"content-length": "0"}),
    "size=200KB&status=404": (404, pattern(200_000), {"content-length": "200000"}),
    "size=100&chunked": (200, pattern(100), {"transfer-encoding": "chunked"}),
    "size=200KB&chunked": (200, pattern(200_000), {"transfer-encoding": "chunked"}),
    "echo=none&status=200&chunked": (200, b"", {"transfer-encoding": "chunked"}),
    "echo=none&status=200&chunked&rate=1KB": (200, b"", {"transfer-encoding": "chunked"}),
    "size=0&chunked": (200, b"", {"transfer-encoding": "chunked"}),
    "chunked": (200, None, {"transfer-encoding": "chunked"}),
    "size=100&rate=10KB": (200, pattern(100), {}),
    "size=100&rate=10KB&chunked": (200, pattern(100), {"transfer-encoding": "chunked"}),
    "rate=1MB": (200, None, {}),
    "delay=1ms": (200, None, {}),
    "delay=1ms-3ms:50&status=418:0": (200, None, {}),
    "header=X-A:1&header=Content-Type:text/html&header=Server:echoserver": (
        200,
        None,
        {"x-a": "1", "content-type": "text/html", "content-security-policy": "sandbox"},
    ),
    "abort=0&close=0&other=1": (200, None, {"connection": None}),
}
HOW = {"whole": 0, "byte by byte": 1}


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("query", ASKED)
def test_answers(client: HttpClient, query: str, sent: str, piece: int) -> None:
    make, content = SENT[sent]
    status, expected, fields = ASKED[query]
    data = make(query)
    for _ in range(2):
        answer = client.ask(data, piece)
        assert (answer.status, answer.content) == (status, (content or data) if expected is None else expected)
        assert {name: answer[name] for name in fields} == fields
    plain = client.ask(GET)
    assert (plain.status, plain.content) == (200, GET)


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
def test_all_pipelined_with_others(client: HttpClient, piece: int) -> None:
    """In order, whatever takes its time."""
    sent = [(make(query), ASKED[query], content) for query in ASKED for make, content in SENT.values()]
    data = b"".join(GET + each + post("", b"x") for each, _, _ in sent)
    with sending(client.socket, data) if not piece else contextlib.nullcontext():
        if piece:
            client.send(data[:4000], piece)
            client.send(data[4000:])
        for each, (status, expected, _), content in sent:
            assert client.answer().content == GET
            answer = client.answer()
            assert (answer.status, answer.content) == (status, (content or each) if expected is None else expected)
            assert client.answer().content == b"x"


def test_thousands_pipelined(client: HttpClient) -> None:
    with sending(client.socket, get("status=404&size=1") * 5000, fin=True):
        for _ in range(5000):
            assert client.answer().status == 404
    assert client.rest() == b""


@pytest.mark.parametrize("query", ["status=404", "size=99999", "echo=json", "chunked", "rate=100MB", "echo=none"])
def test_head(client: HttpClient, query: str) -> None:
    answer, same = client.ask(get(query, method="HEAD")), client.ask(get(query))
    assert (answer.status, answer.content) == (same.status, b"")
    assert answer["content-type"] == same["content-type"]
    assert answer["transfer-encoding"] == same["transfer-encoding"]
    assert answer["content-length"] == same["content-length"] or query == "echo=json"  # there are times in it
    assert client.ask(GET).content == GET


def test_echo_chooses_what_comes_back(client: HttpClient) -> None:
    data = post("echo=head", b"content")
    answer = client.ask(data)
    assert (answer["content-type"], answer.content) == ("text/plain", data.removesuffix(b"content"))
    answer = client.ask(get("echo=body"))
    assert (answer["content-type"], answer.content) == ("application/octet-stream", b"")
    answer = client.ask(post("echo=body", b"content", "Content-Type: a/b"))
    assert (answer["content-type"], answer.content) == ("a/b", b"content")


@pytest.mark.parametrize(
    ("query", "coding"),
    [
        ("delay=1ms", "gzip"), ("echo=body&status=404", "gzip"), ("chunked", "gzip"), ("rate=1MB", "gzip"),
        ("header=Content-Encoding:br", "br"), ("size=3", None), ("echo=head", None), ("echo=json", None),
        ("echo=none&status=200", None), ("status=304", None), ("status=204", None),
    ],
)  # fmt: skip
def test_content_encoding_goes_back_only_with_its_content(client: HttpClient, query: str, coding: str | None) -> None:
    for _ in range(2):
        answer = client.ask(post(query, b"abc", "Content-Encoding: gzip", "Content-Language: de"))
        assert (answer["content-encoding"], answer["content-language"]) == (coding, coding and "de")


def test_trace_keeps_what_is_secret(client: HttpClient) -> None:
    answer = client.ask(get("status=500", "Cookie: a", "X: y", method="TRACE"))
    assert (answer.status, answer["content-type"]) == (500, "message/http")
    assert b"X: y" in answer.content
    assert b"Cookie" not in answer.content


def test_http_1_0(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(get("status=503&size=3", version="1.0")).content == pattern(3)
        assert client.rest() == b""
    with HttpClient(server.connect()) as client:
        answer = client.ask(get("status=503", "Connection: keep-alive", version="1.0"))
        assert (answer.status, answer["connection"]) == (503, "keep-alive")
        assert client.ask(GET).content == GET
    with HttpClient(server.connect()) as client:
        assert client.ask(get("chunked", version="1.0")).status == 400


def expecting(query: str, framing: str = "Content-Length: 3000000") -> bytes:
    return request(f"POST /path?{query} HTTP/1.1", framing, "Expect: 100-continue")


LATER = {"length": ("Content-Length: 3", b"abc"), "chunks": ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")}


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize(("framing", "content"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("query", ["status=299", "status=500:0", "delay=20ms", "echo=body", "status=302&chunked"])
def test_expect__100_where_the_answer_is_no_error(
    client: HttpClient, query: str, framing: str, content: bytes, piece: int
) -> None:
    client.send(GET + expecting(query, framing), piece)
    assert client.answer().content == GET
    assert client.file.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(content + GET, piece)
    assert client.answer().content == b"abc"
    assert client.answer().content == GET


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize("framing", ["Content-Length: 3000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("query", "status", "content"),
    [
        ("status=401", 401, b""), ("status=503:100", 503, b""), ("delay=50ms&status=400", 400, b""),
        ("status=404&size=5", 404, pattern(5)), ("status=404&size=5&rate=1KB&chunked", 404, pattern(5)),
        ("status=500&echo=none&close", 500, b""), ("status=500&chunked", 500, b""),
    ],
)  # fmt: skip
def test_expect__rfc_9110_section_10_1_1__the_error_in_place_of_the_100(
    server: Server, query: str, status: int, content: bytes, framing: str, piece: int
) -> None:
    with HttpClient(server.connect()) as client:
        client.send(GET + expecting(query, framing), piece)
        assert client.answer().content == GET
        line = client.file.readline()  # http.client would read over a 100
        assert line.startswith(b"HTTP/1.1 %d " % status)
        head = b"".join(iter(client.file.readline, b"\r\n"))
        assert b"Connection: close\r\n" in head
        if b"Content-Length" in head:
            assert client.file.read(len(content)) == content
            assert client.file.read() == b""
        else:
            assert client.file.read().endswith(b"0\r\n\r\n")


def test_expect__what_comes_all_the_same_is_dropped_and_not_reset(server: Server) -> None:
    """The answer is late, and the client did not wait."""
    for query in ("status=401&delay=200ms", "status=401"):
        with HttpClient(server.connect()) as client:
            client.send(expecting(query))
            let_read(server)
            with sending(client.socket, bytes(3_000_000) + GET, fin=True):
                answer = client.answer()
                assert (answer.status, answer.content) == (401, b"")
                assert client.rest() == b""


def test_expect__the_head_or_a_description_is_still_the_answer(server: Server) -> None:
    for query, ask in (("echo=head&status=500", b"POST /path?echo=head"), ("echo=json&status=500", b'"content": null')):
        with HttpClient(server.connect()) as client:
            answer = client.ask(expecting(query))
            assert (answer.status, answer["connection"]) == (500, "close")
            assert ask in answer.content


def test_expect__abort(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(expecting("abort&delay=20ms"))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


@pytest.mark.parametrize("framing", ["Content-Length: 0", "X: y"])
@pytest.mark.parametrize("status", [200, 401])
def test_expect__no_content(client: HttpClient, framing: str, status: int) -> None:
    client.send(expecting(f"status={status}", framing) + GET)
    assert client.file.readline().startswith(b"HTTP/1.1 %d " % status), "there is nothing to go on with"
    assert b"Connection" not in b"".join(iter(client.file.readline, b"\r\n"))


def test_expect__content_that_is_there_is_echoed(client: HttpClient) -> None:
    data = post("status=401", b"abc", "Expect: 100-continue")
    answer = client.ask(data)
    assert (answer.status, answer.content, answer["connection"]) == (401, b"abc", None)
    let_through = client.ask(data + GET)
    assert let_through.content == b"abc"
    assert client.answer().content == GET


def test_expect__percentages_are_chosen_once(server: Server) -> None:
    seen = set()
    for _ in range(60):
        with HttpClient(server.connect()) as client:
            client.send(expecting("status=503:50", "Content-Length: 3"))
            line = client.file.readline()
            seen.add(line)
            if line.startswith(b"HTTP/1.1 100 "):
                assert client.file.readline() == b"\r\n"
                assert client.ask(b"abc").status == 200
    assert {line.split(b" ")[1] for line in seen} == {b"100", b"503"}


# --- descriptions ---


def described(answer: Answer) -> dict[str, Any]:
    assert (answer.status, answer["content-type"]) == (200, "application/json")
    made: dict[str, Any] = json.loads(answer.content)
    return made


@pytest.mark.parametrize("size", [0, 5, MOST, MOST + 1, 30 * MIB])
def test_content_is_described(client: HttpClient, size: int) -> None:
    content = os.urandom(size)
    with sending(client.socket, post("echo=json", content)):
        made = described(client.answer())["content"]
    if not size:
        assert made is None, "zero bytes are no content"
        return
    assert (made["length"], made["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert ("text" in made or "base64" in made) == (size <= MOST)


def test_what_is_known_of_the_connection(server: Server) -> None:
    before = time.time()
    with HttpClient(server.connect()) as client:
        made = described(client.ask(request("GET /a HTTP/1.1", "Accept: application/json", "X-A: 1", "X-A: 2")))
        address, port = client.socket.getsockname()
    assert made["client"] == {"address": address, "port": port}
    assert made["server"] == {"address": "127.0.0.1", "port": server.http}
    assert made["fields"] == [["Host", "a"], ["Accept", "application/json"], ["X-A", "1"], ["X-A", "2"]]
    assert (made["tls"], made["proxy"], made["worker"], made["host"]) == (None, None, 0, socket.gethostname())
    when = time.strptime(made["received_at"], "%Y-%m-%dT%H:%M:%S." + made["received_at"][20:26] + "Z")
    assert int(before) <= calendar.timegm(when) <= time.time()
    assert "kubernetes" not in made


def test_tls_proxy_and_kubernetes(certificates: Certificates) -> None:
    environment = {"POD_NAME": "echo-1", "POD_NAMESPACE": "test", "NODE_NAME": "n"}
    options = ("--https", "0", "--tls-client-ca", str(certificates.ca), "--proxy-protocol", "on")
    with Server(*options, *certificates.options, environment=environment) as server:
        context = certificates.trusting()
        context.load_cert_chain(*certificates.client("robot"))
        context.set_alpn_protocols(["http/1.1"])
        with socket.create_connection(("127.0.0.1", server.port("https")), PATIENCE) as plain:
            plain.sendall(b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n")
            with HttpClient(context.wrap_socket(plain, server_hostname="localhost")) as client:
                made = described(client.ask(get("echo=json")))
                subject = client.ask(GET)["x-client-subject"]
                assert isinstance(client.socket, ssl.SSLSocket)
                version, cipher = client.socket.version(), client.socket.cipher()
    assert cipher is not None
    assert subject is not None
    assert subject.startswith("CN=robot,")
    assert made["tls"] == {
        "version": version, "cipher": cipher[0], "server_name": "localhost", "alpn": "http/1.1",
        "client_subject": subject,
    }  # fmt: skip
    assert made["client"] == {"address": "203.0.113.7", "port": 4711}
    assert made["proxy"] == {
        "version": 1,
        "source": {"address": "203.0.113.7", "port": 4711},
        "destination": {"address": "198.51.100.1", "port": 443},
    }
    assert made["kubernetes"] == {"pod": "echo-1", "namespace": "test", "node": "n"}


def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Server("--http", f"unix:{path}"), socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        made = described(HttpClient(connection).ask(get("echo=json")))
    assert (made["client"], made["server"]) == ({"path": ""}, {"path": path})


# --- time ---


def test_a_delay(client: HttpClient) -> None:
    began = time.monotonic()
    assert client.ask(get("delay=300ms&status=500")).status == 500
    assert time.monotonic() - began >= 0.3


def test_a_delay_begins_when_the_request_is_complete(server: Server, client: HttpClient) -> None:
    data = post("delay=300ms", b"abc")
    client.send(data[:-1])
    let_read(server)
    time.sleep(0.31)  # longer than the delay: the request is not complete
    client.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.socket.recv(1)
    client.socket.settimeout(PATIENCE)
    began = time.monotonic()
    assert client.ask(data[-1:]).content == b"abc"
    assert time.monotonic() - began >= 0.3


def test_a_rate(client: HttpClient) -> None:
    began = time.monotonic()
    assert client.ask(get("size=30KiB&rate=100KiB")).content == pattern(30 << 10)
    assert time.monotonic() - began >= 0.29


def test_content_goes_back_at_a_rate(client: HttpClient) -> None:
    content, began = os.urandom(300_000), time.monotonic()
    with sending(client.socket, post("rate=1MB&chunked", content)):
        assert client.answer().content == content
    assert time.monotonic() - began >= 0.29


def test_others_are_served_meanwhile(server: Server) -> None:
    """A thousand delayed requests at once hold up nobody."""
    with contextlib.ExitStack() as stack:
        late = [stack.enter_context(HttpClient(server.connect())) for _ in range(1000)]
        for each in late:
            each.send(get("delay=3s&size=1"))
        with HttpClient(server.connect()) as client:
            for _ in range(100):
                assert client.ask(GET).content == GET
        for each in late:
            assert each.answer().content == pattern(1)


# --- much ---


@pytest.mark.parametrize("query", ["delay=100ms", "chunked", "rate=1GB", "delay=50ms&chunked&status=207"])
@pytest.mark.parametrize("coding", ["length", "chunks"])
def test_content_longer_than_is_kept(client: HttpClient, query: str, coding: str) -> None:
    content = os.urandom(24 * MIB)
    pieces = [content[place : place + 3 * MIB + 7] for place in range(0, len(content), 3 * MIB + 7)]
    data = post(query, content) if coding == "length" else chunked(query, *pieces)
    with sending(client.socket, data + GET):
        answer = client.answer()
        assert answer.status == (207 if "207" in query else 200)
        assert answer.content == content
        assert client.answer().content == GET


@pytest.mark.parametrize("query", ["status=500&echo=none", "size=5", "echo=head"])
def test_content_that_is_not_echoed_is_not_kept(client: HttpClient, query: str) -> None:
    with sending(client.socket, post(query, bytes(40 * MIB)) + GET):
        assert client.answer().status in (200, 500)
        assert client.answer().content == GET


@LOOPS
def test_much_is_sent_without_holding_it(loop: str) -> None:
    with Server("--loop", loop) as server, HttpClient(server.connect()) as client:
        client.send(get("size=1GiB"))
        head = client.file.readline()
        assert head.startswith(b"HTTP/1.1 200 OK")
        while client.file.readline() != b"\r\n":
            pass
        buffer, received = bytearray(MIB), 0
        before = server.resident()
        while received < 1 << 30:
            received += client.file.readinto(buffer) or pytest.fail(f"{received} bytes came")
        assert server.resident() - before < 8 * MIB
        assert client.ask(GET).content == GET


@LOOPS
@pytest.mark.parametrize("query", ["rate=2MB", "rate=2MB&chunked", "delay=50ms&rate=2MB"])
def test_nothing_is_answered_twice_while_content_comes(loop: str, query: str) -> None:
    """It is answered at a rate, in pieces that are more than may be kept, with requests behind it."""
    content = os.urandom(MIB)
    with Server("--loop", loop, "--buffer-limit", "64KiB") as server, HttpClient(server.connect()) as client:
        behind = GET + post("status=201&delay=100ms", b"x") + GET
        with sending(client.socket, post(query, content) + behind, fin=True):
            assert client.answer().content == content
            assert client.answer().content == GET
            assert client.answer().status == 201
            assert client.answer().content == GET
            assert client.rest() == b""


@LOOPS
def test_buffer_total__what_waits_for_all_together_is_bounded(loop: str) -> None:
    options = ("--loop", loop, "--buffer-limit", "1MiB", "--buffer-total", "4MiB")
    with Server(*options) as server, contextlib.ExitStack() as stack:
        before = server.resident()
        clients = [stack.enter_context(HttpClient(server.connect())) for _ in range(200)]
        for client in clients:
            client.send(post("delay=2s", bytes(60_000)))
        let_read(server)
        assert server.resident() - before < 9 * MIB, "200 times 60,000 bytes would be 11"
        assert {client.answer().status for client in clients} <= {200, 503}


@LOOPS
def test_clients_that_do_not_read_are_bounded(loop: str) -> None:
    """What is kept for 40 of them that send 4 MiB each and read nothing stays below --buffer-total."""
    options = ("--loop", loop, "--buffer-limit", "1MiB", "--buffer-total", "16MiB", "--drain-timeout", "100ms")
    with Server(*options) as server, contextlib.ExitStack() as stack:
        before = server.resident()
        for _ in range(40):
            client = stack.enter_context(HttpClient(server.connect()))
            client.socket.setblocking(False)
            data = memoryview(post("rate=1&chunked", bytes(4 * MIB)))
            with contextlib.suppress(BlockingIOError):
                while data:
                    data = data[client.socket.send(data) :]
        let_read(server)
        assert server.resident() - before < 48 * MIB


# --- what ends early ---


@pytest.mark.parametrize("query", ["abort", "abort&delay=50ms", "abort=100&status=503&size=5"])
@pytest.mark.parametrize("content", [b"", b"abc"])
def test_abort(server: Server, query: str, content: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(post(query, content) if content else get(query))
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_abort_over_tls(certificates: Certificates) -> None:
    with Server("--https", "0", *certificates.options) as server:
        plain = socket.create_connection(("127.0.0.1", server.port("https")), PATIENCE)
        with certificates.trusting().wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(get("abort"))
            with socket.socket(fileno=os.dup(connection.fileno())) as below:  # a reset is an EOF to OpenSSL
                below.settimeout(PATIENCE)
                assert is_reset(below)


def test_close(client: HttpClient) -> None:
    answer = client.ask(get("close&size=5") + GET)
    assert (answer["connection"], answer.content) == ("close", pattern(5))
    assert client.rest() == b""


@pytest.mark.parametrize("query", ["delay=100ms", "rate=100", "delay=50ms&rate=1000&chunked"])
def test_a_client_that_has_sent_its_fin_gets_its_answers(client: HttpClient, query: str) -> None:
    client.send(get(query) + get("delay=20ms&status=404") + GET)
    client.fin()
    assert client.answer().status == 200
    assert client.answer().status == 404
    assert client.answer().content == GET
    assert client.rest() == b""


def test_content_that_is_cut_short(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        client.send(post("delay=1s", b"abc")[:-1])
        client.fin()
        assert client.answer().status == 400


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (chunked("status=500").replace(b"\r\n0\r\n", b"\r\nxyz\r\n"), 400),
        (get("status=999"), 400),
        (post("delay=2m", bytes(100_000)), 400),
        (get("header=Connection:close"), 400),
    ],
)
def test_errors_close(client: HttpClient, sent: bytes, status: int) -> None:
    answer = client.ask(sent)
    assert (answer.status, answer["connection"]) == (status, "close")
    assert answer.content.startswith(b"400 Bad Request: ")
    assert client.rest() == b""


def test_the_longest_content() -> None:
    with Server("--max-body", "1000") as server:
        with HttpClient(server.connect()) as client:
            assert client.ask(post("status=500", bytes(1001))).status == 413
        with HttpClient(server.connect()) as client:
            assert client.ask(chunked("status=500", bytes(600), bytes(600))).status == 413


@LOOPS
def test_clients_that_leave_take_everything_with_them(loop: str) -> None:
    """Delayed, sending and receiving: after a reset nothing of it is left, and no fault is logged."""
    with Server("--loop", loop, "--access-log", "json", "--admin", "0") as server:
        for query in ("delay=60s", "size=1GiB", "size=1GiB&rate=10", "echo=json", "rate=1"):
            with server.connect() as connection:
                connection.sendall(post(query, bytes(100_000))[: None if "echo" not in query else -1])
                let_read(server)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        let_read(server)
        with HttpClient(server.connect("admin")) as admin:
            wait_for(lambda: open_connections(admin) == 0, "the connections to be gone")


def open_connections(admin: HttpClient) -> float:
    """Of HTTP and WebSocket."""
    found = samples(admin.ask(request("GET /metrics HTTP/1.1")).content.decode())
    opened = [found[f'echoserver_connections_open{{protocol="{protocol}"}}'] for protocol in ("http", "websocket")]
    return sum(opened)


# --- deadlines, limits, drains ---


@LOOPS
def test_idle_timeout__is_about_the_client(loop: str) -> None:
    with Server("--loop", loop, "--idle-timeout", "1s", "--header-timeout", "1s") as server:
        with HttpClient(server.connect()) as client:
            assert client.ask(get("delay=2s")).status == 200
            assert client.ask(get("size=2000&rate=1000")).content == pattern(2000)
        with HttpClient(server.connect()) as client:
            client.send(post("status=500", b"abc")[:-1])
            assert client.answer().status == 408


@LOOPS
@pytest.mark.parametrize("query", ["delay=1s", "size=1000&rate=1000"])
def test_a_drain_waits_for_what_was_asked_for(loop: str, query: str) -> None:
    with Server("--loop", loop) as server, HttpClient(server.connect()) as client:
        client.send(get(query))
        let_read(server)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.said("draining"), "the drain")
        answer = client.answer()
        assert answer.status == 200
        assert client.rest() == b""
        assert server.wait() == 0


def test_controls__off_all_is_echoed() -> None:
    with Server("--controls", "off") as server, HttpClient(server.connect()) as client:
        for data in (get("status=503"), get("size=lots"), get("delay=1h"), request("GET / HTTP/1.1", "Accept: a/json")):
            assert client.ask(data).content == data
        data = request("GET / HTTP/1.1", "Accept: application/json")
        assert client.ask(data).content == data


@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize(
    ("query", "ignored"),
    [
        ("status=open", "status"), ("a=b&size=XL&page=3", "size"), ("header=x&echo", "header, echo"),
        ("status=open&status=closed&delay=soon", "status, delay"),
    ],
)  # fmt: skip
def test_an_applications_parameters_are_echoed(
    client: HttpClient, query: str, ignored: str, sent: str, piece: int
) -> None:
    make, content = SENT[sent]
    data = make(query)
    for _ in range(2):
        answer = client.ask(data, piece)
        assert (answer.status, answer.content, answer["connection"]) == (200, content or data, None)
        assert answer["x-echo-ignored"] == ignored
    client.send(data + GET + data)
    assert [client.answer()["x-echo-ignored"] for _ in range(3)] == [ignored, None, ignored]
    answer = client.ask(make(query + "&rate=1MB"))
    assert (answer.status, answer["x-echo-ignored"]) == (200, ignored)
    told = client.ask(get(query, method="HEAD"))
    assert (told.status, told["x-echo-ignored"]) == (200, ignored)


def test_controls_prefix__names_without_it_are_not_ours() -> None:
    with Server("--controls-prefix", "echo-") as server, HttpClient(server.connect()) as client:
        data = get("status=503&size=10XB&delay=2m&abort")
        answer = client.ask(data)
        assert (answer.status, answer.content, answer["x-echo-ignored"]) == (200, data, None)
        assert client.ask(get("echo-status=503&status=404")).status == 503
        assert client.ask(get("echo-status=open"))["x-echo-ignored"] == "echo-status"
        assert b'<body data-prefix="echo-" ' in client.ask(request("GET /.echo HTTP/1.1")).content
        answer = client.ask(get("echo-delay=10sec"))
        assert answer.status == 400
        assert b"400 Bad Request: echo-delay: '10sec' is not a duration" in answer.content


@pytest.mark.covers("--max-delay", "--max-size")
def test_caps() -> None:
    with Server("--max-delay", "1s", "--max-size", "10") as server:
        for query, why in (("delay=2s", b"--max-delay"), ("size=11", b"--max-size")):
            with HttpClient(server.connect()) as client:
                answer = client.ask(get(query))
                assert answer.status == 400
                assert why in answer.content
        with HttpClient(server.connect()) as client:
            assert client.ask(get("size=10")).content == pattern(10)


# --- WebSocket handshakes ---

UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.mark.parametrize("query", ["delay=100ms", "size=5&chunked", "status=503:0"])
def test_a_handshake_is_completed_late(client: HttpClient, query: str) -> None:
    began = time.monotonic()
    client.send(GET + get(query, *UPGRADE) + b"\x82\x82\0\0\0\0hi")
    assert client.answer().content == GET
    lines = [client.file.readline()]
    while lines[-1] != b"\r\n":
        lines.append(client.file.readline())
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols\r\n"
    assert client.file.read(4) == b"\x82\x02hi"
    assert time.monotonic() - began >= (0.1 if "delay" in query else 0)


@LOOPS
def test_a_handshake_whose_client_has_gone(loop: str) -> None:
    with Server("--loop", loop, "--admin", "0") as server, HttpClient(server.connect("admin")) as admin:
        for _ in range(5):
            with server.connect() as connection:
                connection.sendall(get("delay=100ms", *UPGRADE))
        wait_for(lambda: open_connections(admin) == 0, "the connections to be gone")


def test_a_handshake_fails_as_it_is_told_to(server: Server, client: HttpClient) -> None:
    answer = client.ask(get("status=503&delay=10ms", *UPGRADE))
    assert answer.status == 503
    assert b"Upgrade: websocket" in answer.content
    assert client.ask(GET).content == GET
    with server.connect() as connection:
        connection.sendall(get("abort", *UPGRADE))
        assert is_reset(connection)
    assert client.ask(get("status=999", *UPGRADE)).status == 400


# --- CORS ---


def test_cors__requests_of_any_origin() -> None:
    with Server("--cors", "*") as server, HttpClient(server.connect()) as client:
        for data in (GET, get("status=500"), request("GET /healthz HTTP/1.1")):
            assert client.ask(data)["access-control-allow-origin"] == "*"
        preflight = request(
            "OPTIONS /?status=500&delay=1s HTTP/1.1", "Origin: https://a.example", "Access-Control-Request-Method: PUT",
            "Access-Control-Request-Headers: x-a,content-type",
        )  # fmt: skip
        answer = client.ask(preflight)
        assert (answer.status, answer["access-control-allow-methods"]) == (204, "PUT")
        assert answer["access-control-allow-headers"] == "x-a,content-type"
        answer = client.ask(get("size=1lot"))
        assert (answer.status, answer["access-control-allow-origin"]) == (400, "*")


def test_cors__the_servers_own_pages_are_not_for_other_origins() -> None:
    with Server("--cors", "*", "--admin", "0") as server, HttpClient(server.connect("admin")) as admin:
        for path in ("/healthz", "/metrics"):
            answer = admin.ask(request(f"GET {path} HTTP/1.1"))
            assert (answer.status, answer["access-control-allow-origin"]) == (200, None)
        assert admin.ask(request("GET /a HTTP/1.1"))["access-control-allow-origin"] is None


def test_cors__one_origin() -> None:
    with Server("--cors", "https://a.example") as server, HttpClient(server.connect()) as client:
        assert client.ask(GET)["access-control-allow-origin"] == "https://a.example"


def test_cors__off_no_other_origin_is_let_in(client: HttpClient) -> None:
    data = request("OPTIONS / HTTP/1.1", "Origin: https://a.example", "Access-Control-Request-Method: PUT")
    answer = client.ask(data)
    assert (answer.content, answer["access-control-allow-origin"]) == (data, None)


# --- what is said of it ---


def test_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file, Group("--access-log", "json", output=file.fileno()) as server:
        with HttpClient(server.connect()) as client:
            client.ask(post("status=503&delay=100ms", b"abc"))
            client.ask(get("size=7"))
        with server.connect() as connection:
            connection.sendall(post("abort", b"abcd"))
            assert is_reset(connection)
        for asked in (get("delay=60s"), post("rate=1", bytes(300_000))):
            with server.connect() as connection:
                connection.sendall(asked)
                let_read(server)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            let_read(server)
    found = [each for each in map(json.loads, path.read_text().splitlines()) if each["target"] != "/healthz"]
    said = [(each["status"], each["bytes_in"], each["bytes_out"]) for each in found]
    assert said == [(503, 3, 3), (200, 0, 7), (444, 4, 0), (499, 0, 0), (499, 300_000, 0)]
    assert found[0]["duration"] >= 0.1


def test_metrics() -> None:
    with Server() as server, HttpClient(server.connect()) as client:
        for status in (201, 302, 304, 404, 599):
            client.ask(get(f"status={status}"))
        found = samples(client.ask(request("GET /metrics HTTP/1.1")).content.decode())
    counted = {each: found[f'echoserver_requests_total{{status="{each}"}}'] for each in ("2xx", "3xx", "4xx", "5xx")}
    assert counted == {"2xx": 1, "3xx": 2, "4xx": 1, "5xx": 1}


def test_no_transport_ends_twice_where_the_last_of_an_answer_is_taken_late() -> None:
    """asyncio (CPython 3.11 to 3.13) does that to one that is closed within resume_writing(), and says so on stderr."""
    with Server("--loop", "asyncio") as server:
        for more in range(12):
            with server.connect() as connection:
                connection.sendall(get(f"size={15 * MIB + more}") + get("abort"))
                time.sleep(0.05)  # more than the kernel takes at once
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(MIB):
                        pass
