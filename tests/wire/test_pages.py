"""The server's own pages over sockets: a page is its path, however it is asked for. /.echo: test_browser_page."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.servers import PATIENCE, HttpClient, Server, request, wait_for
from tests.websockets import upgrade

GET = request("GET / HTTP/1.1")
ALLOW = "GET, HEAD, OPTIONS"
PAGES = {"/healthz": b"ok\n", "/readyz": b"ready\n", "/metrics": None}
TARGETS = ["{}", "{}?", "{}?from=lb", "{}?status=404&delay=1h&abort", "http://a{}", "HTTPS://a:1{}?x=/y"]
FIELDS = [
    (), ("Accept: application/json",), ("Content-Length: 0",), ("Content-Length: 0", "Content-Type: a/b"),
    ("Expect: 100-continue", "Content-Length: 0"), ("Connection: upgrade", "Upgrade: h2c"),
]  # fmt: skip
HOW = {"whole": 0, "byte by byte": 1}


@pytest.fixture(scope="module", params=["http", "admin", "cors"])
def client(request: pytest.FixtureRequest) -> Iterator[HttpClient]:
    options = {"http": (), "admin": ("--admin", "0"), "cors": ("--cors", "*")}[request.param]
    protocol = "admin" if request.param == "admin" else "http"
    with Server(*options) as server, HttpClient(server.connect(protocol)) as connected:
        yield connected


def assert_page(client: HttpClient, path: str, target: str, fields: tuple[str, ...], piece: int = 0) -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = client.ask(request(f"{method} {target} HTTP/1.1", *fields), piece)
        content = PAGES[path]
        assert (answer.status, answer["connection"]) == (200, None)
        assert answer["allow"] == (ALLOW if method == "OPTIONS" else None)
        if method == "GET":
            assert answer.content == content or (content is None and b"\nechoserver_workers " in answer.content)
            assert answer["content-length"] == str(len(answer.content))
        else:
            assert answer.content == b""
            assert content is None or answer["content-length"] == ("0" if method == "OPTIONS" else str(len(content)))


@pytest.mark.parametrize(
    ("fields", "piece"),
    [
        pytest.param(fields, piece, id=f"{fields}-{how}", marks=[pytest.mark.slow] if piece and len(fields) < 2 else [])
        for fields in FIELDS
        for how, piece in HOW.items()
    ],
)
@pytest.mark.parametrize("path", PAGES)
def test_page__get_head_and_options_whatever_the_target_looks_like(
    client: HttpClient, path: str, fields: tuple[str, ...], piece: int
) -> None:
    for target in TARGETS:
        assert_page(client, path, target.format(path), fields, piece)


def test_page__pipelined(client: HttpClient) -> None:
    sent = [request(f"{method} /readyz?{number} HTTP/1.1", "Content-Length: 0")
            for number in range(50) for method in ("GET", "HEAD", "OPTIONS")]  # fmt: skip
    client.send(b"".join(sent))
    for each in sent:
        answer = client.answer(each.split(b" ")[0].decode())
        assert (answer.status, answer.content) == (200, b"ready\n" if each.startswith(b"GET") else b"")


def test_page__http_1_0(client: HttpClient) -> None:
    """As HAProxy 2.6 asks."""
    answer = client.ask(b"OPTIONS /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (answer.status, answer["allow"], answer["connection"]) == (200, ALLOW, "keep-alive")


@pytest.mark.parametrize("path", [*PAGES, "/.echo"])
def test_cors__preflight_to_a_page(path: str) -> None:
    asked = ("Origin: https://a.example", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-a")
    with Server("--cors", "*") as server, HttpClient(server.connect()) as client:
        for more in ((), ("Content-Length: 0",)):
            answer = client.ask(request(f"OPTIONS {path} HTTP/1.1", *asked, *more))
            assert (answer.status, answer.content, answer["allow"]) == (200, b"", ALLOW)
            assert (answer["access-control-allow-origin"], answer["access-control-allow-methods"]) == ("*", "GET")
            assert answer["access-control-allow-headers"] == "x-a"


def test_page__websocket_is_none(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(upgrade(target="/readyz?x")).content == b"ready\n"
        assert client.ask(upgrade(target="http://a/readyz")).content == b"ready\n"


def test_page__over_tls_it_names_no_client(certificates: Certificates) -> None:
    with Server("--https", "0", "--tls-client-ca", str(certificates.ca), *certificates.options) as server:
        context = certificates.trusting()
        context.load_cert_chain(*certificates.client("robot"))
        with HttpClient(context.wrap_socket(server.connect("https"), server_hostname="localhost")) as client:
            for method in ("GET", "OPTIONS"):
                answer = client.ask(request(f"{method} /readyz?x HTTP/1.1"))
                assert (answer.status, answer["x-client-subject"]) == (200, None)
            assert client.ask(GET)["x-client-subject"]


@pytest.mark.parametrize("target", ["/healthz", "/readyz?x", "http://a/metrics"])
@pytest.mark.parametrize("piece", HOW.values(), ids=HOW)
def test_admin__405(target: str, piece: int) -> None:
    with Server("--admin", "0") as server:
        for method in ("POST", "DELETE", "TRACE", "FOO"):
            for fields in ((), ("Content-Length: 0",) if method == "TRACE" else ("Content-Length: 2",)):
                with HttpClient(server.connect("admin")) as client:
                    client.send(request(f"{method} {target} HTTP/1.1", *fields), piece)
                    answer = client.answer(method)
                    assert (answer.status, answer["allow"], answer["connection"]) == (405, ALLOW, "close")


# --- in a drain -------------------------------------------------------------------------------------------------------


def in_a_drain(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: server.said("draining"), "the drain to begin")


REPEATED = [
    request("POST /readyz HTTP/1.1", "Content-Length: 2", content=b"hi"),
    request("POST /readyz HTTP/1.1"),
    request("GET /readyz HTTP/1.1", "Content-Length: 100000", content=bytes(100_000)),
    request("PUT /readyz?status=200 HTTP/1.1", "Content-Length: 2", content=b"hi"),
    request("FOO http://a/readyz HTTP/1.1"),
    request("POST /readyz HTTP/1.1", "Transfer-Encoding: chunked", content=b"2\r\nhi\r\n0\r\n\r\n"),
    request("TRACE /readyz HTTP/1.1"),
]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_drain_delay__readyz_says_503_whatever_the_method_and_whatever_was_asked_before(loop: str) -> None:
    """Also to a connection on which the same was just echoed, or what differs only by its path."""
    with Server("--loop", loop, "--drain-delay", "20s") as server, contextlib.ExitStack() as stack:
        clients = []
        for data in REPEATED:
            client = stack.enter_context(HttpClient(server.connect()))
            for _ in range(3):
                assert client.ask(data).status == 200
            clients.append((client, data))
        varied = stack.enter_context(HttpClient(server.connect()))
        for path in ("a", "b", "c"):
            assert varied.ask(request(f"POST /{path} HTTP/1.1", "Content-Length: 2", content=b"hi")).content == b"hi"
        clients.append((varied, REPEATED[0]))
        pages = stack.enter_context(HttpClient(server.connect()))
        for method in ("GET", "HEAD", "OPTIONS"):
            assert pages.ask(request(f"{method} /readyz HTTP/1.1")).status == 200
        in_a_drain(server)
        for client, data in clients:
            assert client.ask(data).status == 503
        with HttpClient(server.connect()) as client:
            for path in ("a", "b", "c"):
                post = request(f"POST /{path} HTTP/1.1", "Content-Length: 2", content=b"hi")
                assert client.ask(post).content == b"hi"
            assert client.ask(REPEATED[0]).status == 503
        for data in REPEATED:
            with HttpClient(server.connect()) as client:
                assert client.ask(data, 1 + len(data) // 200).status == 503
        for method in ("GET", "HEAD", "OPTIONS"):
            for target in ("/readyz", "/readyz?x", "http://a/readyz?status=200"):
                answer = pages.ask(request(f"{method} {target} HTTP/1.1", "Content-Length: 0"))
                assert (answer.status, answer["connection"]) == (503, None)
        assert pages.ask(GET).content == GET
        assert pages.ask(request("POST /healthz HTTP/1.1", "Content-Length: 2", content=b"hi")).content == b"hi"
        server.process.send_signal(signal.SIGTERM)  # at once
        server.wait()


def test_drain_delay__admin_says_503_whatever_the_method() -> None:
    with Server("--drain-delay", "20s", "--admin", "0") as server:
        in_a_drain(server)
        for method in ("GET", "HEAD", "OPTIONS", "POST", "FOO"):
            with HttpClient(server.connect("admin")) as client:
                assert client.ask(request(f"{method} /readyz?x HTTP/1.1", "Content-Length: 0")).status == 503
        server.process.send_signal(signal.SIGTERM)
        server.wait()


HAPROXY = shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


@contextlib.contextmanager
def haproxy(folder: Path, server: Server, check: str) -> Iterator[tuple[str, int]]:
    """HAProxy in front of a server, which it checks every 100 ms; yields where its own clients connect."""
    front = socket.create_server(("127.0.0.1", 0))
    lines = [
        "defaults", "  mode http", "  timeout connect 5s", "  timeout client 20s", "  timeout server 20s",
        "listen it", f"  bind fd@{front.fileno()}", f"  {check}",
        f"  server it 127.0.0.1:{server.http} check inter 100ms fall 1 rise 1",
    ]  # fmt: skip
    (folder / "haproxy.cfg").write_text("\n".join([*lines, ""]), encoding="ascii")
    process = subprocess.Popen(
        [str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL,
        pass_fds=[front.fileno()],
    )  # fmt: skip
    try:
        yield front.getsockname()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        front.close()


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@pytest.mark.parametrize(
    "check",
    [
        "option httpchk OPTIONS /readyz",
        "option httpchk GET /readyz?from=haproxy",
        "option httpchk OPTIONS /readyz HTTP/1.1\\r\\nHost:\\ a",
        "option httpchk POST /readyz",
        "option httpchk HEAD http://a/readyz",
    ],
)
def test_haproxy_httpchk_takes_the_backend_down_in_a_drain(tmp_path: Path, check: str) -> None:
    with Server("--drain-delay", "30s") as server, haproxy(tmp_path, server, check) as front:

        def through() -> int:
            with HttpClient(socket.create_connection(front, PATIENCE)) as client:
                client.send(GET)
                return int(client.file.readline().split()[1])

        wait_for(lambda: through() == 200, "the first check")
        time.sleep(0.3)  # a check or two: it stays up
        assert through() == 200
        in_a_drain(server)
        wait_for(lambda: through() == 503, "haproxy to take the server for down")
        with HttpClient(server.connect()) as client:
            assert client.ask(GET).content == GET, "it still serves"
        server.process.send_signal(signal.SIGTERM)
        server.wait()
