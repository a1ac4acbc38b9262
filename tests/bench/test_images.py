"""What is found in images, and the pages that are made of it: every figure as it is in the JSON."""

import copy
import gzip
import importlib
import io
import json
import random
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bench import figures, image_report, images, report, results_data
from bench.images import OUTSIDE
from tests.bench.test_report import check_texts, row, section

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]

# --- a sample -------------------------------------------------------------------------------------------------------

STATIC = {
    "base": {"musl": 188_000, "zlib": 41_000},
    "interpreter": {"core and built-in types": 1_640_000, "parser, AST and compiler": 443_000},
    "standard library": {"modules in C": 684_000, "modules, deflated": 882_000},
    "uvloop": {"in Cython": 836_000, "libuv": 30_000},
    "httptools": {"with llhttp": 86_000},
    "TLS": {"OpenSSL": 3_016_000},
    "ours": {"modules, deflated": 70_000},
    "rest": {"headers, alignment, and what is not attributed": 114_000},
}
PARTS: dict[str, dict[str, dict[str, int]]] = {
    "slim": {
        "base": {"pip": 10_926_000, "the distribution": 78_842_000},
        "interpreter": {"CPython": 7_604_000},
        "standard library": {"modules": 12_188_000, "extension modules": 5_516_000},
        "uvloop": {"extension modules": 1_768_000},
        "httptools": {"extension modules": 263_000},
        "TLS": {"OpenSSL and the modules ssl, hashlib": 5_716_000},
        "ours": {"byte code": 196_000, "sources": 122_000},
        "rest": {"the archives' own headers": 4_861_000},
    },
    "alpine": {**STATIC, "base": {**STATIC["base"], "the distribution": 8_400_000}},
    "scratch": STATIC,
    "minimal": {group: of_group for group, of_group in STATIC.items() if group != "TLS"},
}
COSTS = {"limit": 7.0, OUTSIDE: 8.1, "slim": 8.2, "alpine": 8.0, "scratch": 7.9, "minimal": 7.95}
TITLES = {
    "tcp64": "TCP, 64 B", "post64": "POST of 64 B", "pipe16": "16 POSTs of 64 B pipelined, each of them",
    "post1m": "POST of 1 MiB",
}  # fmt: skip


def sample(seed: int = 1) -> Result:
    """A whole run."""
    chance = random.Random(seed)
    turns = [{"start": start, "turn": turn} for start in range(3) for turn in (1, 2)]
    loads: dict[str, Any] = {}
    for key, title in TITLES.items():
        arms: dict[str, Any] = {
            arm: {
                "rounds": [
                    {
                        "rate": 1e6 / (cpu := cost * chance.uniform(0.96, 1.05)), "cpu_us": cpu,
                        "client_cpu_us": 5.0, "latency_us": {"50": 400.0}, **turn,
                    }
                    for turn in turns
                ]
            }
            for arm, cost in COSTS.items()
        }  # fmt: skip
        loads[key] = {
            "title": title, "group": "tcp" if key == "tcp64" else "http", "content": 64, "client": "wrk", "notes": "",
            "arms": arms,
        }  # fmt: skip
    loads["idle"] = {
        "title": "idle keep-alive connections", "group": "memory", "content": 64, "client": "client", "notes": "",
        "arms": {
            arm: {"rounds": [{"memory_bytes": {"0": cost * 3e6, "1000": cost * 3e6 + 1e6}, **turns[0]}]}
            for arm, cost in COSTS.items()
        },
    }  # fmt: skip
    for load in loads.values():
        figures.summarise(load["arms"], client_cpus=1)
    return {
        "format": figures.FORMAT,
        "made": "2026-11-24T16:00:00Z",
        "machine": {"cpu": "AMD EPYC", "cpus": 2, "memory_bytes": 25e9, "kernel": "6.18.0", "system": "Debian 12"},
        "versions": {"echoserver": "0.1.0", "python": "CPython 3.11.2", "slim": "0.1.0 on cpython 3.13.0"},
        "method": {
            "rounds": 2, "starts": 3, "seconds": 1.0, "warm_up": True, "quick": False, "runs": 3,
            "server_cpus": [0], "client_cpus": [1],
        },
        "skipped": {},
        "images": {
            target: {
                "size": sum(sum(each.values()) for each in parts.values()),
                "compressed": sum(sum(each.values()) for each in parts.values()) // 2,
                "layers": [{"size": 4_000_000, "compressed": 2_000_000, "base": False}],
                "parts": copy.deepcopy(parts),
                "executable": target != "slim",
            }
            for target, parts in PARTS.items()
        },
        "starts": {
            what: {
                "answer": [0.41, 0.4, 0.52], "version": [0.3, 0.31, 0.29], "stop": [0.1, 0.11, 0.12],
                "resident_bytes": [20e6] * 3, "proportional_bytes": [15e6, None, 16e6],
            }
            for what in (OUTSIDE, f"{OUTSIDE} scratch", *PARTS)
        },
        "loads": loads,
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> Result:
    """It serves many tests: none may change it."""
    read: Result = json.loads(json.dumps(sample()))
    return read


def page(result: Result) -> str:
    return report.markdown(image_report.blocks(result))


# --- the committed pages ---


@pytest.fixture
def reference() -> Result:
    if not images.REFERENCE.exists():
        pytest.skip("there is no reference run of the images")
    return figures.load(images.REFERENCE)


def test_the_readme_has_the_figures_of_the_reference_run(reference: Result) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert image_report.update_readme(readme, reference) == readme, "run python -m bench report"


def test_the_page_is_that_of_the_reference_run(reference: Result, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[bench]'")
    image_report.write(reference, tmp_path)
    written = figures.RESULTS / "IMAGES.md"
    assert (tmp_path / "IMAGES.md").read_text(encoding="utf-8") == written.read_text(encoding="utf-8")


# --- what is said ---


def test_the_table_for_the_readme(whole: Result) -> None:
    lines = image_report.readme_table(whole).splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("<!-- images -->", "<!-- /images -->", 8)
    ratio = whole["loads"]["post64"]["arms"]["scratch"]["ratio"][OUTSIDE]
    assert row("\n".join(lines), "scratch") == [
        "scratch", "8.03 MB", "4.01 MB", "410 ms", "22.6 MiB", f"{ratio:.2f}",
    ]  # fmt: skip


def test_only_what_is_between_the_marks_is_replaced(whole: Result) -> None:
    updated = image_report.update_readme("before\n<!-- images -->\nold\n<!-- /images -->\nafter\n", whole)
    assert updated == f"before\n{image_report.readme_table(whole)}\nafter\n"


def test_a_readme_without_a_place(whole: Result) -> None:
    with pytest.raises(figures.NoFigures, match="expected a line <!-- images --> and after it a line <!-- /images -->"):
        image_report.update_readme("", whole)


def test_the_parts_come_to_the_whole(whole: Result) -> None:
    said = section(page(whole), "What the bytes are")
    assert row(said, "part") == ["part", *PARTS]
    assert row(said, "TLS") == ["TLS", "5.72 MB", "3.02 MB", "3.02 MB", "-"]
    assert row(said, "sum of the layers") == ["sum of the layers", "128 MB", "16.4 MB", "8.03 MB", "5.01 MB"]
    assert row(said.partition("### minimal, part by part")[2], "uvloop: libuv") == ["uvloop: libuv", "30,000", "0.6 %"]


def test_starts_and_stops(whole: Result) -> None:
    said = section(page(whole), "From start to stop")
    expected = ["410 ms", "400 to 520 ms", "300 ms", "110 ms", "100 to 120 ms"]
    for what in ("no container", "no container, scratch's executable", "slim"):
        assert row(said, what)[1:] == expected


def test_memory(whole: Result) -> None:
    said = section(page(whole), "Memory")
    assert row(said, "limit server") == ["limit server", "20.0 MiB", "21.0 MiB", "-"]
    assert row(said, "slim")[3] == "14.8 MiB"  # the median of those that are known


def test_the_same_server_in_no_container_stands_beside_each(whole: Result) -> None:
    said = section(page(whole), "Under load")
    arms = whole["loads"]["post1m"]["arms"]
    assert row(said, "POST of 1 MiB")[1] == results_data.figure(arms[OUTSIDE]["median"]["cpu_us"])
    for title, other in (("no container", OUTSIDE), ("slim", "slim"), ("limit server", "limit")):
        ratios = said.partition(f"### CPU time over that of: {title}")[2]
        named = dict(zip(row(ratios, "load"), row(ratios, "POST of 1 MiB"), strict=True))
        assert named["scratch"] == f"{arms['scratch']['ratio'][other]:.2f}"


def test_what_was_not_measured_is_said(whole: Result) -> None:
    result = whole | {"skipped": {"parts": "no such image"}, "method": whole["method"] | {"quick": True}}
    assert "- parts: no such image" in section(page(result), "Not measured")
    assert "**A quick run:" in page(result)


def test_a_run_that_was_cut_off(whole: Result) -> None:
    assert "## Size" in page(whole | {"loads": {}, "starts": {}})


# --- the picture ---


@pytest.fixture(scope="module")
def drawing() -> Any:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[bench]'")
    return importlib.import_module("bench.image_pictures")


@pytest.mark.parametrize("targets", [tuple(PARTS), ("slim",), ("scratch", "minimal")])
@pytest.mark.parametrize("seed", [1, 2])
def test_no_text_lies_on_another_or_is_cut(drawing: Any, targets: tuple[str, ...], seed: int) -> None:
    result = sample(seed)
    result["images"] = {target: result["images"][target] for target in targets}
    check_texts(drawing.draw(result)[0].svg, "images")


def test_the_files_are_written_and_the_same_each_time(drawing: Any, tmp_path: Path) -> None:
    def files(name: str) -> Mapping[str, str]:
        return {path.name: path.read_text(encoding="utf-8") for path in image_report.write(sample(), tmp_path / name)}

    first = files("one")
    assert list(first) == ["IMAGES.md", "images.svg"]
    assert "![How small is each image, and what does it cost?](images.svg)" in first["IMAGES.md"]
    assert "not measured here" in " ".join(re.findall(r">([^<]*)</text>", first["images.svg"]))
    assert files("two") == first


def test_nothing_is_drawn_without_loads_but_sizes(drawing: Any, whole: Result) -> None:
    (drawn,) = drawing.draw(whole | {"loads": {}})
    assert "CPU time" not in drawn.svg
    assert drawing.draw(whole | {"images": {}}) == []


# --- what is in a layer ---

EXECUTABLE = b"\x7fELF" + bytes(996)
FILES = {
    "usr/local/lib/python3.13/site-packages/uvloop/loop.cpython-313.so": ("uvloop", "extension modules"),
    "usr/local/lib/python3.13/site-packages/uvloop/loop.pyx": ("uvloop", "sources"),
    "usr/local/lib/python3.13/site-packages/httptools/__pycache__/__init__.cpython-313.pyc": ("httptools", "byte code"),
    "usr/local/lib/python3.13/site-packages/httptools-0.9.0.dist-info/RECORD": ("httptools", "metadata"),
    "usr/local/lib/python3.13/site-packages/echoserver/cli.py": ("ours", "sources"),
    "usr/local/lib/python3.13/site-packages/echoserver-0.1.0.dist-info/METADATA": ("ours", "metadata"),
    "usr/local/lib/python3.13/site-packages/pip/__init__.py": ("base", "pip"),
    "usr/local/bin/echoserver": ("ours", "the command"),
    "usr/local/bin/python3.13": ("interpreter", "CPython"),
    "usr/local/lib/python3.13/asyncio/events.py": ("standard library", "modules"),
    "usr/local/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so": (
        "TLS", "OpenSSL and the modules ssl, hashlib",
    ),
    "usr/local/lib/python3.13/lib-dynload/_json.cpython-313-x86_64-linux-gnu.so": (
        "standard library", "extension modules",
    ),
    "usr/lib/x86_64-linux-gnu/libcrypto.so.3": ("TLS", "OpenSSL and the modules ssl, hashlib"),
    "etc/passwd": ("base", "the distribution"),
}  # fmt: skip


def layer(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_each_file_belongs_to_one_part(tmp_path: Path) -> None:
    content = {name: bytes(1 << number) for number, name in enumerate(FILES)}
    path = layer(tmp_path / "layer.tar", content)
    *found, rest = images._parts_of_layer(path, path.stat().st_size, {})
    assert [(group, part) for group, part, _ in found] == list(FILES.values())
    assert [size for *_, size in found] == [1 << number for number in range(len(FILES))]
    assert rest == ("rest", "the archives' own headers", path.stat().st_size - sum(size for *_, size in found))


def test_a_static_executable_has_the_parts_that_were_found_when_it_was_built(tmp_path: Path) -> None:
    path = layer(tmp_path / "layer.tar", {"echoserver": EXECUTABLE})
    parts = {"CPython: core": 600, "OpenSSL": 300, "musl": 0, "echoserver: modules, deflated": 60, "headers": 40}
    found = list(images._parts_of_layer(path, path.stat().st_size, {len(EXECUTABLE): parts}))
    assert found[:-1] == [
        ("interpreter", "core", 600),
        ("TLS", "OpenSSL", 300),
        ("ours", "modules, deflated", 60),
        ("rest", "headers", 40),
    ]
    (whole, _) = images._parts_of_layer(path, path.stat().st_size, {})
    assert whole == ("rest", "the executable", len(EXECUTABLE))


@pytest.mark.parametrize("packed", [False, True])
def test_a_layer_is_as_large_as_it_is_unpacked(packed: bool, tmp_path: Path) -> None:
    path = layer(tmp_path / "layer.tar", {"file": bytes(100_000)})
    expected = images._layer(path, base=False)
    assert expected["size"] == path.stat().st_size
    assert expected["compressed"] < 1000
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert images._layer(path, base=False) == expected


def test_the_executable_is_taken_from_its_layer(tmp_path: Path) -> None:
    images._take_executable(layer(tmp_path / "one.tar", {"usr/local/bin/echoserver": b"#!/bin/sh"}), tmp_path / "one")
    images._take_executable(layer(tmp_path / "two.tar", {"usr/local/bin/echoserver": EXECUTABLE}), tmp_path / "two")
    assert not (tmp_path / "one").exists()
    assert (tmp_path / "two").read_bytes() == EXECUTABLE
