"""Connections that the kernel has accepted and the server has not, when it stops to."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from echoserver.config import options as config
from echoserver.sockets import listeners
from echoserver.worker.process import new_event_loop
from echoserver.worker.worker import Worker
from tests.servers import read_all

WAITING = 5


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    running = new_event_loop(request.param)
    yield running
    running.close()


def test_each_that_waits_to_be_accepted_is_answered(loop: asyncio.AbstractEventLoop) -> None:
    """All in one turn of the loop: they connect, and the drain begins."""
    settings = config.parse({"http": "0", "tcp": "0", "udp": "off"})
    reservation = listeners.Reservation(settings)
    worker = Worker(settings, loop)
    serving = reservation.of_worker(0)
    loop.run_until_complete(worker.listen(serving))
    http, tcp = (listener.endpoint.sockaddr for listener in serving)
    clients: list[socket.socket] = []

    def connect_and_drain() -> None:
        clients.extend(socket.create_connection(http[:2], 10) for _ in range(WAITING))  # type: ignore[arg-type]
        clients.append(socket.create_connection(tcp[:2], 10))  # type: ignore[arg-type]
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        worker.stop(0.0, 10.0)

    loop.call_soon(worker.tick)
    loop.call_soon(connect_and_drain)
    assert worker.run() == 0
    reservation.close()
    answers = [read_all(client) for client in clients]
    for client in clients:
        client.close()
    assert answers.pop() == b""
    assert [answer.split(b"\r\n")[0] for answer in answers] == [b"HTTP/1.1 503 Service Unavailable"] * WAITING
