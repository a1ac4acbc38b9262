"""The pages that are made of a comparison: every figure as it is in the JSON, what is missing said, nothing trusted."""

import copy
import html.parser
import importlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import figures, report, results_data
from tests.unit.examples import examples

ROOT = Path(__file__).parents[2]
Result = dict[str, Any]

# --- a sample: plausible figures with noise -------------------------------------------------------------------------

SIZES = {
    "64": (64, "64 B"), "1k": (1 << 10, "1 KiB"), "4k": (1 << 12, "4 KiB"), "16k": (1 << 14, "16 KiB"),
    "64k": (1 << 16, "64 KiB"), "256k": (1 << 18, "256 KiB"), "1m": (1 << 20, "1 MiB"), "4m": (1 << 22, "4 MiB"),
    "16m": (1 << 24, "16 MiB"),
}  # fmt: skip
HTTP = {  # microseconds: a request, a byte
    "limit": (6.4, 2.8e-4), "echoserver": (7.3, 3.1e-4), "nginx": (8.6, 3.0e-4), "nethttp": (13.1, 5.2e-4),
    "fasthttp": (8.8, 4.3e-4), "bjoern": (9.6, 9e-4), "granian": (17.0, 1.1e-3), "uvicorn": (22.5, 1.9e-3),
    "node": (24.0, 8e-4),
}  # fmt: skip
TCP = {
    "limit": (6.2, 2.4e-4), "echoserver": (6.7, 2.5e-4), "go": (9.4, 2.7e-4), "node": (14.0, 3.3e-4),
    "asyncio": (16.0, 3.0e-4), "socat": (8.1, 4.5e-4),
}  # fmt: skip
WEBSOCKET = {
    "limit": (5.7, 3.3e-4), "echoserver": (7.6, 1.2e-3), "picows": (8.4, 4.2e-4), "websockets": (23.6, 7.5e-4),
    "gorilla": (7.8, 4.1e-4), "nodews": (12.6, 2.5e-3),
}  # fmt: skip
UDP = {
    "limit": (4.1, 3e-4), "echoserver": (6.2, 3e-4), "go": (6.6, 3e-4), "node": (21.0, 1e-3), "asyncio": (22.0, 1e-3),
}  # fmt: skip
TLS = {"echoserver": (14.0, 2.9e-3), "nginx": (12.0, 2.4e-3), "fasthttp": (13.0, 2.2e-3), "nethttp": (17.0, 2.2e-3)}
VARIANTS: dict[str, tuple[str, float, Mapping[str, float]]] = {  # title, microseconds more for all, for some
    "path": ("POST of 64 B, another path each time", 0, {"echoserver": 2.0}),
    "fields": ("POST of 64 B, another X-Request-Id each time", 0, {"echoserver": 6.3}),
    "browser": ("POST with a browser's 13 fields", 0.4, {"node": 4, "uvicorn": 5}),
    "pipe16": ("16 POSTs pipelined, each", -6.1, {"nginx": 4.8, "bjoern": 5, "granian": 3, "uvicorn": 2}),
    "chunked": ("chunked POST of 64 B", 0.3, {"echoserver": 1.0, "nginx": 1.4}),
    "close": ("a connection a request", 33, {"nginx": -3}),
    "idle1k": ("POST of 64 B, 1,000 connections, 1 % active", 0.1, {}),
    "idle10k": ("POST of 64 B, 10,000 connections, 1 % active", 0.3, {}),
}
MEMORY = {  # MiB, KiB a connection
    "limit": (1.6, 0.3), "echoserver": (24.3, 1.4), "nginx": (4.9, 1.1), "nethttp": (9, 19.9), "fasthttp": (8, 16.4),
    "bjoern": (15, 0.9), "granian": (38, 3.0), "uvicorn": (31, 8.0), "node": (48, 9.5),
}  # fmt: skip
LATENCY = {"50": 62.0, "75": 70.0, "90": 84.0, "99": 130.0, "99.9": 310.0, "max": 900.0}


FEW = ("limit", "echoserver", "nginx", "fasthttp", "nethttp", "node")  # of the loads that differ in size alone


class Sample:
    """A result as ``bench compare`` writes it: rounds on a machine whose speed changes, and what they sum up to."""

    def __init__(self, seed: int, starts: int, rounds: int) -> None:
        self.random = random.Random(seed)
        self.turns = [{"start": start, "turn": turn + 1} for start in range(starts) for turn in range(rounds)]
        self.loads: dict[str, Any] = {}

    def load(
        self, key: str, title: str, group: str, content: int | None, costs: Mapping[str, float], **more: Any
    ) -> None:
        client = 5.0 + (content or 0) * 3e-4
        rounds: dict[str, list[dict[str, Any]]] = {arm: [] for arm in costs}
        for turn in self.turns:
            weather = self.random.uniform(0.95, 1.06)
            for arm, cost in costs.items():
                cpu = max(0.3, cost) * weather * self.random.uniform(0.97, 1.03)
                rate = min(0.97e6 / cpu, 0.99e6 / client, more.get("offered_rate", 1e9))
                latency = {which: base * cpu / 7 for which, base in LATENCY.items()}
                rounds[arm].append(
                    {"rate": rate, "cpu_us": cpu, "client_cpu_us": client, "latency_us": latency, **turn}
                )
        self.finish(key, title, group, content, rounds, **more)

    def memory(self) -> None:
        rounds = {
            arm: [
                {"memory_bytes": {str(n): base * 2**20 + each * 1024 * n for n in (0, 1000, 5000, 10000)}, **turn}
                for turn in self.turns
            ]
            for arm, (base, each) in MEMORY.items()
        }
        self.finish("memory", "idle keep-alive connections", "memory", 64, rounds)

    def finish(
        self, key: str, title: str, group: str, content: int | None, rounds: Mapping[str, Any], **more: Any
    ) -> None:
        self.loads[key] = {
            "title": title, "group": group, "content": content, "client": f"wrk -t1 -c64 -s {key}.lua", "notes": "",
            "arms": {arm: {"rounds": each} for arm, each in rounds.items()}, **more,
        }  # fmt: skip
        summed_up(self.loads[key])

    def fail(self, key: str, arm: str, turns: slice, why: str) -> None:
        rounds = self.loads[key]["arms"][arm]["rounds"]
        rounds[turns] = [{"thrown_away": why, **turn} for turn in self.turns[turns]]
        summed_up(self.loads[key])


def summed_up(load: dict[str, Any]) -> None:
    figures.summarise(load["arms"], client_cpus=0 if "offered_rate" in load else 1)


def sample(seed: int = 1, starts: int = 3, rounds: int = 3) -> Result:
    """A whole run. bjoern fails with chunked content, one of Node.js's rounds is lost, socat has no unix socket."""
    made = Sample(seed, starts, rounds)
    for key in ("64", "4k", "64k", "1m"):
        content, text = SIZES[key]
        made.load(f"tcp{key}", f"TCP, {text}", "tcp", content, {arm: a + b * content for arm, (a, b) in TCP.items()})
    for key, title in (("mix", "a proxy's requests"), ("lengths", "POST of JSON, 20 to 1,000 B")):
        made.load(key, title, "mix", None, {arm: a + 1.5 for arm, (a, _) in HTTP.items()})
    made.load("unix64", "unix socket, 64 B", "tcp", 64, {arm: 0.7 * a for arm, (a, _) in TCP.items() if arm != "socat"})
    made.load(
        "get", "GET (the header section comes back)", "http", None, {arm: a + 0.4 for arm, (a, _) in HTTP.items()}
    )
    for key, (content, text) in SIZES.items():
        arms = HTTP if key in ("64", "64k", "1m") else FEW
        costs = {arm: a + b * content for arm, (a, b) in HTTP.items() if arm in arms}
        made.load(f"post{key}", f"POST of {text}", "http", content, costs)
    for key, (title, extra, some) in VARIANTS.items():
        costs = {arm: a + extra + some.get(arm, 0) for arm, (a, _) in HTTP.items()}
        made.load(key, title, "http", 64, costs, notes="server and client share all CPUs" if key == "idle10k" else "")
    for key in ("64", "4k", "1m"):
        content, text = SIZES[key]
        costs = {arm: a + b * content for arm, (a, b) in WEBSOCKET.items()}
        made.load(f"ws{key}", f"WebSocket, {text}", "ws", content, costs)
    for content in (64, 1400):
        costs = {arm: a + b * content for arm, (a, b) in UDP.items()}
        made.load(f"udp{content}", f"UDP, datagrams of {content:,} B", "udp", content, costs)
    for key in ("64", "64k"):
        content, text = SIZES[key]
        costs = {arm: a + b * content for arm, (a, b) in TLS.items()}
        made.load(f"tls{key}", f"POST of {text} over TLS", "tls", content, costs)
    costs = {arm: 60 * a for arm, (a, _) in TLS.items()}
    made.load("tlsnew", "a connection each, TLS handshake in full", "tls", 64, costs)
    made.load(
        "latency", "POST of 64 B, 30,000 a second", "rate", 64,
        {arm: a * 1.4 for arm, (a, _) in HTTP.items()}, offered_rate=30000.0,
    )  # fmt: skip
    made.load("workers2", "POST of 64 B, two workers", "workers", 64,
              {"echoserver": 7.4, "echoserver-2": 7.9, "nginx-2": 9.4})  # fmt: skip
    made.memory()
    made.fail("post4k", "node", slice(1), "3 socket errors")
    made.fail("chunked", "bjoern", slice(None), "Non-2xx or 3xx responses: 12")
    return {
        "format": figures.FORMAT,
        "made": "2026-11-24T16:00:00Z",
        "machine": {
            "cpu": "AMD EPYC", "cpus": 2, "memory_bytes": 25000000000, "kernel": "6.18.0",
            "system": "Debian GNU/Linux 12 (bookworm)",
        },
        "versions": {"echoserver": "0.1.0", "commit": "7f5cddb", "python": "CPython 3.11.2", "nginx": "1.22.1"},
        "method": {
            "rounds": rounds, "starts": starts, "seconds": 1.0, "warm_up": True, "quick": False,
            "server_cpus": [0], "client_cpus": [1],
        },
        "skipped": {"japronto": "japronto is not installed: pip install '.[japronto]'"},
        "loads": made.loads,
    }  # fmt: skip


def quick(*keys: str) -> Result:
    """A quick run of a few loads."""
    result = sample(starts=1, rounds=2)
    result["method"] |= {"seconds": 0.2, "quick": True}
    result["loads"] = {key: result["loads"][key] for key in keys}
    return result


@pytest.fixture(scope="module")
def whole() -> Result:
    """A whole run, as it is read from a file. It serves many tests: none may change it."""
    read: Result = json.loads(json.dumps(sample()))
    return read


def pages(result: Result) -> str:
    """RESULTS.md without pictures, which are what takes time."""
    return report.markdown(report.blocks(result))


def section(text: str, title: str) -> str:
    """What is under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no heading {title!r}"
    return found[2]


def row(text: str, first: str) -> list[str]:
    """The cells of the first row of a table that begins so."""
    found = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return found[2:-2].split(" | ")


# --- figures for people ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0, "0"), (0.93, "0.930"), (7.333, "7.33"), (9.996, "10.0"), (27.44, "27.4"), (328.4, "328"),
        (999.6, "1,000"), (1089.0, "1,090"), (145123.0, "145,000"),
    ],
)  # fmt: skip
def test_figures_have_three_significant_digits(value: float | None, text: str) -> None:
    assert results_data.figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.85, "0.85"), (0.0612, "0.06"), (9.994, "9.99"), (9.996, "10.0"), (13.24, "13.2")],
)
def test_ratios_have_two_places(value: float | None, text: str) -> None:
    assert results_data.times(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(64, "64 B"), (1 << 10, "1 KiB"), (25e9, "23.3 GiB"), (1536 << 10, "1.5 MiB")]
)
def test_sizes(value: float, text: str) -> None:
    assert results_data.size(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (71.68, "71.7 µs"), (1180.0, "1.18 ms"), (2.5e6, "2.50 s")])
def test_durations(value: float | None, text: str) -> None:
    assert results_data.duration(value) == text


# --- the README ---


def test_the_readme_has_the_figures_of_the_reference_run() -> None:
    reference = json.loads((ROOT / "bench" / "results" / "reference.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.update_readme(readme, reference) == readme, "run python -m bench report"


def test_the_results_are_those_of_the_reference_run(drawing: Any, tmp_path: Path) -> None:
    results = ROOT / "bench" / "results"
    report.write(json.loads((results / "reference.json").read_text(encoding="utf-8")), tmp_path)
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == (results / "RESULTS.md").read_text(encoding="utf-8")


def test_the_table_for_the_readme(whole: Result) -> None:
    lines = report.readme_table(whole).splitlines()
    assert lines[:3] + lines[-1:] == [
        "<!-- figures -->",
        "| load | echoserver | limit server | nginx | Go fasthttp | echoserver / limit | echoserver / nginx |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "<!-- /figures -->",
    ]
    arms = whole["loads"]["post1m"]["arms"]
    medians = [
        results_data.figure(arms[arm]["median"]["cpu_us"]) for arm in ("echoserver", "limit", "nginx", "fasthttp")
    ]
    ratios = [f"{arms['echoserver']['ratio'][other]:.2f}" for other in ("limit", "nginx")]
    assert row("\n".join(lines), "POST of 1 MiB") == ["POST of 1 MiB", *medians, *ratios]
    assert [cell == "-" for cell in row("\n".join(lines), "TCP, 64 B")] == [
        False,
        False,
        False,
        True,
        True,
        False,
        True,
    ]


def test_the_table_for_the_readme_has_the_loads_that_there_are() -> None:
    assert len(report.readme_table(quick("post64", "idle1k", "memory")).splitlines()) == 5


def test_only_what_is_between_the_marks_is_replaced(whole: Result) -> None:
    readme = "before\n\n<!-- figures -->\n| old |\n<!-- /figures -->\n\nafter\n"
    updated = report.update_readme(readme, whole)
    assert updated == f"before\n\n{report.readme_table(whole)}\n\nafter\n"
    assert report.update_readme(updated, whole) == updated


@pytest.mark.parametrize(
    "readme", ["", "<!-- figures -->", "<!-- /figures --><!-- figures -->", "<!-- figures -->" * 2]
)
def test_a_readme_without_a_place_for_the_figures(readme: str, whole: Result) -> None:
    with pytest.raises(ValueError, match=r"no place for the figures: expected a line <!-- figures --> and after it"):
        report.update_readme(readme, whole)


# --- what is said ---


def test_machine_and_method_come_first(whole: Result) -> None:
    first = pages(whole).partition("\n## ")[0]
    for said in (
        "3 rounds of 1 s in each of 3 starts",
        "AMD EPYC, 2 CPUs",
        "23.3 GiB",
        "Debian GNU/Linux 12 (bookworm), Linux 6.18.0",
    ):
        assert said in first
    assert row(first, "server on") == ["server on", "CPU 0"]
    assert row(first, "nginx") == ["nginx", "1.22.1"]
    assert "japronto: japronto is not installed" in section(pages(whole), "Not measured")


def test_what_was_thrown_away_is_said_aloud(whole: Result) -> None:
    said = section(pages(whole), "Thrown away")
    rounds = sum(len(arm["rounds"]) for load in whole["loads"].values() for arm in load["arms"].values())
    assert f"**10 of {rounds:,} rounds were thrown away and are in none of the figures.**" in said
    assert row(said, "POST of 4 KiB") == ["POST of 4 KiB", "Node.js", "1 of 9", "3 socket errors"]
    assert row(said, "chunked POST of 64 B")[1:] == ["bjoern", "9 of 9", "Non-2xx or 3xx responses: 12"]


def test_no_round_thrown_away() -> None:
    assert "None of 18 rounds was thrown away." in pages(quick("post64"))


def test_an_arm_without_a_figure_has_a_dash_and_a_reason(whole: Result) -> None:
    http = section(pages(whole), "HTTP")
    assert row(http, "chunked POST of 64 B")[6] == "-"
    assert (
        "no figure of bjoern, chunked POST of 64 B: every round was thrown away: Non-2xx or 3xx responses: 12" in http
    )
    assert "no figure of Uvicorn, POST of 1 KiB; POST of 4 KiB; POST of 16 KiB; POST of 256 KiB; " in http
    assert "no figure of socat, unix socket, 64 B: not measured" in section(pages(whole), "TCP")
    assert "POST of 64 B, 10,000 connections, 1 % active: server and client share all CPUs" in http


def test_a_skipped_peer_has_its_reason_where_it_is_missing() -> None:
    result = quick("tcp64", "unix64")
    result["skipped"] = {"socat": "socat is not installed"}
    assert "no figure of socat, unix socket, 64 B: socat is not installed" in pages(result)


def test_where_echoserver_loses_is_plain(whole: Result) -> None:
    text = pages(whole)
    lost = section(text, "Where others need less CPU time")
    ratio = whole["loads"]["fields"]["arms"]["echoserver"]["ratio"]["nginx"]
    assert ratio > 1.05
    title = "POST of 64 B, another X-Request-Id each time"
    assert f"| {title} | nginx | " in lost
    assert f"**{ratio:.2f}**" in lost
    beside_others = section(text, "HTTP").partition("### echoserver's CPU time over the other's")[2]
    assert row(beside_others, title)[2] == f"**{ratio:.2f}**"
    counted = re.search(
        r"In (\d+) comparisons .* peer in (\d+), less in (\d+), and as much, within 5 %, in (\d+)", lost
    )
    assert counted
    everything, *parts = map(int, counted.groups())
    assert everything == sum(parts)
    assert parts[0] == lost.count("| **")


def test_a_client_that_is_the_bottleneck_is_named(whole: Result) -> None:
    http = section(pages(whole), "HTTP")
    client = http.partition("### The client")[2]
    assert row(client, "POST of 16 MiB")[-1] == "**the client was the bottleneck**"
    assert row(client, "a connection a request")[-1] != "**the client was the bottleneck**"
    rates = http.partition("### Requests a second")[2]
    assert row(rates, "POST of 16 MiB")[2].endswith(r"\*")
    assert not row(rates, "POST of 64 B")[1].endswith(r"\*")


def test_latency_at_a_fixed_rate(whole: Result) -> None:
    said = section(pages(whole), "Latency: POST of 64 B, 30,000 a second")
    assert "30,000 requests a second are sent, whether answers come or not" in said
    assert row(said, "server")[1:7] == [*(f"{p} % within" for p in ("50", "75", "90", "99", "99.9")), "longest"]
    assert row(said, "echoserver")[7] == "30,000"
    assert row(said, "Node.js")[7].startswith("**")
    assert "Node.js could not keep up: " in said


def test_memory_of_idle_connections(whole: Result) -> None:
    said = section(pages(whole), "Memory: idle keep-alive connections")
    assert row(said, "server")[1] == "0 connections"
    assert row(said, "echoserver") == ["echoserver", "24.3 MiB", "25.7 MiB", "31.1 MiB", "38.0 MiB", "1,430 B"]


def test_a_quick_run_says_that_it_is_one() -> None:
    text = pages(quick("post64", "tcp64"))
    assert "**A quick run: it shows that the bench works." in text
    assert "round after round: 2 rounds of 0.2 s. Some loads" in text
    assert "## Memory" not in text


@pytest.mark.parametrize("group", ["mix", "tcp", "udp", "http", "tls", "ws", "rate", "workers", "memory"])
def test_a_group_alone_and_a_run_without_it(group: str, whole: Result) -> None:
    def taken(wanted: bool) -> Result:
        return whole | {"loads": {k: load for k, load in whole["loads"].items() if (load["group"] == group) is wanted}}

    headings = r"^## (?:Requests that differ|TCP|UDP|HTTP|TLS|WebSocket|Two workers|Latency|Memory)"
    alone, without = (len(re.findall(headings, pages(taken(wanted)), re.MULTILINE)) for wanted in (True, False))
    assert (alone, without) == (1, 8)


def test_a_run_without_loads(whole: Result) -> None:
    assert "None of 0 rounds" in pages(whole | {"loads": {}})


def test_a_run_in_which_all_failed(whole: Result) -> None:
    result = copy.deepcopy(whole)
    for load in result["loads"].values():
        for arm in load["arms"].values():
            arm["rounds"] = [{"thrown_away": "refused", "start": 0, "turn": 1}]
        summed_up(load)
    assert "every round was thrown away: refused" in pages(result)


# --- nothing from the JSON is markup ---

HOSTILE = "<script>alert(1)</script> | `a` *b* [c](d) $x$ ${body} & \"q\" 'q' \\ # ]]> -->"


def hostile(keys: Iterable[str]) -> Result:
    """A run in which every text is markup of some kind."""
    result = quick(*keys)
    for load in result["loads"].values():
        load.update(title=HOSTILE, client=HOSTILE, notes=HOSTILE)
        load["arms"][HOSTILE] = copy.deepcopy(load["arms"]["echoserver"])
        for arm in load["arms"].values():
            arm["rounds"].append({"thrown_away": HOSTILE, "start": 1, "turn": 0})
        summed_up(load)
    result["machine"] |= {"cpu": HOSTILE, "system": HOSTILE, "kernel": HOSTILE}
    result["versions"] = {HOSTILE: HOSTILE}
    result["skipped"] = {HOSTILE: HOSTILE}
    return result


def test_markdown_is_escaped() -> None:
    text = pages(hostile(["post64", "latency", "memory", "workers2"]))
    code = re.compile(r"`[^`]*`")
    for line in text.splitlines():
        outside = code.sub("", line)
        assert not re.search(r"(?<!\\)[<>`]", outside), line
        assert not re.search(r"(?<!\\)\[", outside), line
        if "script" in line and line.startswith("|"):
            assert not re.search(r"(?<![\\ ])\|(?! |$)", outside), line


class Page(html.parser.HTMLParser):
    """The tags of a page, their attributes, and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]


def test_html_is_escaped() -> None:
    page = report.page(list(report.blocks(hostile(["post64", "latency", "memory", "workers2"]))))
    assert "script" not in Page(page).tags
    assert "<script" not in page
    assert "${body}" in page


# --- the pictures and the files ---


@pytest.fixture(scope="module")
def drawing() -> Any:
    """bench.pictures, which needs what only the extra "bench" brings."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install '.[bench]'")
    return importlib.import_module("bench.pictures")


@pytest.fixture(scope="module")
def drawn(drawing: Any, whole: Result, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """All files of a whole run: name and text."""
    paths = report.write(whole, tmp_path_factory.mktemp("results"))
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


PICTURES = ("cpu.svg", "content.svg", "memory.svg", "latency.svg")
pictures = pytest.mark.parametrize("picture", PICTURES)
SVG = "{http://www.w3.org/2000/svg}"


def test_all_files_are_written(drawn: Mapping[str, str]) -> None:
    assert list(drawn) == ["RESULTS.md", *PICTURES, "index.html"]
    assert re.findall(r"!\[.*\?\]\((.*)\)", drawn["RESULTS.md"]) == list(PICTURES)


def test_the_same_figures_give_the_same_bytes(drawn: Mapping[str, str], tmp_path: Path) -> None:
    again = report.write(json.loads(json.dumps(sample())), tmp_path / "new")
    assert {path.name: path.read_text(encoding="utf-8") for path in again} == drawn


@pictures
def test_a_picture_is_small_and_needs_nothing_else(picture: str, drawn: Mapping[str, str]) -> None:
    svg = drawn[picture]
    assert len(svg.encode()) < 60_000
    assert set(re.findall(r"https?://[^\"' ]+", svg)) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    root = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg", "title", "desc", "style", "defs", "path", "text", "use",
    }  # fmt: skip
    assert (root.findtext(f"{SVG}title") or "").endswith("?")
    assert "echoserver" in (root.findtext(f"{SVG}desc") or "")
    assert "prefers-color-scheme:dark" in svg


def check_texts(svg: str, name: str) -> None:
    """No text of a picture lies on another or is cut off; name: its id, which its rules begin with."""
    root = ET.fromstring(svg)
    rules = dict(re.findall(rf"#{name} \.(k\d+)\{{([^}}]*)\}}", root.findtext(f"{SVG}style") or ""))
    boxes = []
    for text in root.iter(f"{SVG}text"):
        style = dict(rules[each].split(":") for each in text.get("class", "").split() if each in rules)
        height = float(style["font-size"].removesuffix("px"))
        width = len(text.text or "") * height * 0.54
        left = float(text.get("x", "")) - width * {"middle": 0.5, "end": 1.0}.get(style.get("text-anchor", ""), 0.0)
        baseline = float(text.get("y", ""))
        boxes.append((left, left + width, baseline - 0.75 * height, baseline + 0.1 * height, text.text))
    for left, right, top, bottom, said in boxes:
        assert left >= 0, said
        assert right <= float(root.get("width", "")), said
        assert top >= 0, said
        assert bottom <= float(root.get("height", "")), said
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            beside = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert beside, (one[4], other[4])


@pictures
@pytest.mark.parametrize("seed", [1, 2])
def test_no_text_lies_on_another_or_is_cut(drawing: Any, picture: str, seed: int) -> None:
    sheet = drawing.PICTURES[picture.removesuffix(".svg")](sample(seed))
    assert sheet
    check_texts(sheet.svg("it"), "it")


def test_the_page_is_self_contained(drawn: Mapping[str, str]) -> None:
    page = Page(drawn["index.html"])
    assert page.tags.count("svg") == 4
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(value.startswith("#") for _, key, value in page.attributes if key in ("href", "src", "xlink:href"))
    assert not re.search(r"url\(|@import", drawn["index.html"])
    ids = [value for _, key, value in page.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    pointed_at = {value[1:] for _, key, value in page.attributes if key == "xlink:href"}
    assert pointed_at <= set(ids)
    assert {each for _, key, value in page.attributes if key == "aria-labelledby" for each in value.split()} <= set(ids)


def test_what_has_no_figures_is_neither_drawn_nor_spoken_of(drawing: Any, tmp_path: Path) -> None:
    (tmp_path / "memory.svg").write_text("of another run")
    paths = report.write(quick("post64", "tcp64"), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    assert [path.name for path in paths] == ["RESULTS.md", "cpu.svg", "index.html"]
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8").count(".svg") == 1


def test_a_server_measured_at_few_sizes_is_not_drawn_as_a_line(drawn: Mapping[str, str]) -> None:
    assert "few of these sizes, and not drawn: bjoern, Granian, Uvicorn." in drawn["content.svg"]
    assert drawn["content.svg"].count("Uvicorn") == 1


def without_limit(result: Result) -> None:
    for load in result["loads"].values():
        load["arms"].pop("limit", None)
        for arm in load["arms"].values():
            arm["ratio"].pop("limit", None)


def without_echoserver(result: Result) -> None:
    for load in result["loads"].values():
        load["arms"].pop("echoserver", None)


def without_figures(result: Result) -> None:
    for load in result["loads"].values():
        for arm in load["arms"].values():
            arm.update(median=None, spread={}, ratio={})


@pytest.mark.parametrize(
    ("change", "left"),
    [(without_limit, ["content", "memory", "latency"]), (without_echoserver, []), (without_figures, [])],
)
def test_pictures_of_a_run_in_which_arms_are_missing(
    drawing: Any, change: Callable[[Result], None], left: list[str]
) -> None:
    result = quick("tcp64", "post64", "post1m", "latency", "memory")
    change(result)
    assert [picture.name for picture in drawing.draw(result)] == left
    assert pages(result)


def test_hostile_texts_are_drawn_as_they_are(drawing: Any, tmp_path: Path) -> None:
    report.write(hostile(["post64", "post1m", "latency", "memory"]), tmp_path)
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert page.tags.count("svg") == 4
    assert "script" not in page.tags
    for picture in PICTURES:
        assert ET.parse(tmp_path / picture).getroot().tag == f"{SVG}svg"


def test_texts_can_be_read_on_both_pages(drawing: Any) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for colour in set(drawing.COLOURS) - {drawing.GRID}:
        assert contrast(colour.light, "#ffffff") >= 4.5, colour
        assert contrast(colour.dark, "#0d1117") >= 4.5, colour
    assert len({colour.light for colour in drawing.COLOURS}) == len(drawing.COLOURS)


@given(labels=st.lists(st.tuples(st.floats(0, 500), st.floats(5, 60)), min_size=1, max_size=8).map(sorted))
@examples(200)
def test_labels_are_moved_apart(drawing: Any, labels: list[tuple[float, float]]) -> None:
    sizes = [size for _, size in labels]
    places = drawing.apart([place for place, _ in labels], sizes, 0, 500)
    starts = [place - size / 2 for place, size in zip(places, sizes, strict=True)]
    ends = [place + size / 2 for place, size in zip(places, sizes, strict=True)]
    assert starts[0] >= -1e-6
    assert ends[-1] <= 500 + 1e-6
    assert all(end <= start + 1e-6 for end, start in zip(ends[:-1], starts[1:], strict=True))


def test_labels_stay_as_near_as_can_be(drawing: Any) -> None:
    assert drawing.apart([50, 100], [20, 20], 0, 500) == [50, 100]
    assert drawing.apart([95, 105], [20, 20], 0, 500) == [90, 110]
    assert drawing.apart([5, 400], [20, 20], 0, 500) == [10, 400]


def test_the_readme_needs_no_matplotlib() -> None:
    code = "import sys; sys.modules['matplotlib'] = None; import bench.report"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
