"""HTTP content of all sizes, sent in all ways: what comes back is what was sent.

Modules: protocols.http1.gather, transport.readers.
"""

import os
import random
import socket
import threading
import time

import pytest

from tests.servers import HttpClient, Server, chunks, let_read, read_exactly, request, sending

KIB, MIB = 1 << 10, 1 << 20
SIZES = {
    "5 B": 5, "64 KiB": 64 * KIB, "256 KiB": 256 * KIB, "256 KiB + 1": 256 * KIB + 1, "300 KiB": 300 * KIB,
    "1 MiB": MIB, "5 MiB": 5 * MIB, "16 MiB": 16 * MIB, "16 MiB + 1": 16 * MIB + 1, "20 MiB": 20 * MIB,
}  # fmt: skip
"""--buffer-limit is 16 MiB: up to that content is received whole, more is relayed."""

LOOPS = ["uvloop", "asyncio"]
GET = request("GET / HTTP/1.1")

by_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)


def post(size: int, *fields: str, method: str = "POST") -> bytes:
    return request(f"{method} / HTTP/1.1", f"Content-Length: {size}", *fields)


def assert_echo(client: HttpClient, content: bytes) -> None:
    answer = client.answer()
    assert (answer.status, answer["content-length"]) == (200, str(len(content)))
    assert answer.content == content


@by_size
@pytest.mark.parametrize("way", ["whole", "in pieces", "after its head", "after some of its head"])
def test_content_comes_back(server: Server, client: HttpClient, size: int, way: str) -> None:
    """Twice on one connection, each time other bytes."""
    head = post(size)
    for _ in range(2):
        content = os.urandom(size)
        if way == "after its head":
            client.send(head)
            let_read(server)
            with sending(client.socket, content):
                assert_echo(client, content)
        elif way == "after some of its head":
            client.send(head[:30])
            let_read(server)
            with sending(client.socket, head[30:] + content):
                assert_echo(client, content)
        elif way == "in pieces":
            sender = threading.Thread(target=client.send, args=(head + content, 1 + size // 99), daemon=True)
            sender.start()
            assert_echo(client, content)
            sender.join()
        else:
            with sending(client.socket, head + content):
                assert_echo(client, content)


@by_size
def test_content_is_followed_by_other_requests(client: HttpClient, size: int) -> None:
    """All in one go: where the content ends the next request begins, be it the same or another."""
    first, second = os.urandom(size), os.urandom(size)
    sent = [post(size), first, GET, post(size), second, post(size), first, post(3), b"abc", GET]
    with sending(client.socket, b"".join(sent)):
        for expected in (first, GET, second, first, b"abc", GET):
            assert_echo(client, expected)


def test_a_request_like_the_last_one_but_for_its_length(server: Server, client: HttpClient) -> None:
    """A receiver that is ready for the same request again gets one that only begins like it, whole and in pieces."""
    for size in (400_000, 500_000, 400_000, 4_000_000, 400_000, 5, 400_000):
        for piece in (0, 20):
            head, content = post(size), os.urandom(size)
            client.send(head, piece)
            if piece:
                let_read(server)
            with sending(client.socket, content):
                assert_echo(client, content)
            client.send(GET[:10])
            let_read(server)
            client.send(GET[10:])
            assert_echo(client, GET)


def test_the_same_request_again_in_every_split_of_its_head(server: Server, client: HttpClient) -> None:
    head, content = post(300_000), os.urandom(300_000)
    for split in range(0, len(head) + 3, 3):
        sent = head + content
        client.send(sent[:split])
        let_read(server)
        with sending(client.socket, sent[split:]):
            assert_echo(client, content)


@by_size
def test_head_with_content_gets_none(client: HttpClient, size: int) -> None:
    for _ in range(2):
        with sending(client.socket, post(size, method="HEAD") + bytes(size) + GET):
            answer = client.answer("HEAD")
            assert (answer.status, answer["content-length"], answer.content) == (200, str(size), b"")
            assert_echo(client, GET)


@by_size
def test_content_before_a_close(client: HttpClient, size: int) -> None:
    content = os.urandom(size)
    with sending(client.socket, post(size, "Connection: close") + content):
        assert_echo(client, content)
    assert client.rest() == b""


@by_size
def test_content_with_upgrade(client: HttpClient, size: int) -> None:
    content = os.urandom(size)
    for _ in range(2):
        with sending(client.socket, post(size, "Connection: upgrade", "Upgrade: foo") + content + GET):
            assert_echo(client, content)
            assert_echo(client, GET)


@by_size
def test_expect_on_one_connection(client: HttpClient, size: int) -> None:
    """Each time the client is told to go on; not where it has not waited for that."""
    content = os.urandom(size)
    head = post(size, "Expect: 100-continue")
    for waits in (True, True, False, True):
        if waits:
            client.send(head)
            assert client.file.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        with sending(client.socket, content if waits else head + content):
            assert client.file.peek(12)[:12] == b"HTTP/1.1 200"
            assert_echo(client, content)


def test_torn_writes_come_back_whole(client: HttpClient) -> None:
    draw = random.Random(7)
    content = draw.randbytes(MIB)
    sent = post(MIB) + content + GET

    def send() -> None:
        position = 0
        while position < len(sent):
            step = draw.choice([1, 2, 7, 100, 1460, 5000, 70_000])
            client.socket.sendall(sent[position : position + step])
            position += step

    for _ in range(2):
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        assert_echo(client, content)
        assert_echo(client, GET)
        sender.join()


@pytest.mark.parametrize("size", [1, 10, 4096, 65_537, MIB], ids=lambda size: f"{size} B")
def test_chunked_content_comes_back(client: HttpClient, size: int) -> None:
    """1 MiB in chunks of a size (100 KB of the smallest ones)."""
    content = os.urandom(MIB if size > 1 else 100_000)
    sent = chunks(*(content[position : position + size] for position in range(0, len(content), size)), b"")
    for piece in (0, 50_001):
        with sending(client.socket, request("POST / HTTP/1.1", "Transfer-Encoding: chunked") if piece else b""):
            pass
        head = b"" if piece else request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
        with sending(client.socket, head + sent + GET):
            answer = client.answer()
            assert (answer.status, answer["content-length"], answer["transfer-encoding"]) == (200, None, "chunked")
            assert answer.content == content
            assert_echo(client, GET)


def test_content_of_many_connections_is_kept_apart(server: Server) -> None:
    """What is received into buffers that are used again goes back to whom it came from."""
    clients = [HttpClient(server.connect()) for _ in range(10)]
    try:
        for _ in range(5):
            contents = [os.urandom(700_000) for _ in clients]
            for part in (slice(0, 350_000), slice(350_000, 700_000)):
                for client, content in zip(clients, contents, strict=True):
                    client.send((b"" if part.start else post(700_000)) + content[part])
            for client, content in zip(clients, contents, strict=True):
                assert_echo(client, content)
    finally:
        for client in clients:
            client.__exit__()


def test_12_mib_may_be_sent_before_anything_is_read(client: HttpClient) -> None:
    for fields in ((), ("Connection: close",)):
        content = os.urandom(12 * MIB)
        client.send(post(len(content), *fields) + content)
        assert_echo(client, content)
    assert client.rest() == b""


@pytest.mark.parametrize("count", [192, pytest.param(1024, marks=pytest.mark.slow)], ids=lambda count: f"{count} MiB")
@pytest.mark.parametrize("loop", LOOPS)
def test_much_is_relayed(loop: str, count: int) -> None:
    """Neither side holds it: the client compares as it comes, the server's memory stays as it is.

    --buffer-limit, for a client that reads slowly, and as much again for the allocator. asyncio's transport (CPython
    3.11) copies what it is given of that while the server still has it, and the copy has room to grow.
    """
    block = os.urandom(MIB)
    allowed = {"uvloop": 32, "asyncio": 40}[loop] * MIB
    with Server("--loop", loop) as server, server.connect() as client:
        before = server.resident()

        def send() -> None:
            client.sendall(post(count * MIB))
            for _ in range(count):
                client.sendall(block)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(client, 1)
        assert b"\r\nContent-Length: %d\r\n" % (count * MIB) in head
        twice, buffer, got, most = memoryview(block + block), memoryview(bytearray(MIB)), 0, 0
        while got < count * MIB:
            size = client.recv_into(buffer)
            assert size, f"the connection ended after {got} bytes"
            assert buffer[:size] == twice[got % MIB : got % MIB + size], f"other bytes after {got}"
            if got // (24 * MIB) != (got + size) // (24 * MIB):
                time.sleep(0.2)  # the server has to keep what it may
                most = max(most, server.resident() - before)
            got += size
        sender.join()
        client.sendall(GET)
        assert read_exactly(client, 15) == b"HTTP/1.1 200 OK"
        assert most < allowed, f"{most / MIB:.1f} MiB"


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_a_connection_that_ends_behind_its_client_ends_once(loop: str, protocol: str) -> None:
    """What waits for the client is sent, then the connection is closed: the server says nothing of a fault."""
    content = os.urandom(12 * MIB)
    with Server("--loop", loop) as server, server.connect(protocol) as client:
        client.sendall((post(len(content), "Connection: close") if protocol == "http" else b"") + content)
        let_read(server)
        if protocol == "tcp":
            client.shutdown(socket.SHUT_WR)
        received = bytearray()
        while part := client.recv(MIB):
            received += part
        assert received[-len(content) :] == content


def test_what_comes_behind_the_last_relayed_content_destroys_no_answer(client: HttpClient) -> None:
    """More than --buffer-limit, and the connection is to be closed: requests behind it are read and dropped."""
    content = os.urandom(17 * MIB)
    with sending(client.socket, post(len(content), "Connection: close") + content + GET * 50_000):
        assert_echo(client, content)
        assert client.rest() == b""
