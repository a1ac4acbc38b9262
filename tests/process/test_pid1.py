"""The server as the first process of a PID namespace, as in a container: it reaps what is left to it."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.process.processes import HALF_CONTENT, Group, children, half_sent, receive
from tests.programs import missing
from tests.servers import wait_for


@pytest.fixture(scope="module")
def isolation() -> list[str]:
    """The command that starts another as process 1."""
    if shutil.which("unshare") is None:
        pytest.skip(missing("unshare"))
    for options in (["--pid", "--fork", "--mount-proc"], ["-Urpf", "--mount-proc"]):
        tried = subprocess.run(["unshare", *options, "true"], capture_output=True, text=True, check=False)
        if not tried.returncode:
            return ["unshare", *options]
    pytest.skip(f"no PID namespaces here: {tried.stderr.strip()}")


class First(Group):
    """A server that is process 1 of a namespace; first: what a shell does in there before it becomes the server."""

    def __init__(self, isolation: list[str], first: str, *options: str) -> None:
        shell = ["sh", "-c", f'{first}\nexec "$@"', "sh"]
        super().__init__(*options, before=[*isolation, *shell])

    @property
    def pid(self) -> int:
        """Its process id outside the namespace."""
        (pid,) = children(self.process.pid)
        return pid


workers_and_children = pytest.mark.parametrize(("workers", "number"), [("1", 0), ("2", 2)])


@workers_and_children
def test_it_is_process_1_and_sigterm_ends_it(isolation: list[str], workers: str, number: int) -> None:
    with First(isolation, 'echo "process $$" >&2', "--workers", workers) as server, half_sent(server) as client:
        assert server.lines[0] == "process 1"
        assert len(children(server.pid)) == number
        os.kill(server.pid, signal.SIGTERM)
        wait_for(server.refuses, "the drain to begin")
        client.sendall(HALF_CONTENT.rest)
        assert receive(client).content == HALF_CONTENT.content
        assert server.wait() == 0


@workers_and_children
def test_an_orphan_that_ends_is_reaped(isolation: list[str], workers: str, number: int, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with First(isolation, f"( (read line) < '{fifo}' & )", "--workers", workers) as server:
        (orphan,) = [pid for pid in children(server.pid) if Path(f"/proc/{pid}/comm").read_text("ascii") == "sh\n"]
        fifo.write_text("end\n", encoding="ascii")
        wait_for(lambda: orphan not in children(server.pid), "the orphan to be reaped")
        assert len(children(server.pid)) == number
        assert server.get() == 200
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0


@workers_and_children
def test_an_orphan_that_has_ended_before_the_server_is_up_is_reaped(
    isolation: list[str], workers: str, number: int
) -> None:
    with First(isolation, "( sleep 0.02 & )", "--workers", workers) as server:  # less than the start takes
        pid = server.pid
        wait_for(lambda: len(children(pid)) == number, "the orphan to be reaped", patience=3)
        os.kill(pid, signal.SIGTERM)
        assert server.wait() == 0
