"""Workers that die, and workers whose parent does.

Modules: server.supervisor, worker.worker.
"""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.process.processes import (
    HALF_CONTENT,
    Group,
    alive,
    connections_by_worker,
    echoes,
    exchange,
    half_sent,
    ping,
    receive,
    unix_connect,
)
from tests.servers import wait_for


def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on() -> None:
    with Group("--workers", "3") as server, connections_by_worker(server) as owned:
        victim, *others = owned
        assert all(owned.values()), "each worker has connections"
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: server.replaced(victim, number=3), "another worker")
        assert f"echoserver: worker {victim} was ended by SIGKILL: starting another" in server.lines
        assert set(others) < set(server.children())
        assert all(echoes(client) for pid in others for client in owned[pid])
        with connections_by_worker(server) as after:
            assert all(after.values()), "the new worker has connections too"


def test_a_worker_that_is_terminated_drains_and_is_replaced() -> None:
    with Group("--workers", "3") as server, connections_by_worker(server) as owned:
        victim, *others = owned
        client = owned[victim][0]
        os.kill(victim, signal.SIGTERM)
        assert echoes(client)
        assert client.recv(1) == b""
        wait_for(lambda: server.replaced(victim, number=3), "another worker")
        assert f"echoserver: worker {victim} was told to end: starting another" in server.lines
        assert all(echoes(client) for pid in others for client in owned[pid])
        assert {server.get("/readyz") for _ in range(20)} == {200}


def test_all_workers_killed_at_once_are_replaced() -> None:
    with Group("--workers", "3") as server:
        before = server.children()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: server.replaced(*before, number=3), "three other workers")
        assert server.get() == 200
        assert ping(server.udp)


def test_a_worker_that_is_killed_while_draining_is_a_failure_and_not_replaced() -> None:
    with Group("--workers", "2") as server, connections_by_worker(server) as owned:
        victim, other = owned
        server.send_signal()
        wait_for(lambda: server.refuses("tcp"), "the drain to begin")
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not alive(victim), "its end")
        assert set(server.children()) <= {victim, other}
        assert server.wait() == 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_workers_end_when_their_parent_is_gone(tmp_path: Path, busy: bool) -> None:
    unix = f"unix:{tmp_path}/tcp.sock"
    with Group("--workers", "3", "--tcp", unix, "--drain-timeout", "1s") as server:
        workers = server.children()
        with half_sent(server) as client:
            if not busy:
                client.sendall(HALF_CONTENT.rest)
                receive(client)
            server.send_signal(signal.SIGKILL)
            wait_for(lambda: not any(alive(pid) for pid in workers), "the workers' end")
        with Group("--workers", "3", "--http", str(server.http), "--udp", str(server.udp), "--tcp", unix) as again:
            assert again.get() == 200
            assert ping(again.udp)
            with unix_connect(f"{tmp_path}/tcp.sock") as local:
                assert echoes(local)


def test_a_worker_ends_when_its_parent_is_gone_before_it_has_heard_that_it_is_ready() -> None:
    """What the parent has not read turns its end into an error (ECONNRESET), which uvloop (0.23.0) tells once."""
    with Group("--workers", "2") as server:
        victim, other = server.children()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: not {victim} & set(server.children()) and len(server.children()) == 2, "another worker")
        server.send_signal(signal.SIGSTOP)
        (new,) = set(server.children()) - {other}
        os.kill(other, signal.SIGKILL)  # who answers now is the new one, which has said so to its parent
        wait_for(lambda: not alive(other), "its end")
        wait_for(lambda: answers_somewhere(server), "the new worker to serve")
        server.send_signal(signal.SIGKILL)
        wait_for(lambda: not alive(new), "its end")


def answers_somewhere(server: Group) -> bool:
    """Whether any worker does; who is dealt to one that has died waits for the next."""
    client = server.connect()
    client.settimeout(0.2)
    try:
        return exchange(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
    except TimeoutError:
        return False


def test_workers_that_die_at_their_start_over_and_over_end_the_server() -> None:
    with Group("--workers", "2", allow_errors=True) as server:

        def kill_all() -> bool:
            if server.process.poll() is None:
                for pid in server.children():
                    with contextlib.suppress(ProcessLookupError):  # it has been dead since, and reaped
                        os.kill(pid, signal.SIGKILL)
            return server.process.poll() is not None

        wait_for(kill_all, "the server to give up")
        assert server.wait() == 3
        assert server.lines[-1].endswith("was ended by SIGKILL at its start: giving up")


def test_unix_sockets_go_on_after_a_respawn(tmp_path: Path) -> None:
    path = f"{tmp_path}/http.sock"
    with Group("--workers", "2", "--http", f"unix:{path}", "--tcp", f"unix:{tmp_path}/tcp.sock") as server:
        for victim in server.children():  # in the end nobody is left who was there at the start
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda victim=victim: server.replaced(victim, number=2), "another worker")  # type: ignore[misc]
        for _ in range(20):
            assert exchange(unix_connect(path), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200
            with unix_connect(f"{tmp_path}/tcp.sock") as client:
                assert echoes(client)


def test_udp_loses_nothing_before_and_after_a_respawn() -> None:
    with Group("--workers", "4") as server:
        assert [number for number in range(200) if not ping(server.udp, b"%d" % number)] == []
        victim = server.children()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: server.replaced(victim, number=4), "another worker")
        assert [number for number in range(200) if not ping(server.udp, b"%d" % number)] == []
