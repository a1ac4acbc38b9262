"""docker/parts.py on a small executable: what each byte of it is."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.programs import needs

PROGRAM = Path(__file__).parents[2] / "docker" / "parts.py"
SOURCES = {
    "uvloop.c": "static const char of_uvloop[3000] = {1}; const char *from_uvloop(int i) { return of_uvloop + i; }",
    "uv_tcp.c": "static const char of_tcp[5000] = {1}; const char *uv_tcp(int i) { return of_tcp + i; }",
    "main.c": """
        extern const char modules_deflated[];
        const char *from_uvloop(int), *uv_tcp(int);
        char zeros[100000];
        int main(int count, char **words)
        { return *from_uvloop(count) + *uv_tcp(count) + modules_deflated[count] + zeros[count]; }""",
    "block.S": """
        .section .rodata
        .globl modules_deflated
        modules_deflated: .fill 1000, 1, 7
        .section .note.GNU-stack,"",@progbits""",
}
MODULES = {"asyncio": 100, "asyncio.events": 500, "uvloop": 100, "httptools": 0, "echoserver.cli": 300}


@pytest.fixture(scope="module")
def parts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parts", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs("cc", "nm", "strip")
@pytest.mark.parametrize("how", [[], ["-flto"]], ids=["as it is", "-flto"])
def test_a_small_executable(how: list[str], parts: ModuleType, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    for name, source in SOURCES.items():
        (tmp_path / name).write_text(source)
        run("cc", "-O1", "-w", "-fno-pie", *how, "-c", name)
    objects = [f"{Path(name).stem}.o" for name in SOURCES]
    run("cc", "-O1", "-no-pie", *how, "-o", "whole", *objects)
    run("strip", "-s", "-o", "stripped", "whole")
    (tmp_path / "modules.json").write_text(json.dumps({"deflated": 1000, "built_in": [], "modules": MODULES}))
    found = json.loads(run(sys.executable, str(PROGRAM), "whole", "stripped", "modules.json", *objects[:2]))
    assert found["size"] == (tmp_path / "stripped").stat().st_size == sum(found["parts"].values())
    assert list(found["parts"]) == list(parts.PARTS)
    shares = [found["parts"][parts.MODULES[package]] for package in ("", "uvloop", "httptools", "echoserver")]
    assert shares == [600, 100, 0, 300]
    if not how or shutil.which("lto-dump"):
        assert 3000 <= found["parts"][parts.UVLOOP] < 3200
        assert 5000 <= found["parts"][parts.LIBUV] < 5200
    assert 0 < found["parts"][parts.OURS] < 200


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("_PyEval_Vector", "_PyEval_Vector"), ("initial.lto_priv.0", "initial"), ("f.part.0.isra.0", "f"),
        ("kwlist.12.lto_priv.3", "kwlist"), ("g.constprop.0.cold", "g"),
    ],
)  # fmt: skip
def test_what_the_compiler_appends_is_no_part_of_a_name(name: str, base: str, parts: ModuleType) -> None:
    assert parts._SUFFIX.sub("", name) == base
