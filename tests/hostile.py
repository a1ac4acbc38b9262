"""Clients that send all they can and never read, of every protocol."""

import contextlib
import itertools
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import cast

from tests.servers import HttpClient, Server, request

MIB = 1 << 20
_BLOCK = bytes(range(256)) * 1024
_POST = request("POST / HTTP/1.1", "Content-Length: 64", content=bytes(64))
_UPGRADE = request(
    "GET / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)  # fmt: skip


def _content(size: int) -> Iterator[bytes]:
    for left in range(size, 0, -len(_BLOCK)):
        yield _BLOCK[:left]


def _posts(size: int, target: str = "/") -> Iterator[bytes]:
    while True:
        yield request(f"POST {target} HTTP/1.1", f"Content-Length: {size}")
        yield from _content(size)


def _messages(size: int) -> Iterator[bytes]:
    yield _UPGRADE
    while True:
        yield b"\x82\xff" + struct.pack("!Q", size) + bytes(4)  # a binary message, masked with zeros
        yield from _content(size)


KINDS: dict[str, tuple[int, str]] = {
    "raw TCP": (5, "tcp"), "many over raw TCP": (40, "tcp"), "large contents": (20, "http"), "contents": (40, "http"),
    "described contents": (20, "http"), "pipelining": (40, "http"), "large messages": (20, "http"),
    "messages": (40, "http"),
}  # fmt: skip
"""How many of each kind, and the listener that they connect to."""


def _sent_by(kind: str) -> Iterator[bytes]:
    kinds: dict[str, Iterable[bytes]] = {
        "raw TCP": _content(16 * MIB), "many over raw TCP": _content(64 * MIB), "large contents": _posts(16 * MIB),
        "contents": _posts(MIB), "described contents": _posts(MIB, "/?echo=json"),
        "pipelining": itertools.repeat(_POST * 500), "large messages": _messages(16 * MIB),
        "messages": _messages(1 << 16),
    }  # fmt: skip
    return iter(kinds[kind])


@contextlib.contextmanager
def clients(server: Server, kind: str, quiet: float = 1.0, longest: float = 20.0) -> Iterator[list[socket.socket]]:
    """Clients of a kind that have sent all that the server takes: none of it for quiet seconds."""
    number, protocol = KINDS[kind]
    with contextlib.ExitStack() as stack:
        connected = [stack.enter_context(server.connect(protocol)) for _ in range(number)]
        selector = stack.enter_context(selectors.DefaultSelector())
        for each in connected:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_WRITE, [_sent_by(kind), memoryview(b"")])
        begun = last = time.monotonic()
        while selector.get_map() and time.monotonic() - last < quiet and time.monotonic() - begun < longest:
            for key, _ in selector.select(quiet / 4):
                each, state = cast(socket.socket, key.fileobj), key.data
                try:
                    state[1] = state[1] or memoryview(next(state[0]))
                    state[1] = state[1][each.send(state[1]) :]
                    last = time.monotonic()
                except BlockingIOError:
                    continue
                except (StopIteration, ConnectionError):  # it has sent all, or was told to go
                    selector.unregister(each)
        yield connected


def survived(server: Server) -> bool:
    """Whether a server still serves others after each kind of clients, who then read some of what they are owed."""
    for kind in KINDS:
        with clients(server, kind) as connected:
            with HttpClient(server.connect()) as other:
                assert other.ask(request("GET /healthz HTTP/1.1")).status == 200, kind
            for each in connected:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    each.recv(MIB)
            with HttpClient(server.connect()) as other:
                assert other.ask(request("GET /healthz HTTP/1.1")).status == 200, kind
    return True
