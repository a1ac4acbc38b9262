"""The house's order: who may import whom. All imports count, those for types and those within functions too."""

import ast
from pathlib import Path

import bench
import echoserver

ROOT = Path(echoserver.__file__).parent
ROOTS = (ROOT, Path(bench.__file__).parent)

FOLDERS = (
    "bench", "", "server", "worker", "protocols", "layers", "transport", "sockets", "answers", "observe", "wire",
    "config",
)  # fmt: skip
"""From the top down: a module imports from its own folder and from those below. "": the command line. bench is not of
the package: it may use any of it, and none of it may use the bench."""

BOTTOM = {"echoserver", "echoserver.exit_codes"}
"""Anybody may import these, and they import nothing of ours."""


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path, root): path for root in ROOTS for path in root.rglob("*.py")}


def imported_by(path: Path) -> set[str]:
    """The modules of ours that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            inner = [f"{node.module}.{each.name}" for each in node.names]
            found.update(each if each in MODULES else str(node.module) for each in inner)
    return found & set(MODULES)


IMPORTS = {name: imported_by(path) for name, path in MODULES.items()}


def rank(module: str) -> int:
    first, *rest = module.split(".")
    if first == "bench":
        return FOLDERS.index(first)
    return FOLDERS.index(rest[0] if MODULES[module].parent != ROOT else "")


def test_imports_go_down() -> None:
    found = {
        (module, each)
        for module, imported in IMPORTS.items()
        for each in imported - BOTTOM
        if module in BOTTOM or rank(each) < rank(module)
    }
    assert found == set()


def test_imports_have_no_circle() -> None:
    left = {module: imported - {module} for module, imported in IMPORTS.items()}
    while free := [
        module
        for module, imported in left.items()
        if not imported & set(left) or not any(module in each for each in left.values())
    ]:
        for each in free:
            del left[each]
    assert set(left) == set()
