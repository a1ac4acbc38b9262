"""TCP echo over real sockets.

Modules: protocols.tcp.echo, protocols.tcp.raw.
"""

import os
import random
import socket
import time
from pathlib import Path

import pytest

from tests.servers import Server, fill, read_all, read_exactly, sending, wait_for


@pytest.mark.parametrize("size", [1, 64, 4096, 65536, 1 << 20])
def test_the_same_bytes_come_back(server: Server, size: int) -> None:
    data = os.urandom(size)
    with server.connect("tcp") as client:
        for _ in range(3):
            with sending(client, data):
                assert read_exactly(client, size) == data


@pytest.mark.parametrize("options", [(), ("--idle-timeout", "60s")])
def test_much_and_little_in_turn(options: tuple[str, ...]) -> None:
    with Server(*options) as server, server.connect("tcp") as client:
        for size in (1 << 17, 5, 1, 1 << 17, 3):
            data = os.urandom(size)
            with sending(client, data):
                assert read_exactly(client, size) == data


def test_nothing_is_lost_at_half_close(server: Server) -> None:
    data = os.urandom(100 << 20)
    with server.connect("tcp") as client, sending(client, data, fin=True):
        assert read_all(client) == data


def test_all_that_was_sent_before_the_first_read_comes_back(server: Server) -> None:
    data = os.urandom(12 << 20)
    with server.connect("tcp") as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == data


def test_torn_writes_come_back_whole(server: Server) -> None:
    random.seed(7)
    data = random.randbytes(20_000)
    with server.connect("tcp") as client:
        position = 0
        while position < len(data):
            step = random.choice([1, 2, 3, 100, 1460])
            client.sendall(data[position : position + step])
            assert read_exactly(client, len(data[position : position + step])) == data[position : position + step]
            position += step


def test_a_reset_leaves_no_trace(server: Server) -> None:
    for _ in range(20):
        client = server.connect("tcp")
        client.sendall(os.urandom(1 << 16))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    with server.connect("tcp") as client:
        client.sendall(b"still here")
        assert read_exactly(client, 10) == b"still here"


def test_buffer_limit__a_client_that_never_reads_is_bounded() -> None:
    with Server("--buffer-limit", "4MiB") as server, server.connect("tcp") as client:
        before = server.resident()
        sent = fill(client)
        assert server.resident() - before < 10 << 20
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == bytes(sent)


def is_read(client: socket.socket) -> bool:
    """Whether the server has read all that a client has sent: /proc/net/tcp tells of both ends."""
    here, there = (f"0100007F:{port:04X}" for port in (client.getsockname()[1], client.getpeername()[1]))
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        unsent, unread = (int(each, 16) for each in queues.split(":"))
        if ((local, remote) == (here, there) and unsent) or ((local, remote) == (there, here) and unread):
            return False
    return True


def test_small_pieces_that_are_not_read_cost_no_more_than_their_bytes(server: Server) -> None:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.tcp))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(bytes(6 << 20))  # more than the kernel keeps: from here on the server does
        wait_for(lambda: is_read(client), "the server to read what the kernel has")
        before = server.resident()
        for _ in range(100_000):
            client.send(b"x")
        assert server.resident() - before < 4 << 20


def test_a_slow_reader_slows_nobody_else(server: Server) -> None:
    with server.connect("tcp") as slow, server.connect("tcp") as quick:
        slow.setblocking(False)
        try:
            while True:
                slow.send(bytes(1 << 16))
        except BlockingIOError:
            pass
        for _ in range(1000):
            quick.sendall(b"ping")
            assert read_exactly(quick, 4) == b"ping"


def test_idle_timeout__closes_what_is_idle_and_only_that() -> None:
    with Server("--idle-timeout", "1s") as server, server.connect("tcp") as idle, server.connect("tcp") as busy:
        begun = time.monotonic()
        while time.monotonic() - begun < 2.5:
            busy.sendall(b"x")
            assert read_exactly(busy, 1) == b"x"
            time.sleep(0.05)
        idle.settimeout(0.1)
        assert idle.recv(1) == b""


def refused(client: socket.socket) -> bool:
    """Whether the server closes the connection instead of echoing."""
    try:
        client.sendall(b"y")
        return client.recv(1) != b"y"
    except ConnectionError:
        return True


def test_max_connections__those_beyond_are_closed() -> None:
    with Server("--max-connections", "3") as server:
        clients = [server.connect("tcp") for _ in range(3)]
        for client in clients:
            client.sendall(b"x")
            assert read_exactly(client, 1) == b"x"
        with server.connect("tcp") as one_more:
            assert refused(one_more)
        clients.pop().close()

        def accepted() -> bool:
            with server.connect("tcp") as again:
                return not refused(again)

        wait_for(accepted, "a place for another connection")
        for client in clients:
            client.close()
