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

NOT_OF_THE_SERVER = "test_package.py", "test_invariants.py"
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
    """Several at once, for most of their time they wait."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "3", "--dist", "worksteal",
            "tests/wire", "tests/process",
            *(f"--ignore-glob=tests/*/{name}" for name in (*NOT_OF_THE_SERVER, *NOT_AGAIN)),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={**os.environ, "ECHOSERVER_COMMAND": shlex.quote(str(executable))},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    print(lines[-1])  # how many were run
    if done.returncode:
        pytest.fail("\n".join(lines[-80:]), pytrace=False)
