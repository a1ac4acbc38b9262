"""The whole behaviour of the static executable: the suites of the server, run against it on this machine."""

import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.engines import ROOT, unpack
from tests.image.containers import Variant, layers

NOT_OF_THE_SERVER = "test_bench*.py", "test_locust.py", "test_package.py"
NOT_THERE = ("test_websocket.py",)  # the images are without the extra
NOT_AGAIN = "test_over_tls.py", "test_proxy_protocol.py"  # Python in Python: minutes that would show nothing new


@pytest.fixture(scope="module")
def executable(scratch: Variant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    with scratch.engine.exported(scratch.name) as exported:
        (layer,) = layers(exported)
        with tarfile.open(layer) as archive:
            unpack(archive, folder)
    return folder / "echoserver"


@pytest.mark.timeout(1800, func_only=True)
def test_the_suites(executable: Path) -> None:
    """Both at once, for most of their time they wait."""
    running = [
        subprocess.Popen(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{suite}",
                *(f"--ignore-glob=tests/{suite}/{name}" for name in (*NOT_OF_THE_SERVER, *NOT_THERE, *NOT_AGAIN)),
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "ECHOSERVER_COMMAND": shlex.quote(str(executable))},
        )
        for suite in ("wire", "process")
    ]  # fmt: skip
    said = [process.communicate()[0].splitlines() for process in running]
    print([lines[-1] for lines in said])  # how many were run
    for process, lines in zip(running, said, strict=True):
        if process.returncode:
            pytest.fail("\n".join(lines[-80:]), pytrace=False)
