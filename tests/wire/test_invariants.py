"""The states of HTTP/1 connections with real sockets: the suites of HTTP against a server that checks itself.

Modules: protocols.http1.states.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKED = f"{shlex.quote(sys.executable)} -m tests.checked"
SUITES = ("test_http_content.py", "test_on_demand.py", "test_drain.py")


@pytest.mark.timeout(600, func_only=True)
def test_the_suites_of_http() -> None:
    suites = [f"tests/wire/{name}" for name in SUITES]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal", *suites],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "ECHOSERVER_COMMAND": CHECKED},
    )  # fmt: skip
    assert done.returncode == 0, "\n".join(done.stdout.splitlines()[-80:])
