"""Draws architecture.svg: the folders of echoserver/, their modules, and who imports whom, as the code has it.

python docs/architecture.py         writes the picture
python docs/architecture.py --check says whether it is as the code is: 1 where it is not
"""

import ast
import sys
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
ROOT = HERE.parent / "echoserver"
PICTURE = HERE / "architecture.svg"

FOLDERS = ("server", "worker", "protocols", "layers", "transport", "sockets", "answers", "observe", "wire", "config")
"""From the top down, as tests/unit/test_imports.py has it; above them is the command line."""

_WIDTH, _BOX, _LEFT, _TOP, _GAP = 880, 650, 20, 20, 14
_LINE = 19  # pixels from one line of text to the next
_CHARACTERS = 84  # of modules in a line

_STYLE = """
text { font: 14px ui-monospace, monospace; fill: #24292f; }
.title { font-weight: bold; }
.box { fill: #f6f8fa; stroke: #8c959f; }
.arrow { fill: none; stroke: #0969da; stroke-opacity: .55; }
.head { fill: #0969da; fill-opacity: .8; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .box { fill: #161b22; stroke: #6e7681; }
  .arrow { stroke: #58a6ff; } .head { fill: #58a6ff; }
}
"""


def _modules() -> dict[str, Path]:
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def _folder(module: str, path: Path) -> str:
    return "command line" if path.parent == ROOT else module.split(".")[1]


def _imports(modules: dict[str, Path]) -> set[tuple[str, str]]:
    """Which folder imports from which."""
    found = set()
    for module, path in modules.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{each.name}" for each in node.names]
                imported.update(each if each in modules else node.module for each in inner)
        ours = _folder(module, path)
        theirs = [_folder(each, modules[each]) for each in imported & set(modules)]
        found.update((ours, each) for each in theirs if each not in (ours, "command line"))
    return found


def _lines(names: list[str]) -> list[str]:
    lines = [""]
    for name in names:
        if len(lines[-1]) + len(name) > _CHARACTERS:
            lines.append("")
        lines[-1] += f"{name}  "
    return lines


def draw() -> str:
    """The picture, as SVG."""
    modules = _modules()
    contents: dict[str, list[str]] = {name: [] for name in ("command line", *FOLDERS)}
    for module, path in modules.items():
        if path.stem != "__init__":
            folder = _folder(module, path)
            contents[folder].append(module.removeprefix("echoserver.").removeprefix(f"{folder}."))
    boxes, y, middles = [], _TOP, {}
    for folder, names in contents.items():
        lines = _lines(names)
        height = _LINE * (len(lines) + 1) + 16
        boxes.append(f'<rect class="box" x="{_LEFT}" y="{y}" width="{_BOX}" height="{height}" rx="6"/>')
        boxes.append(f'<text class="title" x="{_LEFT + 12}" y="{y + _LINE + 2}">{folder}</text>')
        boxes += [
            f'<text x="{_LEFT + 12}" y="{y + _LINE * (number + 2) + 2}">{escape(line.rstrip())}</text>'
            for number, line in enumerate(lines)
        ]
        middles[folder] = y + height / 2
        y += height + _GAP
    arrows, order, right = [], list(contents), _LEFT + _BOX
    for above, below in sorted(_imports(modules)):
        span = order.index(below) - order.index(above)
        start, end = middles[above] + 4, middles[below] - 4
        out = right + 24 * span + 12
        arrows.append(
            f'<path class="arrow" stroke-width="1.5" '
            f'd="M{right} {start:g} C{out} {start:g} {out} {end:g} {right + 8} {end:g}">'
            f"<title>{above} imports from {below}</title></path>"
        )
        arrows.append(f'<path class="head" d="M{right} {end:g} l9 -4 v8 z"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img">'
        f"<title>The folders of echoserver and who imports whom: every arrow goes down</title><style>{_STYLE}</style>\n"
        + "\n".join(boxes + arrows)
        + "\n</svg>\n"
    )


def main() -> int:
    picture = draw()
    if "--check" in sys.argv[1:]:
        current = PICTURE.exists() and PICTURE.read_text(encoding="utf-8") == picture
        print("docs/architecture.svg is as the code is" if current else "python docs/architecture.py draws it anew")
        return int(not current)
    PICTURE.write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
