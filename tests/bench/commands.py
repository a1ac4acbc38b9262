"""``python -m bench`` as people run it: to its end, or until it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.process.processes import alive, children
from tests.servers import PATIENCE, wait_for

_ROOT = Path(__file__).parents[2]
_BENCH = [sys.executable, "-m", "bench"]


def bench(*words: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """path: the only folder that programs are looked for in."""
    if path:
        environment["PATH"] = str(path)
    return subprocess.run(
        [*_BENCH, *words], cwd=_ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        timeout=100,
    )  # fmt: skip


def interrupt(number: signal.Signals, *words: str, at_work: Callable[[list[int]], object] = bool) -> None:
    """By a signal to the bench alone, when its three processes are at work: none of them is left."""
    process = subprocess.Popen([*_BENCH, *words], cwd=_ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: len(children(process.pid)) == 3, "what it starts")
        started = children(process.pid)
        wait_for(lambda: at_work(started), "it to be at work")
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (1, "bench: interrupted\n")
    wait_for(lambda: not any(map(alive, started)), "the end of all")


def counted(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a client says of each round, the native one or one that talks as it does; fails where it has failed."""
    assert (done.returncode, done.stderr) == (0, "")
    ready, *lines = done.stdout.splitlines()
    assert ready == "ready"
    rounds = [json.loads(line) for line in lines]
    for each in rounds:
        assert set(each) == {"requests", "due", "seconds", "client_cpu", "latency_us"}
        assert list(each["latency_us"]) == ["50", "75", "90", "99", "99.9", "max"]
        latencies = list(each["latency_us"].values())
        assert latencies == sorted(latencies)
        assert (latencies[-1] > 0) == (each["requests"] > 0)
        assert each["client_cpu"] >= 0
    return rounds
