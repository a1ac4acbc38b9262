"""``python -m bench images`` as people run it, on images that are there already."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import compare, engines, figures, images
from tests.image.conftest import built

ROOT = Path(__file__).parents[2]
TAKEN = ("slim", "minimal")

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="rich is not installed (extra bench)"),
    pytest.mark.skipif(not (shutil.which("cc") and shutil.which("wrk")), reason="no compiler, or no wrk"),
]


def bench(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


@pytest.fixture(scope="module")
def taken(engine: engines.Engine) -> None:
    """What builds in a fixture is not held to a test's time."""
    for target in TAKEN:
        built(engine, target)


@pytest.mark.usefixtures("taken")
def test_a_quick_run(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    done = bench("images", *TAKEN, "--take", "--prefix", "echoserver-test", "--quick", "--output", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"written: {path}"
    result = figures.load(path)
    assert list(result["images"]) == list(TAKEN)
    for target, image in result["images"].items():
        whole = sum(layer["size"] for layer in image["layers"])
        assert sum(size for of_group in image["parts"].values() for size in of_group.values()) == whole
        assert 0 < image["compressed"] < whole
        assert result["versions"][target].startswith(result["versions"]["echoserver"])
    started = result["starts"]
    assert list(started) == [images.OUTSIDE, f"{images.OUTSIDE} minimal", *TAKEN]
    for of_it in started.values():
        assert {key: len(values) for key, values in of_it.items()} == dict.fromkeys(
            ("answer", "resident_bytes", "proportional_bytes", "stop", "version"), images.QUICK_RUNS
        )
        assert min(of_it["answer"]) > 0
    for load in result["loads"].values():
        assert list(load["arms"]) == [compare.LIMIT, images.OUTSIDE, *TAKEN]
        assert all(arm["median"] for arm in load["arms"].values()), json.dumps(load)


def test_without_an_engine(tmp_path: Path) -> None:
    done = bench("images", "--take", PATH=str(tmp_path), ECHOSERVER_ENGINE="")
    assert done.returncode == 3
    assert done.stderr.startswith("bench: docker is not installed; podman is not installed; ")
    assert len(done.stderr.splitlines()) == 1
