"""TLS, WebSocket, metrics, answers on demand and the access log in containers; minimal says what it does without."""

import hashlib
import json
import re
import ssl
import zlib
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.certificates import Certificates
from tests.image.containers import Variant
from tests.servers import HttpClient, read_exactly, request, wait_for

GET = request("GET /x HTTP/1.1")
CERTIFICATE = ("--tls-cert", "/tls/server.pem", "--tls-key", "/tls/server.key")
MIB = bytes(range(256)) * 4096


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path)
    for each in (tmp_path, *tmp_path.iterdir()):  # the server is another user
        each.chmod(0o755)
    return made


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(variant: Variant, tmp_path: Path, certificates: Certificates, version: ssl.TLSVersion) -> None:
    if variant.target == "minimal":
        code, lines = variant.end("--https", "0", *CERTIFICATE, mounts={tmp_path: "/tls"})
        assert (code, lines) == (3, ["echoserver: --https, --tls: there is no TLS in this build"])
        return
    context = certificates.trusting()
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(*certificates.client("a, b"))
    options = ("--https", "0", "--tls", "0", *CERTIFICATE, "--tls-client-ca", "/tls/ca.pem")
    with variant.serve(*options, mounts={tmp_path: "/tls"}) as server:
        with context.wrap_socket(server.connect("https"), server_hostname="127.0.0.1") as client:
            assert client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            http = HttpClient(client)
            answer = http.ask(request("POST / HTTP/1.1", f"Content-Length: {len(MIB)}", content=MIB))
            assert answer.content == MIB
            assert re.fullmatch(r"CN=a\\, b,.*O=echo & co\\, ltd", answer["x-client-subject"] or "")
            http.file.close()
        with context.wrap_socket(server.connect("tls"), server_hostname="127.0.0.1") as client:
            client.sendall(MIB[:10000])
            assert read_exactly(client, 10000) == MIB[:10000]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics(variant: Variant, workers: str) -> None:
    with variant.serve("--workers", workers) as server, HttpClient(server.connect()) as client:
        if variant.target == "minimal":
            answer = client.ask(request("GET /metrics HTTP/1.1"))
            assert answer.status == 501
            assert b"metrics" in answer.content
            return
        for _ in range(3):
            assert client.ask(GET).status == 200
        page = client.ask(request("GET /metrics HTTP/1.1")).content.decode()
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        answered = [each for each in samples if each.name == "echoserver_requests_total"]
        assert sum(each.value for each in answered if each.labels["status"] == "2xx") == 3
        assert {each.labels["worker"] for each in samples if each.name == "process_resident_memory_bytes"} == set(
            map(str, range(int(workers)))
        )
        assert "echoserver_build_info" in {each.name for each in samples}


HANDSHAKE = request(
    "GET /x HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate",
)  # fmt: skip


def test_websocket(variant: Variant) -> None:
    """Text, and a compressed message (RFC 7692 section 7.2.3.1)."""
    with variant.serve() as server, HttpClient(server.connect()) as client:
        if variant.target == "minimal":
            answer = client.ask(HANDSHAKE)
            assert answer.status == 501
            assert b"WebSocket" in answer.content
            return
        client.send(HANDSHAKE + b"\x81\x82\0\0\0\0hi" + b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.file.read(1)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert client.file.read(4) == b"\x81\x02hi"
        first, size = client.file.read(2)
        assert first == 0xC1
        inflated = zlib.decompressobj(wbits=-15).decompress(client.file.read(size) + b"\0\0\xff\xff")
        assert inflated == b"Hello"


def test_on_demand(variant: Variant) -> None:
    with variant.serve() as server, HttpClient(server.connect()) as client:
        assert client.ask(request("GET /?status=418&size=9&delay=1ms-5ms:50 HTTP/1.1")).status == 418
        content = b"\xff" * 1000
        asked = request("POST /?echo=json HTTP/1.1", f"Content-Length: {len(content)}", content=content)
        described = json.loads(client.ask(asked).content)
        assert described["content"]["sha256"] == hashlib.sha256(content).hexdigest()
        page = client.ask(request("GET /.echo HTTP/1.1"))
        assert (page.status, page["content-type"]) == (200, "text/html; charset=utf-8")


def test_the_access_log(variant: Variant) -> None:
    with variant.serve("--access-log", "json") as server:
        with HttpClient(server.connect()) as client:
            assert client.ask(GET).status == 200
        wait_for(lambda: any('"target"' in line for line in server.container.said().splitlines()), "a line")
        (line,) = [json.loads(each) for each in server.container.said().splitlines() if each.startswith("{")]
        assert (line["method"], line["target"], line["status"]) == ("GET", "/x", 200)


def test_a_health_check_over_tls(variant: Variant, tmp_path: Path, certificates: Certificates) -> None:
    if variant.target == "minimal":
        code, lines = variant.end("healthcheck", "https://localhost:1/")
        assert code == 1
        assert lines[0].startswith("echoserver healthcheck: localhost:1: ")
        return
    with variant.serve("--https", "0", *CERTIFICATE, mounts={tmp_path: "/tls"}) as server:
        assert server.execute("healthcheck", f"https://127.0.0.1:{server.port('https')}/healthz") == 0
