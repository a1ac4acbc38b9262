"""A server in a container that may do nothing: no writing, no privileges, no root, and little memory."""

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import survived
from tests.image.containers import Contained, Variant
from tests.process.processes import ping
from tests.servers import HttpClient, read_exactly, request

MEMORY = 32 << 20
CONNECTIONS = 1000
GET = request("GET / HTTP/1.1")


def test_it_runs_on_uvloop(running: Contained) -> None:
    assert re.search(r" on cpython 3\.\d+\.\d+\S*, uvloop [\d.]+, httptools [\d.]+; 1 worker, ", running.lines[0])


def test_nothing_can_be_written(running: Contained) -> None:
    with open(f"/proc/{running.pid}/mountinfo", encoding="utf-8") as file:
        (options,) = [words[5] for line in file if (words := line.split())[4] == "/"]
    assert "ro" in options.split(",")


def test_it_has_no_privileges_and_gets_none(running: Contained) -> None:
    status = running.status()
    kinds = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {kind: int(status[kind], 16) for kind in kinds} == dict.fromkeys(kinds, 0)
    assert status["NoNewPrivs"] == "1"


def test_it_is_nobody(running: Contained) -> None:
    status = running.status()
    assert (status["Uid"].split(), status["Gid"].split()) == (["65532"] * 4, ["65532"] * 4)


def test_any_other_user_will_do(variant: Variant) -> None:
    with variant.serve(user="12345:54321") as server:
        assert (server.status()["Uid"].split()[0], server.status()["Gid"].split()[0]) == ("12345", "54321")
        with HttpClient(server.connect()) as client:
            assert client.ask(GET).content == GET
        assert ping(server.udp)


def memory_limit(pid: int) -> int | None:
    """Bytes that the kernel gives the process's control group; None: any number, or it can't be read."""
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").splitlines():
        number, controllers, path = line.split(":", 2)
        file = None
        if number == "0":
            file = Path("/sys/fs/cgroup", path.lstrip("/"), "memory.max")
        elif "memory" in controllers.split(","):
            file = Path("/sys/fs/cgroup/memory", path.lstrip("/"), "memory.limit_in_bytes")
        if file is not None and file.exists():
            text = file.read_text(encoding="ascii").strip()
            return int(text) if text != "max" and int(text) < 1 << 60 else None
    return None


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many as the connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 100
    if hard < needed:
        pytest.skip(f"{hard} descriptors are too few for {CONNECTIONS} connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections_in_32_mib(variant: Variant, descriptors: None) -> None:
    content = bytes(range(256)) * (1 << 9)  # 128 KiB: --buffer-limit is four times that here
    post = request("POST / HTTP/1.1", f"Content-Length: {len(content)}", content=content)
    with contextlib.ExitStack() as stack, variant.serve(memory=MEMORY) as server:
        limit = memory_limit(server.pid)
        if limit is None:
            pytest.skip(f"{variant.engine.name} sets no memory limits here")
        assert limit == MEMORY
        tcp = [stack.enter_context(server.connect("tcp")) for _ in range(CONNECTIONS // 2)]
        http = [stack.enter_context(HttpClient(server.connect())) for _ in range(CONNECTIONS // 2)]
        for connection in tcp:
            connection.sendall(b"ping")
        for client in http:
            client.send(GET)
        assert {read_exactly(connection, 4) for connection in tcp} == {b"ping"}
        assert {client.answer().content for client in http} == {GET}
        for client in http[:4]:  # all of it is held before the first one reads
            client.send(post)
        for client in http[:4]:
            assert client.answer().content == content
        state = server.container.state()
        assert (state["Running"], state["OOMKilled"]) == (True, False)
        assert {client.ask(GET).content for client in http} == {GET}


@pytest.mark.parametrize("mebibytes", [32, 64, 128])
@pytest.mark.timeout(600)
def test_clients_that_never_read_in_little_memory(variant: Variant, mebibytes: int) -> None:
    with variant.serve(memory=mebibytes << 20) as server:
        if memory_limit(server.pid) is None:
            pytest.skip(f"{variant.engine.name} sets no memory limits here")
        assert any(f" of {mebibytes} MiB (the control group's limit)" in line for line in server.lines)
        assert survived(server)
        state = server.container.state()
        assert (state["Running"], state["OOMKilled"]) == (True, False)
