"""The whole behaviour of the static executables: the suites of the server, run against them on this machine."""

import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.engines import ROOT
from tests.image.containers import Variant, layers

OF_THE_BENCH = "test_bench*.py", "test_locust.py"
OF_PYTHON = ("test_package.py",)


@pytest.mark.timeout(3600, func_only=True)
def test_the_suites(static: Variant, tmp_path: Path) -> None:
    with static.engine.exported(static.name) as exported:
        (layer,) = layers(exported)
        with tarfile.open(layer) as archive:
            archive.extractall(tmp_path, filter="data")
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/wire", "tests/process",
            *(f"--ignore-glob=tests/process/{name}" for name in (*OF_THE_BENCH, *OF_PYTHON)),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "ECHOSERVER_COMMAND": shlex.quote(f"{tmp_path}/echoserver")},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    print(lines[-1])  # how many were run
    if done.returncode:
        pytest.fail("\n".join([*lines[-80:], done.stderr]), pytrace=False)
