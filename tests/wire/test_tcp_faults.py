"""Modes and faults of the raw listeners, over plain TCP and TLS, with both event loops.

Modules: protocols.tcp.modes, protocols.tcp.raw.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

from echoserver.answers.pattern import pattern
from tests.certificates import Certificates
from tests.servers import COMMAND, PATIENCE, HttpClient, Server, fill, read_all, read_exactly, sending, wait_for
from tests.tls_bridge import TlsServer
from tests.wire.test_metrics import SCRAPE, Page

EARLY = 0.002
"""Seconds: what two clocks that are read one after the other, and a pace's beginning, may differ by."""

Start = Callable[..., Server]


OFTEN = ["tcp, uvloop", "tls, asyncio"]
"""Each protocol and each loop once. What the others may have besides is common to all of a protocol, or of a loop."""
SELDOM = [pytest.param(each, marks=pytest.mark.slow) for each in ("tcp, asyncio", "tls, uvloop")]


@pytest.fixture(params=[*OFTEN, *SELDOM])
def start(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Start]:
    """Starts a server with options; it ends with the test."""
    protocol, loop = request.param.split(", ")
    with contextlib.ExitStack() as running:

        def made(*options: str) -> Server:
            options = ("--loop", loop, *options)
            return running.enter_context(TlsServer(certificates, *options) if protocol == "tls" else Server(*options))

        yield made


def scrape(server: Server) -> Page:
    """The page of metrics, over plain HTTP."""
    with HttpClient(Server.connect(server)) as client:
        return Page(client.ask(SCRAPE).content)


def elapsed(since: float) -> float:
    return time.monotonic() - since + EARLY


# --- modes ---


def test_tcp_mode__discard_reads_all_and_ends_after_the_client(start: Start) -> None:
    with start("--tcp-mode", "discard").connect("tcp") as client, sending(client, bytes(20 << 20), fin=True):
        assert read_all(client) == b""


def test_tcp_mode__discard_without_anything(start: Start) -> None:
    with start("--tcp-mode", "discard").connect("tcp") as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_tcp_mode__chargen_sends_the_pattern_for_as_long_as_it_is_read(start: Start) -> None:
    server = start("--tcp-mode", "chargen")
    with server.connect("tcp") as client, sending(client, bytes(5 << 20)):
        assert read_exactly(client, 20 << 20) == pattern(20 << 20)


def test_tcp_mode__chargen_goes_on_after_a_half_close(start: Start) -> None:
    with start("--tcp-mode", "chargen").connect("tcp") as client:
        client.shutdown(socket.SHUT_WR)
        assert read_exactly(client, 20 << 20) == pattern(20 << 20)


def test_tcp_mode__chargen_is_fair(start: Start) -> None:
    server = start("--tcp-mode", "chargen")
    with server.connect("tcp") as first, server.connect("tcp") as second, server.connect() as other:
        for _ in range(20):
            read_exactly(first, 1 << 20)
            read_exactly(second, 1 << 20)
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert other.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_tcp_mode__chargen_notices_that_its_client_has_gone(start: Start) -> None:
    server = start("--tcp-mode", "chargen")
    for _ in range(5):
        with server.connect("tcp") as client:
            read_exactly(client, 1 << 16)
    wait_for(lambda: scrape(server)("echoserver_connections_open", protocol=protocol_of(server)) == 0, "their end")


def protocol_of(server: Server) -> str:
    return "tls" if isinstance(server, TlsServer) else "tcp"


# --- delay ---


def test_tcp_delay__what_comes_goes_back_late_and_in_order(start: Start) -> None:
    with start("--tcp-delay", "300ms").connect("tcp") as client:
        sent = []
        for number in range(10):
            sent.append(time.monotonic())
            client.sendall(b"%d" % number)
            time.sleep(0.01)  # a read for each
        for number in range(10):
            assert read_exactly(client, 1) == b"%d" % number
            assert elapsed(sent[number]) >= 0.3


def test_tcp_delay__a_half_close_does_not_shorten_it(start: Start) -> None:
    data = os.urandom(5 << 20)
    with start("--tcp-delay", "300ms").connect("tcp") as client:
        begun = time.monotonic()
        with sending(client, data, fin=True):
            first = client.recv(1)
            assert elapsed(begun) >= 0.3
            assert first + read_all(client) == data


def test_tcp_delay__more_than_may_be_kept_is_not_read_before_its_turn(start: Start) -> None:
    data = random.Random(7).randbytes(8 << 20)
    server = start("--tcp-delay", "100ms", "--buffer-limit", "1MiB")
    with server.connect("tcp") as client:
        begun = time.monotonic()
        with sending(client, data, fin=True):
            assert read_all(client) == data
        assert elapsed(begun) >= 0.4  # at most 1 MiB and a read for each 100 ms, less what the kernel keeps


def test_tcp_delay__what_waits_is_bounded(start: Start) -> None:
    server = start("--tcp-delay", "1h", "--buffer-limit", "4MiB", "--drain-timeout", "100ms")
    with server.connect("tcp") as client:
        before = server.resident()
        fill(client)
        assert server.resident() - before < 12 << 20
    server._allow_errors = True


def test_tcp_delay__chargen_begins_late(start: Start) -> None:
    server = start("--tcp-mode", "chargen", "--tcp-delay", "300ms")
    begun = time.monotonic()
    with server.connect("tcp") as client:
        assert read_exactly(client, 1000) == pattern(1000)
        assert elapsed(begun) >= 0.3


def test_idle_timeout__does_not_count_the_delay(start: Start) -> None:
    with start("--tcp-delay", "2s", "--idle-timeout", "1s").connect("tcp") as client:
        client.sendall(b"late")
        assert read_exactly(client, 4) == b"late"
        assert client.recv(1) == b"", "and then it does"


# --- rate ---


@pytest.mark.parametrize(("rate", "size"), [("10", 5), ("20KB", 10_000), ("20MB", 8_000_000)])
def test_tcp_rate__an_echo_is_no_faster(start: Start, rate: str, size: int) -> None:
    data = os.urandom(size)
    number = {"10": 10, "20KB": 20_000, "20MB": 20_000_000}[rate]
    with start("--tcp-rate", rate).connect("tcp") as client:
        begun = time.monotonic()
        with sending(client, data, fin=True):
            got = bytearray()
            while part := client.recv(1 << 20):
                got += part
                assert elapsed(begun) >= len(got) / number
        assert got == data


def test_tcp_rate__it_comes_smoothly(start: Start) -> None:
    """Several pieces, and not all in the end."""
    with start("--tcp-rate", "2000").connect("tcp") as client:
        client.sendall(bytes(1000))
        client.shutdown(socket.SHUT_WR)
        pieces = []
        while part := client.recv(1000):
            pieces.append(len(part))
        assert sum(pieces) == 1000
        assert max(pieces) <= 500


def test_tcp_rate__time_without_anything_to_send_is_no_credit(start: Start) -> None:
    with start("--tcp-rate", "100").connect("tcp") as client:
        for _ in range(3):
            time.sleep(0.2)
            begun = time.monotonic()
            client.sendall(bytes(20))
            read_exactly(client, 20)
            assert elapsed(begun) >= 0.2


def test_tcp_rate__chargen_is_no_faster(start: Start) -> None:
    server = start("--tcp-mode", "chargen", "--tcp-rate", "1MB")
    begun = time.monotonic()
    with server.connect("tcp") as client:
        assert read_exactly(client, 400_000) == pattern(400_000)
        assert elapsed(begun) >= 0.4


def test_tcp_rate__discard_reads_no_faster(start: Start) -> None:
    server = start("--tcp-mode", "discard", "--tcp-rate", "1MB")
    begun = time.monotonic()
    with server.connect("tcp") as client:
        client.sendall(bytes(400_000))
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        assert elapsed(begun) >= 0.4


def test_tcp_rate__discard_begins_no_faster(start: Start) -> None:
    server = start("--tcp-mode", "discard", "--tcp-rate", "1000", "--tcp-close-after", "200")
    begun = time.monotonic()
    with server.connect("tcp") as client:
        client.sendall(bytes(10_000))
        assert read_all(client) == b""
        assert elapsed(begun) >= 0.199


def test_idle_timeout__does_not_count_the_pace(start: Start) -> None:
    with start("--tcp-rate", "1", "--idle-timeout", "700ms").connect("tcp") as client:
        client.sendall(b"ab")
        assert read_exactly(client, 2) == b"ab"


def test_idle_timeout__a_client_that_does_not_read_is_still_idle(start: Start) -> None:
    """What is paced is not what it is idle for."""
    server = start("--tcp-mode", "chargen", "--tcp-rate", "100MB", "--idle-timeout", "300ms")
    with server.connect("tcp") as client:
        wait_for(lambda: scrape(server)("echoserver_timeouts_total", deadline="idle") == 1, "the idle timeout")
        with contextlib.suppress(ConnectionResetError):
            read_all(client)


# --- close after, reset ---


@pytest.mark.parametrize("more", [(), ("--tcp-delay", "50ms"), ("--tcp-rate", "1MB"), ("--tcp-mode", "chargen")])
@pytest.mark.parametrize("size", [1, 100_000])
def test_tcp_close_after__exactly_so_much_comes_then_fin(start: Start, size: int, more: tuple[str, ...]) -> None:
    data = random.Random(3).randbytes(3 << 20)
    with start("--tcp-close-after", str(size), *more).connect("tcp") as client, sending(client, data):
        expected = pattern(size) if "chargen" in more else data[:size]
        assert read_all(client) == expected


def test_tcp_close_after__less_than_that_is_a_plain_echo(start: Start) -> None:
    with start("--tcp-close-after", "1MiB").connect("tcp") as client:
        for _ in range(3):
            client.sendall(b"hello")
            assert read_exactly(client, 5) == b"hello"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_tcp_close_after__discard_closes_after_so_much_was_read(start: Start) -> None:
    server = start("--tcp-mode", "discard", "--tcp-close-after", "100000")
    with server.connect("tcp") as client:
        client.sendall(bytes(99_999))
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(PATIENCE)
        client.sendall(b"x" * 10)
        assert read_all(client) == b""


def test_tcp_close_after__a_client_that_never_ends_is_closed_after_a_while(start: Start) -> None:
    server = start("--tcp-close-after", "3")
    with server.connect("tcp") as client:
        client.sendall(b"hello")
        assert read_all(client) == b"hel"
        page = protocol_of(server)
        wait_for(lambda: scrape(server)("echoserver_connections_open", protocol=page) == 0, "the end")


def is_reset(client: socket.socket) -> bool:
    try:
        while client.recv(1 << 20):
            pass
    except ConnectionResetError:
        return True
    return False


def say_over_tls(client: socket.socket, context: ssl.SSLContext, data: bytes) -> None:
    """The ssl module's own socket takes a reset for an end."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            secure.do_handshake()
            break
        except ssl.SSLWantReadError:
            client.sendall(outgoing.read())
            incoming.write(client.recv(1 << 16))
    secure.write(data)
    client.sendall(outgoing.read())


@pytest.mark.parametrize("over", [*OFTEN, *SELDOM])
@pytest.mark.parametrize(
    "more", [(), ("--tcp-delay", "50ms"), ("--tcp-rate", "1000"), ("--tcp-close-after", "3"), ("--tcp-mode", "discard")]
)
def test_tcp_reset__on_every_connection_is_reset(certificates: Certificates, over: str, more: tuple[str, ...]) -> None:
    protocol, loop = over.split(", ")
    with Server("--loop", loop, "--tls", "0", *certificates.options, "--tcp-reset", "on", *more) as server:
        for _ in range(3):
            with server.connect(protocol) as client:
                if protocol == "tls":
                    say_over_tls(client, certificates.trusting(), b"hello")
                else:
                    client.sendall(b"hello")
                assert is_reset(client)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_tcp_reset__chargen_at_once_or_after_so_much(loop: str) -> None:
    options = ("--loop", loop, "--tcp-mode", "chargen", "--tcp-reset", "100%")
    with Server(*options) as server, server.connect("tcp") as client:
        assert is_reset(client)
    with Server(*options, "--tcp-close-after", "1MiB") as server, server.connect("tcp") as client:
        assert is_reset(client)


def test_tcp_reset__a_share_of_the_connections(start: Start) -> None:
    server = start("--tcp-reset", "50")
    ends = []
    for _ in range(60):
        with server.connect("tcp") as client:
            try:
                client.sendall(b"x")
                ends.append(client.recv(1))
            except ConnectionError:
                ends.append(b"")
    assert {b"", b"x"} == set(ends)


def test_tcp_reset__none_of_them(start: Start) -> None:
    server = start("--tcp-reset", "0", "--tcp-delay", "1ms")
    for _ in range(20):
        with server.connect("tcp") as client:
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_over_a_unix_socket(loop: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo"
        shared = ("--loop", loop, "--tcp", f"unix:{path}", "--tcp-delay", "100ms")
        with Server(*shared, "--tcp-close-after", "3"), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            begun = time.monotonic()
            client.sendall(b"hello")
            assert read_all(client) == b"hel"
            assert elapsed(begun) >= 0.1
        with Server(*shared, "--tcp-reset", "on"), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"hello")
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(5) == b""


# --- with everything else there is ---


@pytest.mark.parametrize(
    "options",
    [("--tcp-delay", "1s"), ("--tcp-delay", "500ms", "--tcp-rate", "2MB")],
    ids=" ".join,
)
def test_a_drain_lets_go_out_what_is_owed(start: Start, options: tuple[str, ...]) -> None:
    data = os.urandom(1_000_000)
    server = start(*options)
    with server.connect("tcp") as client:
        client.sendall(data)
        wait_for(
            lambda: scrape(server)("echoserver_received_bytes_total", protocol=protocol_of(server)) == len(data), "it"
        )
        server.process.send_signal(signal.SIGTERM)
        assert read_all(client) == data
    assert server.wait() == 0


@pytest.mark.parametrize("options", [(), ("--tcp-rate", "1000"), ("--tcp-delay", "1h")])
@pytest.mark.parametrize("half_closed", [True, False])
def test_tcp_mode__a_drain_ends_chargen(start: Start, options: tuple[str, ...], half_closed: bool) -> None:
    server = start("--tcp-mode", "chargen", *options)
    with server.connect("tcp") as client:
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        if "1h" not in options:
            read_exactly(client, 10)
        server.process.send_signal(signal.SIGTERM)
        read_all(client)
    assert server.wait() == 0


def test_tcp_mode__a_drain_ends_a_discard_that_is_quiet(start: Start) -> None:
    server = start("--tcp-mode", "discard", "--tcp-rate", "1MB")
    with server.connect("tcp") as client:
        client.sendall(bytes(200_000))
        server.process.send_signal(signal.SIGTERM)
        assert read_all(client) == b""
    assert server.wait() == 0


def test_drain_timeout__cuts_what_waits_too_long() -> None:
    with Server("--tcp-delay", "1h", "--drain-timeout", "300ms") as server, server.connect("tcp") as client:
        client.sendall(b"never")
        wait_for(lambda: scrape(server)("echoserver_received_bytes_total", protocol="tcp") == 5, "it")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 1


def test_it_is_counted(start: Start) -> None:
    server = start("--tcp-close-after", "1000", "--tcp-delay", "10ms")
    with server.connect("tcp") as client:
        client.sendall(bytes(600))
        assert read_exactly(client, 600) == bytes(600)
        client.sendall(bytes(700))
        assert read_all(client) == bytes(400)
    protocol = protocol_of(server)
    wait_for(lambda: scrape(server)("echoserver_connections_open", protocol=protocol) == 0, "the end")
    page = scrape(server)
    assert page("echoserver_received_bytes_total", protocol=protocol) == 1300
    assert page("echoserver_sent_bytes_total", protocol=protocol) == 1000


@pytest.mark.parametrize(
    ("options", "sent", "expected"),
    [
        (("--tcp-mode", "discard"), 1000, (200, 1000, 0)),
        (("--tcp-mode", "chargen", "--tcp-close-after", "1000"), 0, (200, 0, 1000)),
        (("--tcp-delay", "10ms"), 1000, (200, 1000, 1000)),
        (("--tcp-reset", "on"), 1000, (444, 1000, 0)),
    ],
)
def test_it_is_logged(
    tmp_path: pathlib.Path, options: tuple[str, ...], sent: int, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [
                *COMMAND,
                "--http",
                "off",
                "--udp",
                "off",
                "--tcp",
                f"unix:{tmp_path}/echo",
                "--access-log",
                "json",
                *options,
            ],
            stdout=log,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        with process.stderr as lines:
            while not lines.readline().endswith(b"ready\n"):
                pass
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/echo")
                client.sendall(bytes(sent))
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    read_all(client)
            wait_for(lambda: path.stat().st_size, "a line")
            process.terminate()
            assert process.wait(PATIENCE) == 0
    line = json.loads(path.read_text(encoding="ascii"))
    assert (line["status"], line["bytes_in"], line["bytes_out"]) == expected


@pytest.mark.covers("--proxy-protocol", "--tcp-delay", "--tcp-close-after")
def test_behind_a_proxy() -> None:
    options = ("--proxy-protocol", "on", "--tcp-delay", "100ms", "--tcp-close-after", "3")
    with Server(*options) as server, server.connect("tcp") as client:
        begun = time.monotonic()
        client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nhello")
        assert read_all(client) == b"hel"
        assert elapsed(begun) >= 0.1
        client.shutdown(socket.SHUT_WR)
        with server.connect("http") as other, HttpClient(other) as scraper:
            scraper.send(b"PROXY UNKNOWN\r\n")
            page = Page(scraper.ask(SCRAPE).content)
        assert page("echoserver_received_bytes_total", protocol="tcp") == 5
        assert page("echoserver_sent_bytes_total", protocol="tcp") == 3


def test_max_connections__those_beyond_are_closed() -> None:
    with Server("--tcp-mode", "chargen", "--max-connections", "1") as server, server.connect("tcp") as first:
        assert read_exactly(first, 1000) == pattern(1000)
        with server.connect("tcp") as second, contextlib.suppress(ConnectionResetError):
            assert second.recv(1) == b""


def test_buffer_total__a_worker_under_pressure_goes_on(start: Start) -> None:
    """More clients than there is room for at a time: each gets all of its bytes."""
    server = start("--tcp-delay", "200ms", "--buffer-total", "2MiB", "--buffer-limit", "1MiB")
    data = os.urandom(1 << 20)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect("tcp")) for _ in range(6)]
        for client in clients:
            stack.enter_context(sending(client, data, fin=True))
        for client in clients:
            assert read_all(client) == data
