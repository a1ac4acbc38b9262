"""What workers hold that nobody has asked anything of yet."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import COMMAND, PYTHON, HttpClient, Server, request
from tests.websockets import upgrade

WANTED_LATER = {"hashlib", "prometheus_client", "websockets"}

SCRIPT = """
import asyncio, sys
from echoserver.config import options
from echoserver.observe.counters import SharedCounters
from echoserver.observe.metrics import Exposition
from echoserver.worker.shared import Shared
from echoserver.worker.worker import Worker
shared = Shared(SharedCounters(2), {}, Exposition({}))
Worker(options.parse({"workers": sys.argv[1]}), asyncio.new_event_loop(), 0, shared)
print(*sys.modules)
"""


@pytest.mark.parametrize(("workers", "there"), [("1", set()), ("2", {"hashlib", "websockets"})])
def test_workers_import_what_few_want_before_they_fork_or_when_it_is_wanted(workers: str, there: set[str]) -> None:
    pytest.importorskip("websockets")
    said = subprocess.run([sys.executable, "-c", SCRIPT, workers], capture_output=True, text=True, check=True)
    assert WANTED_LATER & set(said.stdout.split()) == there


def test_workers_share_what_they_had_in_common_when_they_were_forked() -> None:
    """The collector would write to all of it, and so each would have a copy."""
    with Server("--workers", "3") as server:
        for _ in range(20):
            with HttpClient(server.connect()) as client:
                client.ask(request("GET / HTTP/1.1"))
        for pid in server.children():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            private, shared = (
                int(found[1])
                for kind in ("Private", "Shared")
                if (found := re.search(rf"^{kind}_Dirty: +([0-9]+) kB$", rollup, re.MULTILINE))
            )
            assert private < shared


@pytest.mark.skipif(COMMAND != PYTHON, reason="another command imports nothing from files")
@pytest.mark.parametrize("error", ["MemoryError", "OSError(24, 'Too many open files')"])
def test_an_only_worker_that_cannot_import_an_extra_says_so_and_serves_on(error: str, tmp_path: Path) -> None:
    for name in ("websockets", "prometheus_client"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {error}\n", encoding="ascii")
    with Server(environment={"PYTHONPATH": str(tmp_path)}) as server:
        for data in (upgrade(), request("GET /metrics HTTP/1.1")) * 2:
            with HttpClient(server.connect()) as client:
                answer = client.ask(data)
                assert answer.status == 503
                assert b" cannot be loaded: too little memory, or " in answer.content
        with HttpClient(server.connect()) as client:
            assert client.ask(request("GET / HTTP/1.1")).status == 200
