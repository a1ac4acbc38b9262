"""Runs servers: pinned to their CPUs, watched for what they cost, and ended with all that they started."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[1]
FIRST = -20
"""The niceness of what goes before all else on the machine."""

_NOT_INHERITED = re.compile("PORT|WEB_CONCURRENCY|(ECHOSERVER|GRANIAN|UVICORN)_.*")  # all arms have their defaults
_PATIENCE = 20.0  # seconds that a server has to begin to listen
_PAGE = os.sysconf("SC_PAGE_SIZE")
_NICE = os.getpriority(os.PRIO_PROCESS, 0)


class ServerFailed(Exception):
    """A server that did not start, or ended; the message says which and what it said."""


class Running:
    """A server that runs, whoever started it. where: its port, of UDP where udp is set, or its unix socket's path; pid:
    its first process."""

    def __init__(self, name: str, where: str, pid: int, *, udp: bool = False) -> None:
        self.name = name
        self.where = where
        self.pid = pid
        self.udp = udp

    def connect(self) -> socket.socket:
        """A client's connection; over UDP a socket that sends to it, which says nothing of whether it is there. Raises
        OSError."""
        if self.udp:
            datagrams = socket.socket(type=socket.SOCK_DGRAM)
            datagrams.settimeout(5)
            datagrams.connect(("127.0.0.1", int(self.where)))
            return datagrams
        if not self.where.startswith("/"):
            return socket.create_connection(("127.0.0.1", int(self.where)), 5)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        try:
            connection.connect(self.where)
        except OSError:
            connection.close()
            raise
        return connection

    # --- what it costs ---

    def family(self) -> list[int]:
        """Its process and all that it started."""
        pids = [self.pid]
        for parent in pids:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{parent}/task").iterdir():
                    pids += [int(each) for each in (task / "children").read_text().split()]
        return pids

    def cpu_seconds(self) -> float:
        """What all its processes have used so far: user and system time, to the nanosecond.

        The clock is that of clock_getcpuclockid(3); /proc/PID/stat has the same in steps of 10 ms.
        """
        total = 0.0
        for pid in self.family():
            with contextlib.suppress(OSError):
                total += time.clock_gettime((~pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
        return total

    def resident_bytes(self) -> int:
        """Resident memory of all its processes, what they share counted in each."""
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        return total

    def forget_peak(self) -> None:
        """From now on peak_bytes() begins anew (proc_pid_clear_refs(5))."""
        for pid in self.family():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The most that was resident of each of its processes, together."""
        total = 0
        for pid in self.family():
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                total += sum(int(each) for each in re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)) << 10
        return total


class Server(Running):
    """A server that we start; use it as a context manager. niceness: as that of pinned()."""

    def __init__(
        self, name: str, words: list[str], where: str, cpus: set[int], folder: Path, *, niceness: int = 0,
        udp: bool = False,
    ) -> None:  # fmt: skip
        self._log = folder / f"{name}.log"
        inherited = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.fullmatch(name)}
        with open(self._log, "wb") as log:
            self._process = pinned(
                words, cpus, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder,
                niceness=niceness, env={**inherited, "GOMAXPROCS": str(len(cpus)), "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        super().__init__(name, where, self._process.pid, udp=udp)
        if niceness:
            of_session(self.pid, niceness)

    def __enter__(self) -> Self:
        try:
            self._wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait(self) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            if self._process.poll() is not None:
                said = self._log.read_text(errors="replace").strip().splitlines()
                last = said[-1] if said else "it said nothing"
                raise ServerFailed(f"{self.name} ended at its start with {self._process.returncode}: {last}")
            with contextlib.suppress(OSError), self.connect() as connection:
                if self.udp:  # only an answer tells that it is there
                    connection.settimeout(0.2)
                    connection.send(b"?")
                    connection.recv(1)
                return
            if time.monotonic() > until:
                raise ServerFailed(f"{self.name} does not listen on {self.where}")
            time.sleep(0.02)

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2 if number == signal.SIGTERM else None)


def pinned(words: list[str], cpus: set[int], *, niceness: int = 0, **options: Any) -> subprocess.Popen[Any]:
    """Start a program that runs on these CPUs from its first instruction on; options: those of Popen.

    niceness: less than 0 puts it before all others, where we may.
    """
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)  # of this thread: it is inherited (and a preexec_fn may hang where there are others)
    with contextlib.suppress(PermissionError):
        if niceness:
            os.setpriority(os.PRIO_PROCESS, 0, niceness)  # so is this, on Linux
    try:
        return subprocess.Popen(words, **options)
    finally:
        os.sched_setaffinity(0, mine)
        if niceness < 0:
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def of_session(pid: int, niceness: int) -> None:
    """Give it to a process's session too, where we may: each is a group of its own, and among groups only theirs counts
    (sched(7), autogroup)."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def free_port(*, udp: bool = False) -> str:
    """A port that was free a moment ago: most peers can't say which one they took."""
    with socket.socket(type=socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def folder() -> tempfile.TemporaryDirectory[str]:
    """For the files of servers and clients."""
    return tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
