"""Says whether the server has become slower than the reference, by its ratio to the limit server of the same run.

Absolute figures of shared machines say nothing; a ratio of two servers in the same round moves by a few percent. How
much it moves is measured, not assumed: each run's rounds are spread over several starts of the servers, and a load is
slower only where its ratio has grown by more than both runs' own noise, twice: what looks slower is measured again.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from bench import figures
from bench.compare import LIMIT, OURS
from bench.figures import Result

LOADS = ("tcp64", "tcp64k", "unix64", "get", "post64", "fields", "browser", "pipe16", "chunked", "post64k", "post1m")
"""What the gate looks at: each way through the server."""

_LEAST = 0.06
"""A smaller change is never called one: runs of the same code on the same machine differ by as much."""

_SIGMAS = 3.0
_TO_SIGMA = 1.4826  # of a median absolute deviation, for normal noise


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """before and now: the median ratios to the limit server (None: no figure). change: how much greater it is now,
    0.1 for a tenth. noise: the change that would still be none."""

    load: str
    before: float | None
    now: float | None
    change: float = 0.0
    noise: float = 0.0

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
            return f"{self.load}: no figure: all rounds were thrown away"
        what = "SLOWER" if self.slower else "faster" if -self.change > self.noise else "the same"
        return (f"{self.load}: {self.now:.3f} x the limit server, {self.before:.3f} in the reference: "
                f"{self.change:+.1%}, noise {self.noise:.1%}: {what}")  # fmt: skip


def judge(load: str, reference: Result, now: Result) -> Verdict:
    """One load of two results."""
    before, after = _ratios(load, reference), _ratios(load, now)
    if not before or not after:
        return Verdict(load, statistics.median(before) if before else None, statistics.median(after) if after else None)
    a, b = statistics.median(before), statistics.median(after)
    noise = max(_LEAST, _SIGMAS * (_sigma(before) ** 2 + _sigma(after) ** 2) ** 0.5)
    return Verdict(load, a, b, b / a - 1, noise)


def _ratios(load: str, result: Result) -> list[float]:
    """Our CPU time a request over the limit server's, round by round."""
    arms = result["loads"].get(load, {}).get("arms", {})
    if OURS not in arms or LIMIT not in arms:
        return []
    return figures.ratios(arms[OURS], arms[LIMIT])


def _sigma(ratios: list[float]) -> float:
    """How much the median of such rounds moves, as a part of it.

    Rounds of the same start resemble each other, so it is not the smaller for there being many of them.
    """
    middle = statistics.median(ratios)
    return _TO_SIGMA * statistics.median(abs(each - middle) for each in ratios) / middle


def gate(
    reference: Result, loads: Sequence[str], measure: Callable[[Sequence[str]], Result], say: Callable[[str], None]
) -> bool:
    """Measure the loads, and those again that look slower; whether none is. measure: makes a Result of some loads."""
    verdicts = [judge(load, reference, result) for result in [measure(loads)] for load in loads]
    for verdict in verdicts:
        say(str(verdict))
    suspects = [each.load for each in verdicts if each.slower]
    passed = not any(each.missing for each in verdicts)
    if suspects:
        say(f"again, to be sure: {' '.join(suspects)}")
        again = measure(suspects)
        for load in suspects:
            verdict = judge(load, reference, again)
            say(str(verdict))
            passed = passed and not verdict.slower and not verdict.missing
    return passed
