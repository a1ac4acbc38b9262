"""Says whether the server has become slower than the reference, by its ratio to the limit server of the same run, over
TLS to nginx, for the limit server has none.

Absolute figures of shared machines say nothing; a ratio of two servers in the same round moves by a few percent. How
much it moves is measured, not assumed: each run's rounds are spread over several starts of the servers, and a load is
slower only where its ratio has grown by more than both runs' own noise, twice: what looks slower is measured again.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench import arms, figures
from bench.compare import LIMIT, NGINX, OURS
from bench.figures import Result
from bench.loads import Load

LOADS = (
    "mix", "mixpost", "lengths", "tcp64", "udp64", "udp1400", "get", "post64", "fields", "pipe16", "chunked", "post64k",
    "post1m", "one", "tls64", "tls64k", "tlsnew", "tlsresume",
)  # fmt: skip
"""What the gate looks at: each way through the server."""

_LEAST = 0.06
"""A smaller change is never called one: runs of the same code on the same machine differ by as much."""

_SIGMAS = 3.0
_TO_SIGMA = 1.4826  # of a median absolute deviation, for normal noise


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """before and now: the median ratios to the limit server or another one, beside (None: no figure). change: how much
    greater it is now, 0.1 for a tenth. noise: the change that would still be none."""

    load: str
    before: float | None
    now: float | None
    change: float = 0.0
    noise: float = 0.0
    beside: str = LIMIT

    @property
    def missing(self) -> bool:
        return self.before is None or self.now is None

    @property
    def slower(self) -> bool:
        return not self.missing and self.change > self.noise

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.load}: not in the reference"
        if self.now is None:
            return f"{self.load}: no figure: all rounds were thrown away, or a server is missing"
        what = "SLOWER" if self.slower else "faster" if -self.change > self.noise else "the same"
        beside = "the limit server" if self.beside == LIMIT else self.beside
        return (f"{self.load}: {self.now:.3f} x {beside}, {self.before:.3f} in the reference: "
                f"{self.change:+.1%}, noise {self.noise:.1%}: {what}")  # fmt: skip


def judge(load: str, reference: Result, now: Result) -> Verdict:
    """One load of two results."""
    before, after = _median_and_variance(load, reference), _median_and_variance(load, now)
    if before is None or after is None:
        return Verdict(load, before and before[0], after and after[0])
    noise = max(_LEAST, _SIGMAS * (before[1] + after[1]) ** 0.5)
    return Verdict(load, before[0], after[0], after[0] / before[0] - 1, noise, _beside(now["loads"][load]["arms"]))


def taking_part(load: Load) -> tuple[str, str]:
    """The arms that a load is judged by: ours, and the one beside it."""
    return OURS, LIMIT if load.protocol in arms.ARMS[LIMIT].speaks else NGINX


def _beside(found: Mapping[str, Any]) -> str:
    return LIMIT if LIMIT in found else NGINX


def _median_and_variance(load: str, result: Result) -> tuple[float, float] | None:
    """Our CPU time a request over that of the server beside us, and how much that moves (its relative variance).

    Rounds of the same start resemble each other: so the median is as sure as there are starts, not rounds.
    """
    found = result["loads"].get(load, {}).get("arms", {})
    beside = _beside(found)
    if OURS not in found or beside not in found:
        return None
    ratios = figures.ratios(found[OURS], found[beside])
    if not ratios:
        return None
    starts = {each["start"] for each in figures.good(found[OURS])}
    middle = statistics.median(ratios)
    sigma = _TO_SIGMA * statistics.median(abs(each - middle) for each in ratios) / middle
    return middle, sigma**2 / len(starts)


def differences(reference: Result, machine: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """Why a reference may not be one for a run of this machine, with these versions."""
    found = ["it was made with --quick"] if reference["method"].get("quick") else []
    here = {**{name: machine[name] for name in ("cpu", "kernel")}, **versions}
    there = {**reference["machine"], **reference["versions"]}
    names = ("cpu", "kernel", "python", "uvloop", "httptools")
    return found + [f"{each} {there.get(each)}, now {here[each]}" for each in names if there.get(each) != here[each]]


def gate(
    reference: Result, loads: Sequence[str], measure: Callable[[Sequence[str]], Result], say: Callable[[str], None]
) -> list[Verdict]:
    """Measure the loads, and those again that look slower; returns the last verdict on each.

    measure: makes a Result of some loads.
    """

    def look(loads: Sequence[str]) -> dict[str, Verdict]:
        result = measure(loads)
        verdicts = {load: judge(load, reference, result) for load in loads}
        for verdict in verdicts.values():
            say(str(verdict))
        return verdicts

    verdicts = look(loads)
    suspects = [load for load, verdict in verdicts.items() if verdict.slower]
    if suspects:
        say(f"again, to be sure: {' '.join(suspects)}")
        verdicts |= look(suspects)
    return list(verdicts.values())
