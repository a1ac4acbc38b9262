"""A server in a control group with little memory, and clients that send all they can and never read."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import MIB, survived
from tests.process.processes import Group, run
from tests.servers import wait_for


class ControlGroup:
    """One with a memory limit, made by hand: of version 1 or 2, whichever has the controller here."""

    def __init__(self, limit: int) -> None:
        one = Path("/sys/fs/cgroup/memory")
        base, name = (one, "memory.limit_in_bytes") if one.exists() else (Path("/sys/fs/cgroup"), "memory.max")
        self.path = base / f"echoserver-test-{os.getpid()}"
        try:
            self.path.mkdir()
            (self.path / name).write_text(str(limit), encoding="ascii")
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            pytest.skip(f"no control group with a memory limit can be made here: {error}")

    @property
    def inside(self) -> list[str]:
        """What begins a command that is to run in it."""
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def killed(self) -> int:
        """How many processes of it the kernel has ended for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                lines = (self.path / name).read_text(encoding="ascii").splitlines()
                return int(dict(line.split() for line in lines)["oom_kill"])
        raise AssertionError("the kernel does not count them")

    def remove(self) -> None:
        wait_for(lambda: not (self.path / "cgroup.procs").read_text(encoding="ascii"), "its processes to end")
        self.path.rmdir()


@pytest.fixture
def limited(request: pytest.FixtureRequest) -> Iterator[ControlGroup]:
    group = ControlGroup(request.param * MIB)
    yield group
    group.remove()


@pytest.mark.parametrize(
    ("limited", "workers", "kept"),
    [
        (32, "1", "512 KiB are kept for a connection, 2 MiB"),
        (64, "1", "2.5 MiB are kept for a connection, 10 MiB"),
        (64, "2", "640 KiB are kept for a connection, 2.5 MiB"),
        (128, "1", "6.5 MiB are kept for a connection, 26 MiB"),
    ],
    indirect=["limited"],
)
@pytest.mark.timeout(400)
def test_memory_is_enough_whatever_clients_do(limited: ControlGroup, workers: str, kept: str) -> None:
    with Group("--workers", workers, before=limited.inside) as server:
        assert any(f"memory: at most {kept} for all of a worker, of " in line for line in server.lines)
        assert survived(server)
        assert limited.killed() == 0
        server.send_signal()
        assert server.wait() in (0, 1)  # clients that had not read all may have been cut
    assert not [line for line in server.lines if "was ended by" in line]


@pytest.mark.parametrize("limited", [32], indirect=True)
def test_memory_that_is_too_little_for_the_workers(limited: ControlGroup) -> None:
    with Group("--workers", "1", before=limited.inside):
        pass
    ended = run("--http", "0", "--tcp", "0", "--udp", "0", "--workers", "2", before=limited.inside)
    assert ended.returncode == 3
    assert ended.stderr == (
        "echoserver: cannot start: 32 MiB of memory (the control group's limit) is too little for 2 workers: expected "
        "at least 52 MiB, or --workers 1, or --buffer-total SIZE, which turns this check off\n"
    )


@pytest.mark.parametrize("limited", [32], indirect=True)
def test_memory_decides_how_many_workers_auto_are(limited: ControlGroup) -> None:
    with Group("--workers", "auto", before=limited.inside) as server:
        assert server.children() == []
