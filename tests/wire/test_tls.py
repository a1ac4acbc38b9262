"""TLS over real sockets: who gets in, what is echoed, and how connections end.

Modules: layers.tls_context, transport.layer.
"""

import contextlib
import ctypes
import ctypes.util
import os
import re
import select
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.certificates import Certificates
from tests.programs import needs
from tests.servers import COMMAND, PATIENCE, PYTHON, HttpClient, Server, read_all, request, sending, wait_for
from tests.tls_bridge import Bridge
from tests.websockets import TEXT, echo, frame, upgrade

MIB = 1 << 20
GET = request("GET / HTTP/1.1")
LOOPS = ["uvloop", "asyncio"]
LIBSSL = ctypes.util.find_library("ssl")
CURL = ("curl", "--silent", "--show-error", "--max-time", str(int(PATIENCE)), "--noproxy", "*")

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def start(certificates: Certificates, *options: str, allow_errors: bool = False) -> Server:
    return Server("--https", "0", "--tls", "0", *certificates.options, *options, allow_errors=allow_errors)


@pytest.fixture(scope="module", params=LOOPS)
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    with start(certificates, "--loop", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def strict(certificates: Certificates) -> Iterator[Server]:
    """It asks for client certificates."""
    with start(certificates, "--tls-client-ca", str(certificates.ca)) as running:
        yield running


def secured(
    server: Server, certificates: Certificates, protocol: str = "tls", context: ssl.SSLContext | None = None
) -> ssl.SSLSocket:
    """A connection of the standard library's."""
    context = context or certificates.trusting()
    return context.wrap_socket(server.connect(protocol), server_hostname="127.0.0.1", suppress_ragged_eofs=False)


class Bare:
    """A TLS client whose records go out when and how the test says; nothing is read but by receive()."""

    def __init__(self, server: Server, certificates: Certificates, protocol: str = "tls") -> None:
        self.socket = server.connect(protocol)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = certificates.trusting().wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.incoming.write(self.socket.recv(MIB))
            else:
                break
        self.socket.sendall(self.outgoing.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def encrypt(self, *pieces: bytes, notify: bool = False) -> bytes:
        """The pieces as one record each (or more, if it is large), and close_notify."""
        for piece in pieces:
            self.ssl.write(piece)
        if notify:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.ssl.unwrap()
        return self.outgoing.read()

    def receive(self, size: int = -1) -> bytes:
        """size bytes, or all until close_notify, behind which FIN has to come."""
        got = bytearray()
        while size < 0 or len(got) < size:
            try:
                data = self.ssl.read(size - len(got) if size >= 0 else MIB)
            except ssl.SSLWantReadError:
                read = self.socket.recv(MIB)
                assert read, f"FIN without close_notify, after {len(got)} bytes"
                self.incoming.write(read)
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            if not data:
                assert size < 0
                assert self.socket.recv(1) == b""
                break
            got += data
        return bytes(got)


def counted(server: Server, name: str, **labels: str) -> float:
    """A counter's value, all workers together, as /metrics says."""
    with HttpClient(server.connect()) as client:
        page = client.ask(request("GET /metrics HTTP/1.1")).content.decode()
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    values = re.findall(rf"^echoserver_{name}_total{{([^}}]*)}} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for found, value in values if wanted <= set(found.split(",")))


@contextlib.contextmanager
def counts_one(server: Server, name: str, **labels: str) -> Iterator[None]:
    before = counted(server, name, **labels)
    yield
    wait_for(lambda: counted(server, name, **labels) > before, f"{name} {labels} to be counted")
    assert counted(server, name, **labels) == before + 1


# --- curl ---

curl_is_here = needs("curl")
openssl_is_here = needs("openssl")


def curl(server: Server, *options: str) -> subprocess.CompletedProcess[bytes]:
    url = f"https://127.0.0.1:{server.port('https')}/"
    return subprocess.run([*CURL, *options, url], capture_output=True, timeout=2 * PATIENCE, check=False)


@curl_is_here
@pytest.mark.parametrize("options", [(), ("--tlsv1.3",), ("--tls-max", "1.2"), ("--http1.0",)])
def test_curl(server: Server, certificates: Certificates, tmp_path: Path, options: tuple[str, ...]) -> None:
    trusting = ("--cacert", str(certificates.ca))
    assert b"host: 127.0.0.1:" in curl(server, *options, *trusting).stdout.lower()
    content = tmp_path / "content"
    content.write_bytes(os.urandom(MIB))
    done = curl(server, *options, *trusting, "--data-binary", f"@{content}")
    assert done.stdout == content.read_bytes(), done.stderr


@curl_is_here
def test_curl_without_the_authority(server: Server) -> None:
    done = curl(server)
    assert (done.returncode, done.stdout) == (60, b"")
    assert curl(server, "--insecure").returncode == 0


@curl_is_here
@pytest.mark.parametrize(("offered", "chosen", "status"), [("2", "h2", "2 200"), ("1.1", "http/1.1", "1.1 200 OK")])
def test_https__what_alpn_chooses(
    server: Server, certificates: Certificates, offered: str, chosen: str, status: str
) -> None:
    said = curl(server, "--verbose", f"--http{offered}", "--cacert", str(certificates.ca)).stderr.decode()
    assert re.search(rf"ALPN: (server accepted|server did not.*) ?{chosen}", said), said
    assert f"HTTP/{status}" in said


# --- what is offered ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(server: Server, certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = certificates.trusting()
    context.minimum_version = context.maximum_version = version
    with secured(server, certificates, context=context) as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        assert client.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_1_1_is_refused(server: Server, certificates: Certificates) -> None:
    context = certificates.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with counts_one(server, "errors", reason="tls_handshake"), pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        secured(server, certificates, context=context)


@pytest.mark.parametrize(
    ("cipher", "key"),
    [(f"ECDHE-{key}-{cipher}", key) for key in ("ECDSA", "RSA")
     for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")],
)  # fmt: skip
def test_ciphers(tmp_path: Path, cipher: str, key: str) -> None:
    certificates = Certificates(tmp_path, key)
    context = certificates.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with start(certificates) as server:
        with secured(server, certificates, context=context) as client:
            assert (client.cipher() or "")[0] == cipher
        for refused in ("AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256"):
            context.set_ciphers(refused)
            with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
                secured(server, certificates, context=context)


def s_client(server: Server, certificates: Certificates, *options: str) -> subprocess.Popen[bytes]:
    address = f"127.0.0.1:{server.port('tls')}"
    return subprocess.Popen(
        ["openssl", "s_client", "-connect", address, "-CAfile", str(certificates.ca), *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@openssl_is_here
def test_openssl_client(server: Server, certificates: Certificates) -> None:
    done = s_client(server, certificates, "-quiet", "-verify_return_error", "-no_ign_eof")
    assert done.stdin is not None
    assert done.stdout is not None
    with done:
        done.stdin.write(b"hello, echo\n")
        done.stdin.flush()
        while line := done.stdout.readline():
            if line == b"hello, echo\n":
                break
        assert line
        done.stdin.close()


@openssl_is_here
@pytest.mark.skipif(COMMAND != PYTHON, reason="a static executable can't set them (docs/operating.md)")
def test_groups_are_mozillas(server: Server, certificates: Certificates) -> None:
    taken = set()
    for group in ("X25519", "P-256", "P-384", "X448", "P-521", "ffdhe2048"):
        said = s_client(server, certificates, "-groups", group, "-tls1_3", "-no_ign_eof").communicate(b"")[0]
        if b"\nServer Temp Key: " in said:
            taken.add(group)
    assert taken == {"X25519", "P-256", "P-384"}


@openssl_is_here
@pytest.mark.parametrize(("command", "option", "goes_on"), [("K", "-tls1_3", True), ("R", "-tls1_2", False)])
def test_key_updates_and_renegotiation(
    server: Server, certificates: Certificates, command: str, option: str, goes_on: bool
) -> None:
    """A client may change TLS 1.3's keys in the middle of all; TLS 1.2's renegotiation is refused."""
    done = s_client(server, certificates, option)
    assert done.stdin is not None
    assert done.stdout is not None
    with done:
        for line in (b"first\n", command.encode() + b"\n", b"second\n"):
            with contextlib.suppress(BrokenPipeError):
                done.stdin.write(line)
                done.stdin.flush()
            if line == b"second\n" and not goes_on:
                break
            if len(line) > 2:
                while (found := done.stdout.readline()) != line:
                    assert found, line
            else:
                while not done.stdout.readline().startswith((b"KEYUPDATE", b"RENEGOTIATING")):
                    pass
        with contextlib.suppress(BrokenPipeError):  # what could not be flushed is tried again
            done.stdin.close()
        rest = done.stdout.read()
    if not goes_on:
        assert b"no renegotiation" in rest


# --- what comes to nothing ---


@pytest.mark.covers("--https", "--tls")
@pytest.mark.parametrize("protocol", ["https", "tls"])
@pytest.mark.parametrize(
    "sent", [GET, request("POST / HTTP/1.1", content=bytes(10 * MIB)), b"CONNECT a:1 HTTP/1.1\r\n"]
)
def test_plain_http(server: Server, protocol: str, sent: bytes) -> None:
    """It ends with FIN: what the client goes on sending causes no reset."""
    with counts_one(server, "errors", reason="plain_http"), server.connect(protocol) as client:
        with sending(client, sent, fin=True):
            received = read_all(client)
        assert len(received) < 16


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"hello, echo\r\n", bytes(1000)])
def test_garbage(server: Server, sent: bytes) -> None:
    with counts_one(server, "errors", reason="tls_handshake"), server.connect("tls") as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        read_all(client)


def test_garbage_after_the_handshake(server: Server, certificates: Certificates) -> None:
    for sent in (b"\x17\x03\x03\x00\x20" + bytes(32), b"?" * 100):
        with Bare(server, certificates) as client:
            client.socket.sendall(client.encrypt(b"x") + sent)
            with contextlib.suppress(ConnectionResetError):
                read_all(client.socket)


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


@on_each_loop
@pytest.mark.parametrize("sent", [b"", client_hello()[:100], client_hello()], ids=["nothing", "half", "a hello"])
def test_header_timeout__a_handshake_has_its_time(certificates: Certificates, loop: str, sent: bytes) -> None:
    with (
        start(certificates, "--loop", loop, "--header-timeout", "300ms") as server,
        counts_one(server, "timeouts", deadline="tls_handshake"),
        server.connect("tls") as client,
    ):
        client.sendall(sent)
        read_all(client)


def test_connections_without_a_word_count_as_nothing(server: Server) -> None:
    before = counted(server, "errors"), counted(server, "timeouts")
    for sent in (b"", client_hello()[:100]):
        with server.connect("tls") as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
    assert (counted(server, "errors"), counted(server, "timeouts")) == before


def test_max_connections__handshakes_count(certificates: Certificates) -> None:
    """Those that are pending take places; who comes when there is none is told so after the handshake."""
    with start(certificates, "--max-connections", "2") as server:
        pending = [server.connect("https") for _ in range(2)]
        with HttpClient(secured(server, certificates, "https")) as client:
            assert client.ask(GET).status == 503
        pending.pop().close()

        def served() -> bool:
            with HttpClient(secured(server, certificates, "https")) as client:
                return client.ask(GET).status == 200

        wait_for(served, "a place for another connection")
        pending.pop().close()


# --- sessions ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("known", [False, True])
def test_a_session_is_resumed_with_any_worker(certificates: Certificates, version: ssl.TLSVersion, known: bool) -> None:
    """By its ticket, and the client is still known by its certificate."""
    context = certificates.trusting()
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*certificates.client("resumed"))
    options = ("--tls-client-ca", str(certificates.ca)) if known else ()
    with start(certificates, "--workers", "2", "--served-by", "on", *options) as server:
        session, by = None, set[str]()
        for number in range(100):
            connected = context.wrap_socket(server.connect("https"), server_hostname="127.0.0.1", session=session)
            with HttpClient(connected) as client:
                answer = client.ask(GET)
                assert connected.session_reused == bool(number)
                assert ("resumed" in (answer["x-client-subject"] or "")) == known
                by.add(answer["x-served-by"] or "")
                session = connected.session
                if len(by) == 2 and number > 5:
                    break
        assert len(by) == 2


# --- client certificates ---


def why_refused(server: Server, certificates: Certificates, context: ssl.SSLContext, behind: bytes) -> str:
    """The alert that a client gets that sends so much as soon as it can."""
    try:
        with secured(server, certificates, context=context) as client:
            with contextlib.suppress(BrokenPipeError):
                client.sendall(behind)
            client.recv(1)
    except ssl.SSLError as error:
        return str(error.reason)
    return ""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("behind", [0, 10 * MIB])
def test_tls_client_ca__a_client_without_a_certificate(
    strict: Server, certificates: Certificates, version: ssl.TLSVersion, behind: int
) -> None:
    """The client is told why, also where it has begun to send: with TLS 1.3 it need not wait."""
    context = certificates.trusting()
    context.minimum_version = context.maximum_version = version
    with counts_one(strict, "errors", reason="tls_handshake"):
        reason = why_refused(strict, certificates, context, bytes(behind))
    assert reason.endswith(("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE"))


def test_tls_client_ca__a_certificate_of_another(strict: Server, certificates: Certificates, tmp_path: Path) -> None:
    context = certificates.trusting()
    context.load_cert_chain(*Certificates(tmp_path).client("stranger"))
    with counts_one(strict, "errors", reason="tls_handshake"):
        assert why_refused(strict, certificates, context, b"").endswith("UNKNOWN_CA")


def with_certificate(strict: Server, certificates: Certificates, name: str) -> HttpClient:
    context = certificates.trusting()
    context.load_cert_chain(*certificates.client(name))
    bridge = Bridge(
        strict.connect("https"), context
    )  # a socket of ssl's must not send in one thread and read in another
    bridge.start()
    return HttpClient(bridge.end)


def test_tls_client_ca__subject_is_in_every_echo_and_in_no_error(strict: Server, certificates: Certificates) -> None:
    chunked = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
    asked = [GET, request("HEAD / HTTP/1.1"), chunked + b"5\r\nhello\r\n0\r\n\r\n"] + [
        request("POST / HTTP/1.1", f"Content-Length: {size}", content=bytes(size))
        for size in (0, 5, 5000, 70_000, MIB, 17 * MIB)
    ]
    with with_certificate(strict, certificates, "alice") as client:
        for sent in (*asked, *reversed(asked)):
            for _ in range(3):
                with sending(client.socket, sent):
                    answer = client.answer(sent.split(b" ")[0].decode())
                assert re.fullmatch(r"CN=alice,OU=[^,]+,O=echo & co\\, ltd", answer["x-client-subject"] or "")
        client.send(chunked + b"5\r\nhello\r\n")
        assert b"\r\nX-Client-Subject: CN=alice," in b"".join(iter(client.file.readline, b"\r\n"))
        assert client.file.readline() == b"5\r\n"
        assert client.file.readline() == b"hello\r\n"
        client.send(b"0\r\n\r\n")
        assert client.file.read(5) == b"0\r\n\r\n"
        assert client.ask(request("GET /healthz HTTP/1.1"))["x-client-subject"] is None
        assert client.ask(request("GET / HTTP/1.1", "Connection: close"))["x-client-subject"]
        assert client.rest() == b""
    with with_certificate(strict, certificates, "alice") as client:
        answer = client.ask(b"?\r\n\r\n")
        assert (answer.status, answer["x-client-subject"]) == (400, None)


def test_a_subject_is_in_the_answer_to_an_upgrade(strict: Server, certificates: Certificates) -> None:
    with with_certificate(strict, certificates, "alice") as client:
        client.send(GET + upgrade() + frame(TEXT, b"hello"))
        assert client.answer()["x-client-subject"]
        head = b"".join(iter(client.file.readline, b"\r\n"))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"\r\nX-Client-Subject: CN=alice," in head
        assert client.file.read(7) == echo(TEXT, b"hello")


@pytest.mark.parametrize(
    "name", [' a,b+c"d\\e;<f>=#', "#x ", "Jürgen", "\U0001f600", "a\r\nX-Evil: 1", "a\0b", "x" * 64, "\t", "  "]
)
def test_strange_subjects(strict: Server, certificates: Certificates, name: str) -> None:
    from cryptography import x509  # noqa: PLC0415

    with with_certificate(strict, certificates, name) as client:
        answer = client.ask(GET)
        assert answer["x-evil"] is None
        subject = x509.Name.from_rfc4514_string(answer["x-client-subject"] or "")
        assert subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == name


# --- records and ends ---


@pytest.mark.parametrize("size", [1, 100, 20_000])
def test_records_of_all_sizes_in_one_read_and_in_pieces(server: Server, certificates: Certificates, size: int) -> None:
    data = os.urandom(max(300, 3 * size))
    pieces = [data[position : position + size] for position in range(0, len(data), size)]
    with Bare(server, certificates) as client:
        for step in (1 << 20, 1000, 7):
            encrypted = client.encrypt(*pieces)
            with sending(client.socket, b""):
                for position in range(0, len(encrypted), step):
                    client.socket.sendall(encrypted[position : position + step])
            assert client.receive(len(data)) == data


@pytest.mark.parametrize("size", [0, 5, 20_000, 300_000])
@pytest.mark.parametrize("fin", [True, False])
def test_close_notify_right_behind_the_last_bytes(
    server: Server, certificates: Certificates, size: int, fin: bool
) -> None:
    """In one segment with them, and with or without FIN."""
    data = os.urandom(size)
    for pieces in ([data], [data[:3], data[3:]]):
        with Bare(server, certificates) as client:
            sent = client.encrypt(*filter(None, pieces), notify=True)
            with sending(client.socket, sent, fin=fin):
                assert client.receive() == data


@pytest.mark.parametrize("end", ["close_notify", "FIN", "both"])
def test_tls__all_comes_after_a_half_close(server: Server, certificates: Certificates, end: str) -> None:
    """Much more than the kernel keeps, and nothing is read before the end was sent."""
    data = os.urandom(14 * MIB)
    with Bare(server, certificates) as client:
        client.socket.sendall(client.encrypt(data, notify=end != "FIN"))
        if end != "close_notify":
            client.socket.shutdown(socket.SHUT_WR)
        assert client.receive() == data


def test_tls__20_mb_after_a_half_close(server: Server, certificates: Certificates) -> None:
    data = os.urandom(20_000_000)
    with Bare(server, certificates) as client, sending(client.socket, client.encrypt(data, notify=True)):
        assert client.receive() == data


@on_each_loop
def test_buffer_limit__a_client_that_never_reads_is_bounded(certificates: Certificates, loop: str) -> None:
    with start(certificates, "--loop", loop, "--buffer-limit", "4MiB") as server, Bare(server, certificates) as client:
        before, sent, view = server.resident(), 0, memoryview(b"")
        block = os.urandom(1 << 16)
        client.socket.setblocking(False)
        while True:
            view = view or memoryview(client.encrypt(block))
            if not select.select([], [client.socket], [], 1)[1]:
                break
            with contextlib.suppress(BlockingIOError):
                view = view[client.socket.send(view) :]
            sent += not view
        grown = server.resident() - before
        client.socket.settimeout(PATIENCE)
        with sending(client.socket, bytes(view) + client.encrypt(b"end", notify=True)):
            received = client.receive()
        assert received == block * (sent + bool(view)) + b"end"
        assert grown < 12 * MIB, f"{grown / MIB:.1f} MiB"


@pytest.mark.skipif(not LIBSSL, reason="there is no libssl that ctypes could load")
@pytest.mark.slow
@on_each_loop
def test_buffer_limit__a_client_that_only_asks_for_new_keys_is_bounded(certificates: Certificates, loop: str) -> None:
    """Each KeyUpdate wants one in return (RFC 8446 section 4.6.3): answers that nobody reads are kept like any echo."""
    kernel = int(Path("/proc/sys/net/ipv4/tcp_rmem").read_text(encoding="ascii").split()[2])
    most = kernel + 16 * MIB  # of requests: more than the kernel and the limit hold
    with start(certificates, "--loop", loop, "--buffer-limit", "1MiB") as server, server.connect("tls") as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ask = asks_for_keys(client)
        before, sent = server.resident(), 0
        while sent < most:
            if ask():
                sent += 27  # a record
            elif not select.select([], [client], [], 1)[1]:
                break
        assert sent < most, "it is read on and on"
        assert server.resident() - before < 8 * MIB


def asks_for_keys(client: socket.socket) -> Callable[[], bool]:
    """Shake hands on the socket, and return what sends one KeyUpdate(update_requested); False: there is no room.

    The standard library can't send one.
    """
    lib = ctypes.CDLL(LIBSSL)
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    client.setblocking(True)
    connection = ctypes.c_void_p(
        lib.SSL_new(ctypes.c_void_p(lib.SSL_CTX_new(ctypes.c_void_p(lib.TLS_client_method()))))
    )
    assert lib.SSL_set_fd(connection, client.fileno()) == 1
    assert lib.SSL_connect(connection) == 1
    assert lib.SSL_write(connection, b"x", 1) == 1
    client.setblocking(False)
    pending = False

    def ask() -> bool:
        nonlocal pending
        if not pending:
            assert lib.SSL_key_update(connection, 1) == 1
        pending = lib.SSL_do_handshake(connection) != 1
        return not pending

    return ask


def test_an_error_reaches_a_client_that_goes_on(certificates: Certificates) -> None:
    """413: what still comes, in records behind it or in another read, is dropped and no fault."""
    post = request("POST / HTTP/1.1", "Content-Length: 100000000")
    with start(certificates, "--max-body", "1MiB") as server:
        for sent in ([post, bytes(16_000), bytes(16_000)], [post + bytes(5)], [b"?\r\n\r\n", *[b"x"] * 20_000]):
            for behind in (b"", bytes(50), b"\x17\x03\x03\x00\x20" + bytes(32)):
                with Bare(server, certificates, "https") as client:
                    data = client.encrypt(*sent)
                    with sending(client.socket, data + client.encrypt(bytes(3 * MIB)) + behind):
                        answer = client.receive()
                    assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))


def test_requests_behind_the_last_one_do_not_destroy_its_answer(server: Server, certificates: Certificates) -> None:
    size = 100_000
    last = request("POST / HTTP/1.1", f"Content-Length: {size}", "Connection: close")
    with Bare(server, certificates, "https") as client:
        sent = client.encrypt(last, bytes(size), *[GET] * 2000)
        with sending(client.socket, sent):
            assert len(client.receive()) > size


def test_resets_leave_no_trace(server: Server, certificates: Certificates) -> None:
    for protocol in ("tls", "https"):
        for pieces in ([bytes(100)], [bytes(300_000)], [GET] * 5000):
            client = Bare(server, certificates, protocol)
            client.socket.sendall(client.encrypt(*pieces))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.socket.close()
    with Bare(server, certificates) as client:
        client.socket.sendall(client.encrypt(b"still here"))
        assert client.receive(10) == b"still here"


@on_each_loop
def test_idle_timeout__closes_and_is_counted(certificates: Certificates, loop: str) -> None:
    with (
        start(certificates, "--loop", loop, "--idle-timeout", "1s") as server,
        counts_one(server, "timeouts", deadline="idle"),
        Bare(server, certificates) as client,
    ):
        client.socket.sendall(client.encrypt(b"x"))
        assert client.receive(1) == b"x"
        read_all(client.socket)


@on_each_loop
def test_a_drain(certificates: Certificates, loop: str) -> None:
    """Idle connections are closed, with close_notify; content under way is echoed; a handshake may still come."""
    with start(certificates, "--loop", loop) as server:
        idle, busy = (Bare(server, certificates, "https") for _ in range(2))
        pending = server.connect("https")
        idle.socket.sendall(idle.encrypt(GET))
        idle.receive(50)
        content = os.urandom(MIB)
        busy.socket.sendall(busy.encrypt(request("POST / HTTP/1.1", f"Content-Length: {MIB}"), content[:300_000]))
        # a byte of TLS that is answered shows that what was sent before has been read
        with Bare(server, certificates) as last:
            last.socket.sendall(last.encrypt(b"x"))
            last.receive(1)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: server.said("draining"), "the drain")
        idle.receive()
        busy.socket.sendall(busy.encrypt(content[300_000:]))
        assert busy.receive().endswith(content)
        for client in (idle.socket, busy.socket, pending):
            client.close()
        assert server.wait() == 0


# --- certificates that change ---


@on_each_loop
def test_tls_cert__a_renewed_one_is_for_new_connections(tmp_path: Path, loop: str) -> None:
    certificates = Certificates(tmp_path)
    with start(certificates, "--loop", loop, allow_errors=True) as server:

        def serial() -> str:
            with secured(server, certificates) as client:
                return str((client.getpeercert() or {})["serialNumber"])

        with secured(server, certificates) as before:
            first = serial()
            certificates.renew()
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: any("reloaded" in line for line in server.lines), "the reload")
            second = serial()
            assert first != second
            certificates.cert.write_text("broken")
            server.process.send_signal(signal.SIGHUP)
            wait_for(
                lambda: any(
                    "certificates were not reloaded, those in use stay: --tls-cert" in line for line in server.lines
                ),
                "an error",
            )
            assert serial() == second
            before.sendall(b"still here")
            assert before.recv(100) == b"still here"
        assert not any("Traceback" in line for line in server.lines)


# --- starts that fail ---


@pytest.mark.covers("--tls-cert", "--tls-key", "--tls-client-ca")
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cert", None, "no such file"),
        ("key", None, "no such file"),
        ("ca", None, "no such file"),
        ("cert", b"", "there is no certificate in it"),
        ("key", b"", "there is no private key in it"),
        ("ca", b"", "there is no certificate in it"),
        ("ca", b"garbage", "there is no certificate in it"),
        ("cert", b"garbage", "there is no certificate in it"),
        ("cert", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "there is no certificate in it"),
        ("key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "there is no private key in it"),
    ],
)  # fmt: skip
def test_a_start_that_fails_says_why(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    certificates = Certificates(tmp_path)
    path = {"cert": certificates.cert, "key": certificates.key, "ca": certificates.ca}[file]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert_not_started(certificates, {"cert": "--tls-cert", "key": "--tls-key", "ca": "--tls-client-ca"}[file], said)


def assert_not_started(certificates: Certificates, option: str, said: str) -> None:
    server = start(certificates, "--tls-client-ca", str(certificates.ca), allow_errors=True)
    assert server.wait() == 3
    server.__exit__(None, None, None)
    (line,) = server.lines
    assert f"{option} {certificates.ca.parent}" in line
    assert said in line


def test_tls_key__that_is_another_ones(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    before = certificates.key.read_bytes()
    certificates.renew()
    certificates.key.write_bytes(before)
    assert_not_started(certificates, "--tls-key", "the key does not match the certificate")


def test_tls_key__with_a_passphrase(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    certificates = Certificates(tmp_path)
    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    certificates.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert_not_started(certificates, "--tls-key", "the key is encrypted")
