"""The gate: noise passes, what is a quarter slower does not, and nothing passes for want of figures."""

import random
import statistics
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import figures
from bench.figures import Result, Round
from bench.gate import Verdict, differences, gate, judge
from tests.unit.examples import examples

NOISE = 0.02
"""How far a round's ratio is off in these tests, at most. MAD is at most that too, so the gate's noise is at most 3 x
sqrt(2 / 3 starts) x 1.4826 x 2 %, or 7 %: between what such rounds can show of an unchanged server (4 %) and of
one that has become a quarter slower (20 %)."""

ROUNDS = 9


def rounds(cpu_us: Iterable[float | None]) -> list[Round]:
    """Three in each start; None: thrown away."""
    return [
        {"thrown_away": "why", "start": n // 3, "turn": n % 3 + 1} if each is None
        else {"cpu_us": each, "start": n // 3, "turn": n % 3 + 1}
        for n, each in enumerate(cpu_us)
    ]  # fmt: skip


def result(**loads: tuple[Sequence[float | None], Sequence[float | None]]) -> Result:
    """Of the limit server's and echoserver's rounds, by load."""
    return {"loads": {
        name: {"arms": {"limit": {"rounds": rounds(limit)}, "echoserver": {"rounds": rounds(ours)}}}
        for name, (limit, ours) in loads.items()
    }}  # fmt: skip


def of(ratio: float, number: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Rounds without any noise."""
    return [4.0] * number, [4.0 * ratio] * number


def test_a_reference_from_elsewhere_is_named() -> None:
    machine = {"cpu": "A", "kernel": "6.18"}
    versions = {"python": "CPython 3.11.2", "uvloop": "0.23.0", "httptools": "0.9.0"}
    here = {"method": {"quick": False}, "machine": machine, "versions": versions}
    assert differences(here, machine, versions) == []
    there = {
        "method": {"quick": True}, "machine": machine | {"cpu": "B"}, "versions": {**versions, "uvloop": "0.24.0"}
    }  # fmt: skip
    assert differences(there, machine, versions) == [
        "it was made with --quick", "cpu B, now A", "uvloop 0.24.0, now 0.23.0"
    ]  # fmt: skip


# --- one load ---------------------------------------------------------------------------------------------------------

weather = st.lists(st.floats(1, 40), min_size=ROUNDS, max_size=ROUNDS)
"""What the limit server takes in each round: shared machines are as they are."""

shift = st.floats(-NOISE, NOISE)
off = st.one_of(st.lists(shift, min_size=ROUNDS, max_size=ROUNDS), shift.map(lambda each: [each] * ROUNDS))
"""Each round by itself, or all of them together."""


def measured(ratio: float, weather: Sequence[float], off: Sequence[float]) -> Result:
    return result(x=(weather, [each * ratio * (1 + noise) for each, noise in zip(weather, off, strict=True)]))


@given(st.floats(0.7, 5), weather, off, weather, off)
@examples(150)
def test_noise_is_no_change(
    ratio: float, then: Sequence[float], off_then: Sequence[float], now: Sequence[float], off_now: Sequence[float]
) -> None:
    verdict = judge("x", measured(ratio, then, off_then), measured(ratio, now, off_now))
    assert not verdict.slower
    assert not verdict.missing
    assert str(verdict).endswith(": the same")


@given(st.floats(0.7, 5), weather, off, weather, off)
@examples(150)
def test_a_quarter_slower_is_seen_through_the_same_noise(
    ratio: float, then: Sequence[float], off_then: Sequence[float], now: Sequence[float], off_now: Sequence[float]
) -> None:
    before, after = measured(ratio, then, off_then), measured(1.25 * ratio, now, off_now)
    assert judge("x", before, after).slower
    assert str(judge("x", before, after)).endswith(": SLOWER")
    assert not judge("x", after, before).slower
    assert str(judge("x", after, before)).endswith((": faster", ": the same"))


@given(weather, weather, st.lists(st.sampled_from([0.25, 0.5, 2.0, 4.0]), min_size=ROUNDS, max_size=ROUNDS))
@examples(50)
def test_a_round_in_which_all_is_slower_changes_nothing(
    limit: Sequence[float], ours: Sequence[float], factors: Sequence[float]
) -> None:
    slowed = [[each * factor for each, factor in zip(arm, factors, strict=True)] for arm in (limit, ours)]
    assert judge("x", result(x=of(1.0)), result(x=(limit, ours))) == judge(
        "x", result(x=of(1.0)), result(x=(slowed[0], slowed[1]))
    )


@given(weather, weather, st.lists(st.booleans(), min_size=ROUNDS, max_size=ROUNDS), st.randoms())
@examples(50)
def test_rounds_thrown_away_are_as_if_they_had_not_been(
    limit: Sequence[float], ours: Sequence[float], counts: Sequence[bool], order: random.Random
) -> None:
    kept = [(a, b) for a, b, each in zip(limit, ours, counts, strict=True) if each]
    thrown = result(x=(limit, [each if counted else None for each, counted in zip(ours, counts, strict=True)]))
    for arm in thrown["loads"]["x"]["arms"].values():
        order.shuffle(arm["rounds"])
    verdict = judge("x", result(x=of(1.0)), thrown)
    assert verdict.missing == (not kept)
    if kept:
        alone = judge("x", result(x=of(1.0)), result(x=([a for a, _ in kept], [b for _, b in kept])))
        assert (verdict.now, verdict.change) == (alone.now, alone.change)
        assert verdict.now == statistics.median(b / a for a, b in kept)


@pytest.mark.parametrize(("change", "slower"), [(1.055, False), (1.07, True)])
def test_rounds_without_noise_still_have_some_between_runs(change: float, slower: bool) -> None:
    assert judge("x", result(x=of(1.2)), result(x=of(1.2 * change))).slower == slower


def test_noise_widens_what_is_no_change() -> None:
    """And the median is not moved by what is far off."""
    noisy = ([4.0] * 9, [4.0, 4.0, 4.4, 4.4, 4.4, 4.8, 4.8, 9.0, 40.0])
    verdict = judge("x", result(x=of(1.0)), result(x=noisy))
    assert verdict.now == pytest.approx(1.1)
    assert verdict.noise == pytest.approx(3 * 1.4826 * 0.1 / 1.1 / 3**0.5)  # of three starts
    assert not verdict.slower


def test_what_a_verdict_says() -> None:
    assert str(judge("x", result(x=of(1.25)), result(x=of(1.5)))) == (
        "x: 1.500 x the limit server, 1.250 in the reference: +20.0%, noise 6.0%: SLOWER"
    )
    assert str(judge("x", result(), result(x=of(1)))) == "x: not in the reference"
    no_figure = "x: no figure: all rounds were thrown away, or a server is missing"
    assert str(judge("x", result(x=of(1)), result(x=([4.0], [None])))) == no_figure
    assert str(judge("x", result(x=of(1)), result(x=([None, 4.0], [4.0, None])))) == no_figure


def over_tls(*ratios: float) -> Result:
    """As it is where the limit server has no part."""
    made = result(**{f"x{number}": of(ratio) for number, ratio in enumerate(ratios)})
    for load in made["loads"].values():
        load["arms"]["nginx"] = load["arms"].pop("limit")
    return made


def test_over_tls_it_judges_by_nginx() -> None:
    verdict = judge("x0", over_tls(1.25), over_tls(1.5))
    assert str(verdict) == "x0: 1.500 x nginx, 1.250 in the reference: +20.0%, noise 6.0%: SLOWER"
    assert not judge("x0", over_tls(1.25), over_tls(1.25)).slower


@pytest.mark.parametrize("absent", ["limit", "echoserver"])
def test_a_reference_without_one_of_the_two_says_nothing(absent: str) -> None:
    reference = result(x=of(1))
    del reference["loads"]["x"]["arms"][absent]
    verdict = judge("x", reference, result(x=of(1)))
    assert verdict == Verdict("x", None, 1.0)
    assert verdict.missing
    assert not verdict.slower


def test_it_divides_as_the_figures_do() -> None:
    """The ratio that it judges by is the one that a result shows."""
    measured = result(x=([4.0, 5.0, 6.0], [5.0, 5.0, 9.0]))
    arms = measured["loads"]["x"]["arms"]
    for arm in arms.values():
        arm["rounds"] = [each | {"rate": 1.0, "client_cpu_us": 1.0, "latency_us": {}} for each in arm["rounds"]]
    figures.summarise(arms, client_cpus=1)
    assert judge("x", measured, measured).now == arms["echoserver"]["ratio"]["limit"] == 1.25


# --- all of them ------------------------------------------------------------------------------------------------------


class Runs:
    """Stands for the measuring: one result after the other; and hears what the gate says."""

    def __init__(self, *results: Result) -> None:
        self._results = list(results)
        self.asked: list[list[str]] = []
        self.said: list[str] = []

    def measure(self, loads: Sequence[str]) -> Result:
        self.asked.append(list(loads))
        return self._results.pop(0)

    def passes(self, reference: Result, *loads: str) -> bool:
        verdicts = gate(reference, loads, self.measure, self.said.append)
        assert not self._results, "not all was measured"
        assert [verdict.load for verdict in verdicts] == list(loads)
        return not any(verdict.slower or verdict.missing for verdict in verdicts)


REFERENCE = result(a=of(1.0), b=of(2.0), c=of(3.0))


def test_unchanged_loads_are_measured_once() -> None:
    runs = Runs(result(a=of(1.01), b=of(1.98), c=of(3.0)))
    assert runs.passes(REFERENCE, "a", "b", "c")
    assert runs.asked == [["a", "b", "c"]]
    assert [line.partition(":")[0] for line in runs.said] == ["a", "b", "c"]


def test_what_looks_slower_is_measured_again_and_passes_when_it_is_not() -> None:
    runs = Runs(result(a=of(1.0), b=of(2.5), c=of(3.6)), result(b=of(2.0), c=of(3.0)))
    assert runs.passes(REFERENCE, "a", "b", "c")
    assert runs.asked == [["a", "b", "c"], ["b", "c"]]
    assert runs.said[3] == "again, to be sure: b c"
    assert [line.rpartition(": ")[2] for line in runs.said if line != runs.said[3]] == [
        "the same", "SLOWER", "SLOWER", "the same", "the same",
    ]  # fmt: skip


def test_what_is_slower_twice_does_not_pass() -> None:
    runs = Runs(result(a=of(1.0), b=of(2.5)), result(b=of(2.5)))
    assert not runs.passes(REFERENCE, "a", "b")
    assert runs.asked == [["a", "b"], ["b"]]


def test_one_of_several_is_enough() -> None:
    assert not Runs(result(a=of(1.25), b=of(2.5)), result(a=of(1.25), b=of(2.0))).passes(REFERENCE, "a", "b")
    assert not Runs(result(a=of(1.25), b=of(2.5)), result(a=of(1.0), b=of(2.5))).passes(REFERENCE, "a", "b")


def test_what_is_faster_passes_and_is_said() -> None:
    runs = Runs(result(a=of(0.8)))
    assert runs.passes(REFERENCE, "a")
    assert runs.said == ["a: 0.800 x the limit server, 1.000 in the reference: -20.0%, noise 6.0%: faster"]


NOTHING: tuple[Sequence[float | None], Sequence[float | None]] = ([4.0] * 3, [None] * 3)
IN_VAIN: dict[str, Callable[[], tuple[Result, Runs]]] = {
    "not in the reference": lambda: (result(), Runs(result(a=of(1.0)))),
    "none in the reference": lambda: (result(a=NOTHING), Runs(result(a=of(1.0)))),
    "none now": lambda: (REFERENCE, Runs(result(a=NOTHING))),
    "slower, then none": lambda: (REFERENCE, Runs(result(a=of(1.5)), result(a=NOTHING))),
}


@pytest.mark.parametrize("case", IN_VAIN)
def test_without_figures_nothing_passes(case: str) -> None:
    reference, runs = IN_VAIN[case]()
    assert not runs.passes(reference, "a")
    assert runs.said[-1].startswith("a: no")


change = st.sampled_from([0.7, 1.0, 1.3])


@given(st.lists(st.tuples(change, change), min_size=1, max_size=8))
@examples(100)
def test_it_passes_where_no_load_is_slower_both_times(looks: Sequence[tuple[float, float]]) -> None:
    names = [f"load{number}" for number in range(len(looks))]
    reference = result(**{name: of(1.0) for name in names})
    first = result(**{name: of(look[0]) for name, look in zip(names, looks, strict=True)})
    again = {name: of(look[1]) for name, look in zip(names, looks, strict=True) if look[0] > 1}
    runs = Runs(first, result(**again)) if again else Runs(first)
    assert runs.passes(reference, *names) == all(min(look) <= 1 for look in looks)
    assert runs.asked == ([names, list(again)] if again else [names])
