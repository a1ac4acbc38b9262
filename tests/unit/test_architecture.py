"""docs/architecture.md and its picture are as the code is."""

import re
import subprocess
import sys
from pathlib import Path

from tests.unit.test_imports import FOLDERS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_picture_is_as_the_imports_are() -> None:
    command = [sys.executable, str(DOCS / "architecture.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_each_folder_and_each_file_that_is_named_is_there() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert {each for each in FOLDERS if each and each != "bench"} == set(
        re.findall(r"^\| `(\w+)/`", text, re.MULTILINE)
    )
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    assert len(named) > 15
    there = {
        str(path.relative_to(DOCS.parent))
        for folder in ("echoserver", "tests")
        for path in (DOCS.parent / folder).rglob("*.py")
    }
    assert [each for each in named if not any(f"/{path}".endswith(f"/{each}") for path in there)] == []
