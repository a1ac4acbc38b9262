"""/metrics of real servers: what a scraper reads, against the traffic that there was."""

import functools
import os
import pathlib
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

import echoserver
from tests.programs import needs
from tests.servers import (
    COMMAND,
    PYTHON,
    Answer,
    HttpClient,
    Server,
    let_read,
    read_all,
    read_exactly,
    request,
    sending,
    wait_for,
)

LOOPS = ["uvloop", "asyncio"]
SWEPT_OFTEN = ("--header-timeout", "1s")  # a sweep, and with it figures that all can read, each 250 ms
SCRAPE = request("GET /metrics HTTP/1.1")
POST = request("POST / HTTP/1.1", "Content-Length: 64", content=bytes(64))


class Page:
    """A page of metrics as the client library's parser reads it."""

    def __init__(self, content: bytes) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(content.decode())}
        self._samples = [sample for family in self.families.values() for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name that have these labels."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        assert found, f"no {name} with {labels}"
        return sum(found)

    def reasons(self, name: str, label: str) -> dict[str, float]:
        """What is not 0 by a label's value."""
        return {
            each.labels[label]: each.value for each in self._samples if each.name == name and each.value
        }  # fmt: skip


def ask(server: Server, data: bytes = SCRAPE, protocol: str = "admin") -> Answer:
    """The answer to a request on a connection of its own."""
    with HttpClient(server.connect(protocol)) as client:
        return client.ask(data)


def scrape(server: Server, protocol: str = "admin") -> Page:
    answer = ask(server, SCRAPE, protocol)
    assert answer.status == 200
    return Page(answer.content)


def wait_for_page(server: Server, condition: Callable[[Page], object], what: str) -> Page:
    """The first page of which the condition holds."""
    pages: list[Page] = []

    def holds() -> bool:
        pages[:] = [scrape(server)]
        return bool(condition(pages[0]))

    wait_for(holds, what)
    return pages[0]


@pytest.fixture(params=LOOPS)
def fresh(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that has served nobody; scrapes are counted elsewhere than what is tested."""
    with Server("--loop", request.param, "--admin", "0") as running:
        yield running


# --- the page ---


def test_the_page_is_what_a_scraper_expects(server: Server) -> None:
    answer = ask(server, protocol="http")
    assert answer.status == 200
    assert answer["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    page = Page(answer.content)
    assert all(family.documentation for family in page.families.values())
    assert page("echoserver_workers") == 1
    assert page("echoserver_processes", worker="0") == 1
    build = page.families["echoserver_build_info"].samples[0].labels
    assert build["version"] == echoserver.__version__
    assert set(build) == {"version", "python", "loop", "httptools", "compiled"}
    assert page("process_resident_memory_bytes", worker="0") > 1 << 20
    assert page("process_open_fds", worker="0") > 3


@needs("promtool")
def test_promtool_finds_nothing_to_say(server: Server) -> None:
    answer = ask(server, protocol="http")
    found = subprocess.run(["promtool", "check", "metrics"], input=answer.content, capture_output=True, check=False)
    # what it says of the process_* metrics, named as in every client library, is not about us
    said = [line for line in (found.stdout + found.stderr).decode().splitlines() if not line.startswith("process_")]
    assert said == []


def test_head_says_how_long_the_page_is(server: Server) -> None:
    answer = ask(server, request("HEAD /metrics HTTP/1.1"), "http")
    assert answer.status == 200
    assert answer.content == b""
    assert int(answer["content-length"] or 0) > 1000


@pytest.mark.parametrize("line", ["POST /metrics HTTP/1.1", "GET /metrics HTTP/1.1", "PUT /metrics HTTP/1.1"])
def test_content_to_the_page_is_echoed(server: Server, line: str) -> None:
    answer = ask(server, request(line, "Content-Length: 5", content=b"hello"), "http")
    assert (answer.status, answer.content) == (200, b"hello")


@pytest.mark.parametrize("target", ["/metrics/", "/x?/metrics", "/Metrics"])
def test_other_targets_are_echoed(server: Server, target: str) -> None:
    head = request(f"GET {target} HTTP/1.1")
    assert ask(server, head, "http").content == head


# --- what is counted ---


def test_http_is_counted(fresh: Server) -> None:
    get, answered, sent = request("GET / HTTP/1.1"), 0, 0
    with HttpClient(fresh.connect()) as client, HttpClient(fresh.connect()) as raw:
        for data in [POST] * 10 + [get] * 5 + [POST] * 3 + [request("HEAD / HTTP/1.1")] * 2 + [POST[:-64] + b"x" * 64]:
            client.ask(data)
            answered, sent = answered + 1, sent + len(data)
        raw.send(POST * 16 + request("GET / HTTP/1.1", "Connection: close"))
        answered, sent = answered + 17, sent + len(POST) * 16 + len(request("GET / HTTP/1.1", "Connection: close"))
        received = len(raw.rest())
        page = scrape(fresh)
        assert page("echoserver_requests_total", status="2xx") == answered
        assert page("echoserver_received_bytes_total", protocol="http") == sent
        assert page("echoserver_connections_opened_total", protocol="http") == 2
        assert page("echoserver_connections_open", protocol="http") == 2, "the client has not closed its own yet"
        before = page("echoserver_sent_bytes_total", protocol="http")
        assert before > received
        client.send(POST)
        answer = client.file.read(1)
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.file.read(1)
        client.file.read(64)
        page = scrape(fresh)
        assert page("echoserver_sent_bytes_total", protocol="http") - before == len(answer) + 64
        assert page("echoserver_requests_total", status="2xx") == answered + 2, "the scrape before is one too"
    page = wait_for_page(fresh, lambda page: not page("echoserver_connections_open", protocol="http"), "the end")
    assert page("echoserver_connections_opened_total", protocol="http") == 2


def test_tcp_is_counted(fresh: Server) -> None:
    sizes = [1, 64, 5000, 100_000, 3_000_000]
    for size in sizes:
        with fresh.connect("tcp") as client, sending(client, bytes(size), fin=True):
            assert read_all(client) == bytes(size)
    page = wait_for_page(fresh, lambda page: not page("echoserver_connections_open", protocol="tcp"), "the end")
    assert page("echoserver_connections_opened_total", protocol="tcp") == len(sizes)
    for what in ("received", "sent"):
        assert page(f"echoserver_{what}_bytes_total", protocol="tcp") == sum(sizes)
    with fresh.connect("tcp") as client:
        for number in range(1, 20):
            client.sendall(bytes(64))
            read_exactly(client, 64)
            assert scrape(fresh)("echoserver_received_bytes_total", protocol="tcp") == sum(sizes) + number * 64


def test_udp_is_counted(fresh: Server) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client, socket.socket(type=socket.SOCK_DGRAM) as another:
        client.settimeout(20)
        client.connect(("127.0.0.1", fresh.udp))
        another.bind(("127.0.0.2", fresh.udp))  # it may be another echo server
        for size in (0, 1, 64, 1400):
            another.sendto(bytes(100), ("127.0.0.1", fresh.udp))
            client.send(bytes(size))
            assert len(client.recv(2000)) == size
    page = scrape(fresh)
    assert page("echoserver_datagrams_total", outcome="echoed") == 4
    assert page("echoserver_datagrams_total", outcome="not_answered") == 4
    assert page("echoserver_sent_bytes_total", protocol="udp") == 1465
    assert page("echoserver_received_bytes_total", protocol="udp") == 1465 + 400


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may have a raw socket")
def test_a_datagram_that_cannot_be_answered_is_counted(fresh: Server) -> None:
    with socket.socket(type=socket.SOCK_RAW, proto=socket.IPPROTO_UDP) as raw:  # from port 0: nothing can be sent there
        raw.sendto(b"\0\0" + fresh.udp.to_bytes(2, "big") + b"\0\x0c\0\0" + b"ping", ("127.0.0.1", 0))
    page = wait_for_page(fresh, lambda page: page("echoserver_datagrams_total", outcome="not_answered"), "the datagram")
    assert page("echoserver_received_bytes_total", protocol="udp") == 4
    assert page("echoserver_sent_bytes_total", protocol="udp") == 0


ERRORS = {
    "bad_request": (b"hello\r\n\r\n", "4xx"),
    "content_too_long": (request("POST / HTTP/1.1", "Content-Length: 1001"), "4xx"),
    "header_too_long": (request("GET / HTTP/1.1", "A: " + "x" * 5000), "4xx"),
    "expectation": (request("GET / HTTP/1.1", "Expect: x"), "4xx"),
    "not_implemented": (request("CONNECT x:1 HTTP/1.1"), "5xx"),
    "version": (request("GET / HTTP/2.0"), "5xx"),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_errors_are_counted_by_reason(loop: str) -> None:
    with Server("--loop", loop, "--admin", "0", "--max-body", "1000", "--max-header", "4096") as server:
        for data, _ in ERRORS.values():
            ask(server, data, "http")
        ask(server, request("GET /nothing HTTP/1.1"))
        expected = dict.fromkeys([*ERRORS, "not_found"], 1)
        page = scrape(server)
        assert page.reasons("echoserver_errors_total", "reason") == expected
        for status in ("4xx", "5xx"):
            classes = [each for _, each in ERRORS.values()] + ["4xx"]
            assert page("echoserver_requests_total", status=status) == classes.count(status)
        client = server.connect()
        client.sendall(POST[:-1])
        let_read(server)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        wait_for_page(server, lambda page: page("echoserver_errors_total", reason="reset") == 1, "the reset")


@pytest.mark.parametrize("loop", LOOPS)
def test_timeouts_are_counted_by_deadline(loop: str) -> None:
    times = ("--header-timeout", "1s", "--keep-alive-timeout", "1s", "--idle-timeout", "1s")
    with (
        Server("--loop", loop, "--admin", "0", *times) as server,
        server.connect() as silent, HttpClient(server.connect()) as begun, HttpClient(server.connect()) as kept,
        HttpClient(server.connect()) as content, server.connect("tcp") as raw,
    ):  # fmt: skip
        begun.send(b"GET /")
        kept.send(POST)
        content.send(POST[:-1])
        for each in (silent, raw):
            assert read_all(each) == b""
        assert kept.answer().status == 200
        assert kept.rest() == b""
        assert [begun.answer().status, content.answer().status] == [408, 408]
        page = scrape(server)
        found = page.reasons("echoserver_timeouts_total", "deadline")
        assert (found["header"], found["idle"]) == (2, 2)
        assert page("echoserver_timeouts_total", deadline="keep_alive") >= 1


def test_pauses_are_counted(fresh: Server) -> None:
    data = bytes(64 << 20)

    def pauses(page: Page) -> float:
        return page("echoserver_backpressure_pauses_total")

    before = scrape(fresh)
    for _ in range(2):
        with fresh.connect("tcp") as client, sending(client, data, fin=True):
            least = pauses(before) + 1
            before = wait_for_page(fresh, functools.partial(_at_least, pauses, least), "a pause")
            assert len(read_all(client)) == len(data)


def _at_least(figure: Callable[[Page], float], least: float, page: Page) -> bool:
    return figure(page) >= least


def test_the_lag_of_the_event_loop_is_observed() -> None:
    def sweeps(page: Page) -> float:
        return page("echoserver_event_loop_lag_seconds_count")

    with Server("--admin", "0", *SWEPT_OFTEN) as server:
        first = scrape(server)
        later = wait_for_page(server, lambda page: sweeps(page) > sweeps(first) + 1, "two sweeps")
    bounds = [sample for sample in later.families["echoserver_event_loop_lag_seconds"].samples if "le" in sample.labels]
    assert [each.value for each in bounds] == sorted(each.value for each in bounds)
    assert bounds[-1].labels["le"] == "+Inf"
    assert bounds[-1].value == later("echoserver_event_loop_lag_seconds_count")
    assert later("echoserver_event_loop_lag_seconds_sum") >= first("echoserver_event_loop_lag_seconds_sum")


# --- several workers ---


def test_any_worker_answers_for_all() -> None:
    with Server("--workers", "2", "--served-by", "on") as server:
        answered: dict[str, Page] = {}

        def both() -> bool:
            answer = ask(server, SCRAPE, "http")
            answered[(answer["x-served-by"] or "").rpartition(":")[2]] = Page(answer.content)
            return len(answered) == 2

        wait_for(both, "an answer of each worker")
        for page in answered.values():
            assert page("echoserver_workers") == 2
            for worker in "01":
                assert page("echoserver_processes", worker=worker) == 1
                assert page("process_resident_memory_bytes", worker=worker) > 1 << 20
                assert page("process_start_time_seconds", worker=worker) > 0


def test_counters_outlive_a_worker_that_is_killed() -> None:
    with Server("--workers", "2", "--admin", "0", *SWEPT_OFTEN) as server:
        clients = []
        for _ in range(8):
            clients.append(HttpClient(server.connect()))
            for _ in range(5):  # at once: a connection waits no longer for its first request than the option says
                clients[-1].ask(POST)
        names = ("echoserver_received_bytes_total", "echoserver_sent_bytes_total")
        size = len(POST) * 40
        before = wait_for_page(server, lambda page: page(names[0], protocol="http") == size, "what was published")
        victim = server.children()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in server.children() and len(server.children()) == 2, "its successor")
        page = wait_for_page(
            server,
            lambda page: page("echoserver_worker_restarts_total") == 1 and page("echoserver_processes") == 2,
            "the restart",
        )
        assert [page(name, protocol="http") for name in names] == [before(name, protocol="http") for name in names]
        assert page("echoserver_requests_total", status="2xx") >= 40
        assert page("echoserver_connections_opened_total", protocol="http") == 8
        killed = before("echoserver_connections_opened_total", protocol="http", worker="0")
        assert page("echoserver_connections_open", protocol="http") == 8 - killed
        for client in clients:
            client.__exit__()


# --- what is not there, and what is in the way ---


@pytest.mark.skipif(COMMAND != PYTHON, reason="nothing can be hidden from another command")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_prometheus_client_the_page_says_what_to_install(tmp_path: pathlib.Path, workers: str) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['prometheus_client'] = None\n")
    with Server("--workers", workers, environment={"PYTHONPATH": str(tmp_path)}) as server:
        for _ in range(2):
            answer = ask(server, SCRAPE, "http")
            assert answer.status == 501
            assert (
                answer.content
                == b"501 Not Implemented: metrics are not installed: expected pip install 'echoserver[metrics]'\n"
            )
        with HttpClient(server.connect()) as client:
            for data in (POST, SCRAPE, POST, request("HEAD /metrics HTTP/1.1"), POST):
                assert client.ask(data).status == (200 if data is POST else 501)
        for size in (64, 500_000):
            with server.connect("tcp") as raw, sending(raw, bytes(size) * 2, fin=True):
                assert len(read_all(raw)) == 2 * size


def test_scrapes_beside_traffic_harm_no_request(fresh: Server) -> None:
    """One after the other: more often than any scraper comes."""
    done = threading.Event()
    pages: list[Page] = []

    def scrape_on() -> None:
        with HttpClient(fresh.connect("admin")) as client:
            while not done.is_set():
                pages.append(Page(client.ask(SCRAPE).content))

    scraper = threading.Thread(target=scrape_on, daemon=True)
    scraper.start()
    large = request("POST / HTTP/1.1", "Content-Length: 300000", content=bytes(300_000))
    try:
        with HttpClient(fresh.connect()) as client, fresh.connect("tcp") as raw:
            for number in range(300):
                data = large if number % 50 == 49 else POST
                answer = client.ask(data)
                assert (answer.status, len(answer.content)) == (200, 300_000 if data is large else 64)
                raw.sendall(bytes(64))
                read_exactly(raw, 64)
    finally:
        done.set()
        scraper.join(20)
    assert len(pages) > 2
    counts = [page("echoserver_received_bytes_total", protocol="http") for page in pages]
    assert counts == sorted(counts)
    assert scrape(fresh)("echoserver_received_bytes_total", protocol="http") == 294 * len(POST) + 6 * len(large)
