"""HTTP/2 over real sockets, with the clients and proxies that people have: curl, nghttp, h2load, haproxy, nginx.

Modules: protocols.http2.connection, protocols.http2.site, protocols.http2.stream, protocols.http2.tunnel.
"""

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from echoserver.wire.http2_frames import GOAWAY, PING, frame
from tests.certificates import Certificates
from tests.programs import find, needs
from tests.servers import PATIENCE, Server, wait_for
from tests.websockets import BINARY, PONG, TEXT, close, echo
from tests.websockets import PING as WS_PING
from tests.websockets import frame as said_by_client
from tests.wire.test_metrics import Page, ask

LOOPS = ["uvloop", "asyncio"]
CURL = ("curl", "--silent", "--show-error", "--max-time", str(int(PATIENCE)), "--noproxy", "*")
MIB = 1 << 20

pytestmark = needs("curl")


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    with Server("--https", "0", "--admin", "0", *certificates.options, "--loop", request.param) as running:
        yield running


def curl(server: Server, path: str, *options: str, protocol: str = "http", given: bytes = b"") -> bytes:
    """What curl writes, over HTTP/2 if the options say no other."""
    how = () if protocol == "https" else ("--http2-prior-knowledge",)
    url = f"{protocol}://127.0.0.1:{server.port(protocol)}{path}"
    done = subprocess.run([*CURL, *how, *options, url], input=given, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Client:
    """h2's connection over a socket: a client that takes what it is sent only when it is told to."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def get(self, path: str = "/") -> int:
        """Send a GET; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)]
        self.h2.send_headers(stream, fields, end_stream=True)
        self.flush()
        return stream

    def until(self, kind: type, stream: int = 0) -> h2.events.Event:
        """Read until there is an event of a kind, of a stream if one is given."""
        while True:
            for each in self.events:
                if isinstance(each, kind) and (not stream or getattr(each, "stream_id", 0) == stream):
                    return each
            data = self.socket.recv(MIB)
            assert data, f"the connection ended: {self.events}"
            self.events += self.h2.receive_data(data)
            self.flush()

    def content(self, stream: int) -> bytes:
        """All content of a stream."""
        self.until(h2.events.StreamEnded, stream)
        parts = (
            each.data for each in self.events
            if isinstance(each, h2.events.DataReceived) and each.stream_id == stream
        )  # fmt: skip
        return b"".join(each or b"" for each in parts)


@contextlib.contextmanager
def connected(server: Server) -> Iterator[Client]:
    with server.connect() as connection:
        yield Client(connection)


# --- what comes back ---


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_http2__the_header_section_comes_back_as_text(
    server: Server, certificates: Certificates, protocol: str
) -> None:
    trust = ("--cacert", str(certificates.ca))
    said = curl(server, "/path?q=1", "-H", "X-A: 1", "-H", "X-A: 2", *trust, protocol=protocol).decode()
    lines = said.split("\r\n")
    assert lines[:2] == ["GET /path?q=1 HTTP/2", f"host: 127.0.0.1:{server.port(protocol)}"]
    assert lines[4:] == ["x-a: 1", "x-a: 2", "", ""]


@pytest.mark.parametrize("protocol", ["http", "https"])
@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 100_000, 20 * MIB])
def test_http2__content_comes_back_with_its_type(
    server: Server, certificates: Certificates, tmp_path: Path, protocol: str, size: int
) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    trust = ("--cacert", str(certificates.ca))
    how = ("--data-binary", f"@{sent}", "-H", "Content-Type: image/png", "-w", "%{http_version} %{content_type}")
    assert curl(server, "/", *how, *trust, protocol=protocol) == content + b"2 image/png"
    assert curl(server, "/", "-T", "-", *trust, protocol=protocol, given=content) == content  # of no declared length


def test_http2__head_options_and_what_is_refused(server: Server) -> None:
    said = curl(server, "/", "-I").decode()
    assert "content-length: " in said
    assert "200" in said.split("\r\n")[0]
    written = ("-o", "-", "-w", "%{http_code}")
    assert curl(server, "/", "-X", "TRACE", "-d", "x", *written).endswith(b"400")
    assert curl(server, "/healthz", *written).startswith(b"GET /healthz")  # --admin has it
    assert curl(server, "/", "-H", "Expect: something", "-d", "x", *written).endswith(b"417")


def test_http2__controls_and_the_description(server: Server) -> None:
    written = ("-o", "-", "-w", "%{http_code}")
    assert curl(server, "/?status=503&delay=10ms", *written).endswith(b"503")
    assert len(curl(server, "/?size=300000")) == 300_000
    assert len(curl(server, "/?size=30000&rate=300000")) == 30_000
    assert curl(server, "/?echo=none", *written) == b"204"
    said = json.loads(curl(server, "/?echo=json", "-d", "hello"))
    assert said["version"] == "HTTP/2"
    assert said["content"]["text"] == "hello"
    assert [":path", "/?echo=json"] in said["pseudo_fields"]
    assert said["stream"] == 1
    assert curl(server, "/?delay=20ms", "-d", "late") == b"late"
    assert curl(server, "/?chunked", "-d", "ignored") == b"ignored"


def test_http2__abort_resets_the_stream_and_close_ends_the_connection(server: Server) -> None:
    with connected(server) as client:
        stream = client.get("/?abort")
        reset = client.until(h2.events.StreamReset, stream)
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == 2  # INTERNAL_ERROR
        assert client.content(client.get("/after")).startswith(b"GET /after HTTP/2\r\n")
        last = client.get("/?close")
        assert client.content(last).startswith(b"GET /?close")
        client.until(h2.events.ConnectionTerminated)
        while data := client.socket.recv(MIB):
            client.events += client.h2.receive_data(data)


def test_http2__off_is_a_505() -> None:
    with Server("--http2", "off") as server, server.connect() as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 505 ")


def test_http2__off_is_not_offered_over_tls(certificates: Certificates) -> None:
    with Server("--https", "0", *certificates.options, "--http2", "off") as server:
        said = curl(server, "/", "--http2", "--cacert", str(certificates.ca), protocol="https")
        assert said.startswith(b"GET / HTTP/1.1\r\n")


# --- other clients, and proxies ---


@needs("nghttp")
def test_nghttp(server: Server, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    url = f"http://127.0.0.1:{server.http}/"
    done = subprocess.run(["nghttp", "-d", str(sent), url], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout == content


@needs("h2load")
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_h2load(server: Server, tmp_path: Path, protocol: str) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(bytes(70_000))
    url = f"{protocol}://127.0.0.1:{server.port(protocol)}/"
    words = ["h2load", "-n", "400", "-c", "4", "-m", "50", "-d", str(sent), url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "400 succeeded, 0 failed" in done.stdout, done.stdout


@pytest.fixture
def proxied(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """A proxy's port for HTTP/1.1, which speaks HTTP/2 with a server behind it."""
    with Server() as server, socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
        reserved.close()
        lines: tuple[str, ...]
        if request.param == "haproxy":
            lines = (
                "defaults", " mode http", " timeout connect 9s", " timeout client 9s", " timeout server 9s",
                "frontend f", f" bind 127.0.0.1:{port}", " default_backend b",
                "backend b", f" server s 127.0.0.1:{server.http} proto h2",
            )  # fmt: skip
            words = [str(find("haproxy")), "-db", "-f", str(tmp_path / "conf")]
        else:
            lines = (f"frontend=127.0.0.1,{port};no-tls", f"backend=127.0.0.1,{server.http};;proto=h2", "workers=1")
            words = [str(find("nghttpx")), f"--conf={tmp_path / 'conf'}"]
        (tmp_path / "conf").write_text("\n".join([*lines, ""]), encoding="ascii")
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: _answers(port), "the proxy")
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "proxied",
    [pytest.param("haproxy", marks=needs("haproxy")), pytest.param("nghttpx", marks=needs("nghttpx"))],
    indirect=True,
)
def test_http2__behind_a_proxy(proxied: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000
    sent = tmp_path / "sent"
    sent.write_bytes(content)
    url = f"http://127.0.0.1:{proxied}/x"
    said = subprocess.run([*CURL, url], capture_output=True, timeout=PATIENCE, check=True).stdout
    assert said.startswith(b"GET /x HTTP/2\r\n")
    got = subprocess.run([*CURL, "--data-binary", f"@{sent}", url], capture_output=True, timeout=PATIENCE, check=True)
    assert got.stdout == content


# --- limits, deadlines, drain ---


def test_max_streams__more_are_refused() -> None:
    with Server("--max-streams", "3") as server, connected(server) as client:
        client.until(h2.events.RemoteSettingsChanged)
        client.h2.remote_settings.max_concurrent_streams = 100
        client.h2.remote_settings.acknowledge()
        slow = [client.get("/?delay=300ms") for _ in range(3)]
        reset = client.until(h2.events.StreamReset, client.get("/"))
        assert isinstance(reset, h2.events.StreamReset)
        assert reset.error_code == 7  # REFUSED_STREAM
        for stream in slow:
            assert client.content(stream).startswith(b"GET /?delay")


def test_http2_ping__a_client_that_is_silent_is_pinged_and_then_closed() -> None:
    with Server("--http2-ping", "1s") as server, server.connect() as connection:
        client = Client(connection)
        client.until(h2.events.RemoteSettingsChanged)
        frames = bytearray()
        while data := connection.recv(MIB):  # nothing is answered
            frames += data
        assert b"\0\0\x08\x06\0\0\0\0\0" in frames


def test_drain__streams_under_way_are_finished() -> None:
    with Server() as server, connected(server) as client:
        client.get("/?delay=1s")
        client.content(client.get())  # the one before has come too
        server.process.send_signal(signal.SIGTERM)
        frames = []
        while data := client.socket.recv(MIB):  # h2 takes nothing behind GOAWAY
            frames.append(data)
        said = b"".join(frames)
        assert said.startswith(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff\0\0\0\0") + frame(PING, 0, 0, b"draining"))
        assert frame(GOAWAY, 0, 0, b"\0\0\0\x03\0\0\0\0") in said
        assert b"GET /?delay=1s HTTP/2" in said
        assert server.wait() == 0


def test_keep_alive_timeout__an_idle_connection_gets_goaway() -> None:
    with Server("--keep-alive-timeout", "1s") as server, connected(server) as client:
        client.content(client.get())
        client.until(h2.events.ConnectionTerminated)


# --- what is counted and logged ---


def test_connections_opened_and_bytes_are_counted_by_protocol(certificates: Certificates) -> None:
    swept_often = ("--header-timeout", "1s")
    with Server("--https", "0", "--admin", "0", *certificates.options, *swept_often) as server:
        curl(server, "/", "-d", "hello")
        curl(server, "/", "-d", "hello", "--cacert", str(certificates.ca), protocol="https")
        for protocol in ("h2", "h2c"):
            wait_for(
                lambda protocol=protocol: Page(ask(server).content)(  # type: ignore[misc]
                    "echoserver_connections_opened_total", protocol=protocol
                ),
                f"a connection of {protocol}",
            )
            page = Page(ask(server).content)
            assert page("echoserver_connections_opened_total", protocol=protocol) == 1
            assert page("echoserver_received_bytes_total", protocol=protocol) > 24
            assert page("echoserver_sent_bytes_total", protocol=protocol) > 24


def test_access_log__a_line_for_each_stream() -> None:
    with Server("--access-log", "json", stdout=subprocess.PIPE) as server:
        curl(server, "/a", "-d", "hello")
        curl(server, "/b?status=404")
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.process.stdout is not None
        lines = [json.loads(line) for line in server.process.stdout]
        server.process.stdout.close()
    found = [(each["protocol"], each["method"], each["target"], each["version"], each["status"]) for each in lines]
    assert found == [("h2c", "POST", "/a", "HTTP/2", 200), ("h2c", "GET", "/b?status=404", "HTTP/2", 404)]


# --- WebSocket on a stream (RFC 8441) ---


def websocket(client: Client, *fields: tuple[str, str]) -> int:
    """Ask for one; returns its stream. h2 takes no CONNECT with :protocol for valid, so that it must not look."""
    client.h2.config.validate_outbound_headers = False
    client.until(h2.events.RemoteSettingsChanged)
    stream = client.h2.get_next_available_stream_id()
    said = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
    ]
    client.h2.send_headers(stream, [*said, ("sec-websocket-version", "13"), *fields])
    client.flush()
    return stream


def fields_of(answer: h2.events.ResponseReceived) -> dict[str, str]:
    return {str(name): str(value) for name, value in answer.headers or []}


def tell(client: Client, stream: int, data: bytes) -> None:
    """Send content as the windows allow."""
    while data:
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size, len(data))
        if room <= 0:
            client.events += client.h2.receive_data(client.socket.recv(MIB))
            client.flush()
            continue
        client.h2.send_data(stream, data[:room])
        client.flush()
        data = data[room:]


def hear(client: Client, stream: int, size: int) -> bytes:
    """So many bytes of a stream's content, which its client lets come."""
    while True:
        got = b"".join(
            each.data or b"" for each in client.events
            if isinstance(each, h2.events.DataReceived) and each.stream_id == stream
        )  # fmt: skip
        if len(got) >= size:
            return got
        data = client.socket.recv(MIB)
        assert data, "the connection ended"
        for each in client.h2.receive_data(data):
            client.events.append(each)
            if isinstance(each, h2.events.DataReceived) and each.flow_controlled_length:
                client.h2.acknowledge_received_data(each.flow_controlled_length, stream)
        client.flush()


def test_rfc_8441_messages_come_back_on_the_stream(server: Server) -> None:
    with connected(server) as client:
        stream = websocket(client, ("sec-websocket-protocol", "chat, other"))
        answer = client.until(h2.events.ResponseReceived, stream)
        assert isinstance(answer, h2.events.ResponseReceived)
        fields = fields_of(answer)
        assert fields[":status"] == "200"
        assert fields["sec-websocket-protocol"] == "chat"
        assert not {"upgrade", "connection", "sec-websocket-accept", "sec-websocket-key"} & set(fields)
        large = bytes(range(256)) * 8000
        said = said_by_client(TEXT, b"hello") + said_by_client(BINARY, large) + said_by_client(WS_PING, b"p")
        expected = echo(TEXT, b"hello") + echo(BINARY, large) + echo(PONG, b"p")
        tell(client, stream, said)
        assert hear(client, stream, len(expected)) == expected
        assert client.content(client.get("/beside")).startswith(b"GET /beside HTTP/2")
        tell(client, stream, close(1000))
        client.until(h2.events.StreamEnded, stream)


def test_rfc_8441_a_reset_ends_the_websocket_and_nothing_else(server: Server) -> None:
    with connected(server) as client:
        stream = websocket(client)
        client.until(h2.events.ResponseReceived, stream)
        tell(client, stream, said_by_client(BINARY, bytes(1000))[:500])
        client.h2.reset_stream(stream)
        client.flush()
        assert client.content(client.get("/after")).startswith(b"GET /after HTTP/2")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"sec-websocket-version": "12"}, "400"),
        ({":protocol": "other"}, "501"),
        ({":path": "/?status=503"}, "503"),
    ],
)
def test_rfc_8441_what_is_refused(server: Server, fields: dict[str, str], status: str) -> None:
    with connected(server) as client:
        client.h2.config.validate_outbound_headers = False
        client.until(h2.events.RemoteSettingsChanged)
        said = {
            ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/", ":authority": "a",
            "sec-websocket-version": "13",
        }  # fmt: skip
        client.h2.send_headers(1, list((said | fields).items()))
        client.flush()
        answer = client.until(h2.events.ResponseReceived, 1)
        assert isinstance(answer, h2.events.ResponseReceived)
        assert fields_of(answer)[":status"] == status


# --- what comes before ---


@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_rfc_9113_section_3_4_the_preface_comes_first_or_is_none(server: Server, before: bytes) -> None:
    """A proxy that uses a connection for several clients must not be made to switch it."""
    with server.connect() as connection:
        connection.sendall(before)
        assert connection.recv(MIB).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.recv(MIB).startswith(b"HTTP/1.1 505 ")
