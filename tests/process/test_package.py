"""What is installed: the wheel, built as pip builds it."""

import email.parser
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from echoserver import __version__

ROOT = Path(__file__).parents[2]


@pytest.mark.network
def test_the_wheel_holds_the_package_and_says_what_it_needs(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not built.returncode, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"echoserver-{__version__}-py3-none-any.whl"
    info = f"echoserver-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.parser.Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()

    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "echoserver").rglob("*.py")}
    assert {name for name in names if not name.startswith(f"{info}/")} == modules | {"echoserver/py.typed"}
    assert f"{info}/licenses/LICENSE" in names
    assert "echoserver = echoserver.__main__:run" in scripts

    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["Requires-Python"] == asked["requires-python"]
    assert metadata.get_all("Provides-Extra") == sorted(asked["optional-dependencies"])
    needed = metadata.get_all("Requires-Dist") or []
    always = {name_of(each) for each in needed if "extra ==" not in each}
    assert always == {"uvloop", "httptools"}
    extras = asked["optional-dependencies"]
    for extra, packages in extras.items():
        also = {name_of(each) for other in within(extras, packages) for each in extras[other]}
        found = {name_of(each) for each in needed if re.search(rf"extra == ['\"]{extra}['\"]", each)}
        assert found == ({name_of(each) for each in packages} | also) - {"echoserver"}, extra


def within(extras: dict[str, list[str]], packages: list[str]) -> set[str]:
    """The extras that are named among packages, and those that are named among theirs."""
    named = {other for other in extras if f"echoserver[{other}]" in packages}
    return named.union(*(within(extras, extras[other]) for other in named))


def name_of(requirement: str) -> str:
    """The package that a requirement names."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match[0]
