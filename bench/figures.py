"""The result of a comparison, as it stands in its JSON file: every round's figures, and what they come to."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

import echoserver

FORMAT = 1
"""Of the file; another number is another layout."""

RESULTS = Path(__file__).parent / "results"
REFERENCE = RESULTS / "reference.json"

Result = dict[str, Any]
"""What the file holds: made, machine, versions, method, skipped, and loads: {name: {..., arms: {name: Arm}}}."""

Arm = dict[str, Any]
"""rounds (a Round each, or {"thrown_away": why}), median, spread, ratio; and cannot, where it can't serve the load."""

Round = dict[str, Any]
"""rate (requests a second), cpu_us (server CPU time a request, microseconds), client_cpu_us, latency_us; or
memory_bytes, by the number of idle connections. Rounds of several arms belong together where their start and turn are
equal."""


class NoFigures(ValueError):
    """A file that holds no result; the message says which and why."""


def load(path: Path) -> Result:
    """Read a result. Raises NoFigures."""
    try:
        result: Result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NoFigures(f"{path} is not there: `python -m bench compare` writes one") from None
    except (OSError, ValueError) as error:
        raise NoFigures(f"{path} can't be read: {error}") from None
    if not isinstance(result, dict) or result.get("format") != FORMAT or not isinstance(result.get("loads"), dict):
        raise NoFigures(f"{path} is not a result of this bench: expected format {FORMAT}")
    return result


def save(result: Result, path: Path) -> None:
    """Write a result; numbers to the digits that they have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def good(arm: Arm) -> list[Round]:
    """The rounds that count."""
    return [each for each in arm["rounds"] if "thrown_away" not in each]


def ratios(arm: Arm, other: Arm, field: str = "cpu_us") -> list[float]:
    """An arm's figure divided by the other one's, of each round in which both have one."""
    others = {(each["start"], each["turn"]): each[field] for each in good(other)}
    pairs = ((each[field], others.get((each["start"], each["turn"]))) for each in good(arm))
    return [figure / another for figure, another in pairs if another]


def joined(before: Result, now: Result) -> Result:
    """A result with the loads of both, those of now in place of the same ones before. Each load was one run, so its
    ratios stay what they are. Raises NoFigures where machine or versions are not the same."""
    same = ("python", "uvloop", "httptools")
    facts = [
        (result.get("machine"), *(result.get("versions", {}).get(each) for each in same)) for result in (before, now)
    ]
    if facts[0] != facts[1]:
        raise NoFigures("the result that is there was made on another machine, or with other versions")
    return {
        **now,
        "versions": {**before["versions"], **now["versions"]},
        "skipped": {**before["skipped"], **now["skipped"]},
        "loads": before["loads"] | now["loads"],
    }


def summarise(arms: dict[str, Arm], *, client_cpus: int) -> None:
    """Add median, spread and ratio to each arm; and the client's ceiling, with so many CPUs (0: it is not known)."""
    for arm in arms.values():
        rounds = good(arm)
        arm["median"] = _median(rounds) if rounds else None
        arm["spread"] = {}
        arm["ratio"] = {}
        if not rounds or "cpu_us" not in rounds[0]:
            continue
        if client_cpus:
            arm["median"]["ceiling"] = 1e6 * client_cpus / max(arm["median"]["client_cpu_us"], 1e-3)
        for field in ("rate", "cpu_us"):
            values = [each[field] for each in rounds]
            arm["spread"][field] = [min(values), max(values)]
        for name, other in arms.items():
            if of_rounds := ratios(arm, other):
                arm["ratio"][name] = statistics.median(of_rounds)


def _median(rounds: list[Round]) -> Round:
    """Field by field; of a dict, key by key, where each round has the key. The longest latency is that of all."""
    result: Round = {}
    for field, first in rounds[0].items():
        values = [each[field] for each in rounds]
        if field in {"start", "turn"}:
            continue
        if isinstance(first, dict):
            keys = [key for key in first if all(key in each for each in values)]
            result[field] = {key: statistics.median(each[key] for each in values) for key in keys}
            if "max" in keys:
                result[field]["max"] = max(each["max"] for each in values)
        else:
            result[field] = statistics.median(values)
    return result


def new(method: dict[str, Any]) -> Result:
    """A result without loads: when, on what machine, with which versions of the server's own parts."""
    return {
        "format": FORMAT,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "machine": machine(),
        "versions": versions(),
        "method": method,
        "skipped": {},
        "loads": {},
    }


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that names the machine."""
    return {
        "cpu": _after("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
    }


def _after(path: str, name: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith(name)), "")
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """Of the server, and of what it runs on."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    found["echoserver"] = echoserver.__version__
    for package in ("uvloop", "httptools"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    commit = _git("rev-parse", "--short", "HEAD")
    if commit:
        found["commit"] = commit + (" and changes" if _git("status", "--porcelain", "--", "echoserver") else "")
    return found


def _git(*words: str) -> str:
    """What git says of this checkout; nothing where there is no git, or no checkout."""
    try:
        done = subprocess.run(["git", *words], cwd=RESULTS.parent, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if not done.returncode else ""
