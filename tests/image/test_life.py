"""A container from its start to its end: process 1, workers, signals, health checks."""

import contextlib
import os
import signal
import threading

import pytest

from tests.image.containers import OURSELVES, Contained, Variant, reserved_port
from tests.process.processes import HALF_CONTENT, exchange, half_sent, receive
from tests.servers import HttpClient, request, wait_for

SOON = 1.0
"""Seconds in which an idle server is to be stopped."""

GET = request("GET / HTTP/1.1")

alone_and_several = pytest.mark.parametrize(("workers", "number"), [("1", 0), ("4", 4)])


def serves(server: Contained) -> bool:
    """Whether new connections are answered, often enough that every worker should have had one."""
    return {exchange(server.connect(), GET) for _ in range(20)} == {(200, GET)}


# --- its end ----------------------------------------------------------------------------------------------------------


@alone_and_several
def test_an_idle_server_is_stopped_at_once(variant: Variant, workers: str, number: int) -> None:
    """The fastest of three: an engine on a busy machine needs a while for its own part."""
    took = []
    for _ in range(3):
        with variant.serve("--workers", workers) as server:
            took.append(server.container.stop())
            assert server.wait() == 0
            if took[-1] < SOON:
                break
    assert min(took) < SOON, took


@alone_and_several
def test_sigterm_drains(variant: Variant, workers: str, number: int) -> None:
    with variant.serve("--workers", workers) as server, half_sent(server) as client:
        server.container.kill("TERM")
        wait_for(server.refuses, "new connections to be refused")
        client.sendall(HALF_CONTENT.rest)
        response = receive(client)
        assert (response.status, response.connection, response.content) == (200, "close", HALF_CONTENT.content)
        assert server.wait() == 0


def test_what_is_not_finished_in_time_is_cut(variant: Variant) -> None:
    with variant.serve("--drain-timeout", "500ms") as server, half_sent(server) as client:
        server.container.kill("TERM")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert server.wait() == 1


# --- process 1 --------------------------------------------------------------------------------------------------------


@alone_and_several
def test_it_is_process_1(variant: Variant, workers: str, number: int) -> None:
    with variant.serve("--workers", workers) as server:
        assert server.status()["NSpid"].split()[-1] == "1"
        pids = server.children()
        assert len(pids) == number
        assert serves(server)
        server.container.stop()
        assert server.wait() == 0
        assert [pid for pid in (server.pid, *pids) if os.path.exists(f"/proc/{pid}")] == []


def kill(pid: int) -> None:
    """As the out-of-memory killer would."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        pytest.skip("the processes of a container are another user's, and only root may kill them")


def test_a_worker_that_is_killed_is_replaced(variant: Variant) -> None:
    with variant.serve("--workers", "4", user=OURSELVES) as server:
        victim, *others = server.children()
        kill(victim)
        wait_for(lambda: len(server.children()) == 4 and victim not in server.children(), "another worker")
        assert set(others) < set(server.children())
        assert not os.path.exists(f"/proc/{victim}"), "a zombie"
        with contextlib.ExitStack() as stack:  # all workers have some of these
            for _ in range(64):
                client = stack.enter_context(HttpClient(server.connect()))
                assert client.ask(GET).content == GET


def processes(server: Contained) -> set[int]:
    """All that are in the container."""
    namespace = os.readlink(f"/proc/{server.pid}/ns/pid")
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # gone, or another user's
            if os.readlink(f"/proc/{name}/ns/pid") == namespace:
                found.add(int(name))
    return found


@alone_and_several
def test_orphans_are_reaped(variant: Variant, workers: str, number: int) -> None:
    """Another server is started in the container and killed; its workers are left to process 1, and end."""
    with variant.serve("--workers", workers, user=OURSELVES) as server:
        before = processes(server)
        assert before == {server.pid, *server.children()}
        assert len(before) == 1 + number
        another = [*variant.entrypoint, "--http", "0", "--tcp", "off", "--udp", "off", "--workers", "3"]
        thread = threading.Thread(target=server.container.execute, args=another, daemon=True)
        thread.start()

        def leaders() -> list[tuple[int, set[int]]]:
            """The other server, with its workers, once all of them are there."""
            new = processes(server) - before
            found = [(pid, set(descendants(pid)) & new) for pid in new]
            return [(pid, workers) for pid, workers in found if len(workers) == 3]

        wait_for(leaders, "the other server's workers")
        ((leader, orphans),) = leaders()
        kill(leader)
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in orphans), "the orphans to be reaped")
        thread.join()
        assert processes(server) == before
        assert set(server.children()) == before - {server.pid}
        assert serves(server)


def descendants(pid: int) -> list[int]:
    """The children of a process that may have ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]
    return []


# --- health -----------------------------------------------------------------------------------------------------------


def test_healthcheck_in_the_container(running: Contained) -> None:
    assert running.execute("healthcheck", f"http://127.0.0.1:{running.http}/healthz") == 0
    assert running.execute("healthcheck", f"http://localhost:{running.http}/readyz") == 0
    with reserved_port() as bound:
        assert running.execute("healthcheck", f"http://127.0.0.1:{bound.getsockname()[1]}/healthz") == 1


def test_the_images_own_healthcheck(variant: Variant) -> None:
    how, *words = variant.image.config["Healthcheck"]["Test"]
    assert (how, words) == ("CMD", [*variant.entrypoint, "healthcheck"])
    with reserved_port() as bound:
        environment = {"PORT": str(bound.getsockname()[1])}
        with variant.run("--tcp", "off", "--udp", "off", environment=environment) as container:
            wait_for(lambda: "ready" in container.said(), "the line 'ready'")
            assert container.execute(*words).returncode == 0
        with variant.run("--http", "0", "--tcp", "off", "--udp", "off", environment=environment) as container:
            wait_for(lambda: "ready" in container.said(), "the line 'ready'")
            assert container.execute(*words).returncode == 1


def test_healthcheck_as_a_container_of_its_own(variant: Variant, running: Contained) -> None:
    assert variant.end("healthcheck", f"http://127.0.0.1:{running.http}/healthz") == (0, [])
    with reserved_port() as bound:
        where = f"127.0.0.1:{bound.getsockname()[1]}"
        for url in (f"http://{where}/healthz", f"https://{where}/"):
            code, lines = variant.end("healthcheck", url)
            assert (code, lines) == (1, [f"echoserver healthcheck: {where}: Connection refused"])
    code, (line,) = variant.end("healthcheck", "ftp://127.0.0.1/")
    assert code == 1
    assert line.startswith("echoserver healthcheck: 'ftp://127.0.0.1/' is not a URL to check: ")
