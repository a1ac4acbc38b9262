"""What is installed: the wheel, built as pip builds it."""

import email.parser
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from echoserver import __version__
from echoserver.answers.page import page
from tests.programs import needs

ROOT = Path(__file__).parents[2]
HEADERS = Path(sysconfig.get_path("include"), "Python.h")


def build_wheel(to: Path, **environment: str) -> Path:
    """The wheel of this checkout."""
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(to), str(ROOT)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert not built.returncode, built.stderr
    (wheel,) = to.glob("*.whl")
    return wheel


@pytest.mark.network
@pytest.mark.skipif(not HEADERS.exists(), reason="Python's headers are not installed: apt-get install python3-dev")
@needs("cc")
def test_a_wheel_made_where_there_is_a_compiler_reads_requests_in_c(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    assert re.fullmatch(rf"echoserver-{__version__}-cp311-abi3-linux_\w+\.whl", wheel.name)
    with zipfile.ZipFile(wheel) as archive:
        assert "_echoserver.abi3.so" in archive.namelist()
        archive.extractall(tmp_path / "installed")
    asking = (
        "from echoserver.wire import ordinary; print(ordinary.scan_in_c(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    said = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout == "(b'\\n', 27, None)\n"


@pytest.mark.network
@pytest.mark.parametrize("compiler", ["false", "true", "/nonexistent", "cc -include nonexistent.h"])
def test_the_wheel_holds_the_package_and_says_what_it_needs(compiler: str, tmp_path: Path) -> None:
    """That of a machine whose compiler makes nothing."""
    wheel = build_wheel(tmp_path, CC=compiler)
    assert wheel.name == f"echoserver-{__version__}-py3-none-any.whl"
    info = f"echoserver-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.parser.Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()

    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "echoserver").rglob("*.py")}
    modules.remove("echoserver/answers/page/__main__.py")  # what it makes the page of is not there either
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

    environment = {**os.environ, "PYTHONPATH": str(wheel)}  # modules are read out of it, and it has no other files
    asking = "import sys; from echoserver.answers.page import page; sys.stdout.buffer.write(page('x-'))"
    served = subprocess.run(
        [sys.executable, "-c", asking], capture_output=True, cwd=tmp_path, env=environment, check=False
    )
    assert (served.stderr, served.stdout) == (b"", page("x-"))


@pytest.mark.network
def test_the_sdist_holds_what_the_page_is_made_of(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "build", "--sdist", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not built.returncode, built.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    folder = ROOT / "echoserver/answers/page"
    assert {str(path.relative_to(ROOT)) for path in folder.iterdir() if path.is_file()} <= names


def within(extras: dict[str, list[str]], packages: list[str]) -> set[str]:
    """The extras that are named among packages, and those that are named among theirs."""
    named = {other for other in extras if f"echoserver[{other}]" in packages}
    return named.union(*(within(extras, extras[other]) for other in named))


def name_of(requirement: str) -> str:
    """The package that a requirement names."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match[0]
