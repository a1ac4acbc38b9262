"""The figures of a comparison: what belongs together is divided, what was thrown away counts nowhere."""

import json
import platform
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import echoserver
from bench import figures
from bench.figures import Arm, NoFigures, Round, load, ratios, save, summarise
from tests.unit.examples import examples


def taken(cpu_us: float, start: int = 0, turn: int = 1, **more: Any) -> Round:
    """A round that counts."""
    rest: Round = {"rate": 1e6 / cpu_us, "client_cpu_us": 5.0, "latency_us": {"50": 9 * cpu_us, "99": 20 * cpu_us}}
    return {**rest, "cpu_us": cpu_us, **more, "start": start, "turn": turn}


def thrown_away(start: int = 0, turn: int = 1) -> Round:
    return {"thrown_away": "a wrong echo", "start": start, "turn": turn}


def arm(*rounds: Round) -> Arm:
    return {"rounds": list(rounds)}


# --- what belongs together --------------------------------------------------------------------------------------------


def test_rounds_are_paired_by_start_and_turn() -> None:
    """And not by their place: when a round is missing, those after it still belong to the same ones."""
    one = arm(taken(10, 0, 1), taken(12, 0, 2), taken(30, 1, 1), taken(40, 1, 2))
    other = arm(taken(10, 1, 2), taken(15, 1, 1), taken(5, 0, 1))
    assert ratios(one, other) == [2.0, 2.0, 4.0]


def test_a_round_that_either_has_thrown_away_is_in_no_ratio() -> None:
    one = arm(taken(10, 0, 1), thrown_away(0, 2), taken(30, 0, 3))
    other = arm(thrown_away(0, 1), taken(1, 0, 2), taken(10, 0, 3))
    assert ratios(one, other) == [3.0]
    assert ratios(one, arm(thrown_away())) == []


def test_the_ratio_is_the_median_of_the_rounds_and_not_that_of_the_medians() -> None:
    """A machine that slows down in one round slows both servers: that is what pairs are for."""
    arms = {"a": arm(*(taken(8 * each, 0, turn) for turn, each in enumerate((1, 9, 2)))),
            "b": arm(*(taken(4 * each, 0, turn) for turn, each in enumerate((1, 9, 2))))}  # fmt: skip
    arms["b"]["rounds"][1] = thrown_away(0, 1)
    summarise(arms, client_cpus=1)
    assert arms["a"]["ratio"] == {"a": 1.0, "b": 2.0}
    assert arms["b"]["ratio"] == {"a": 0.5, "b": 1.0}
    assert arms["a"]["median"]["cpu_us"] / arms["b"]["median"]["cpu_us"] == pytest.approx(16 / 6)


# --- median and spread ------------------------------------------------------------------------------------------------


def test_medians_are_taken_field_by_field() -> None:
    arms = {"a": arm(
        {"rate": 3.0, "cpu_us": 1.0, "client_cpu_us": 4.0, "latency_us": {"50": 7.0, "99": 9.0}, "start": 0, "turn": 1},
        {"rate": 1.0, "cpu_us": 2.0, "client_cpu_us": 6.0, "latency_us": {"50": 8.0}, "start": 0, "turn": 2},
        thrown_away(1, 1),
        {"rate": 2.0, "cpu_us": 9.0, "client_cpu_us": 5.0, "latency_us": {"50": 6.0, "99": 1.0}, "start": 1, "turn": 2},
    )}  # fmt: skip
    summarise(arms, client_cpus=2)
    assert arms["a"]["median"] == {
        "rate": 2.0, "cpu_us": 2.0, "client_cpu_us": 5.0, "latency_us": {"50": 7.0}, "ceiling": 400_000.0,
    }  # fmt: skip
    assert arms["a"]["spread"] == {"rate": [1.0, 3.0], "cpu_us": [1.0, 9.0]}


def test_the_clients_ceiling_is_not_given_where_it_is_not_known() -> None:
    arms = {"a": arm(taken(1))}
    summarise(arms, client_cpus=0)
    assert "ceiling" not in arms["a"]["median"]


def test_an_arm_whose_rounds_were_all_thrown_away_has_no_figures() -> None:
    arms = {"liar": arm(thrown_away(0, 1), thrown_away(0, 2)), "a": arm(taken(2, 0, 1), taken(2, 0, 2)), "none": arm()}
    summarise(arms, client_cpus=1)
    for name in ("liar", "none"):
        assert (arms[name]["median"], arms[name]["spread"], arms[name]["ratio"]) == (None, {}, {})
    assert arms["a"]["ratio"] == {"a": 1.0}
    assert arms["liar"]["rounds"] == [thrown_away(0, 1), thrown_away(0, 2)], "why is kept"


def test_memory_has_a_median_and_no_ratio() -> None:
    arms = {name: arm(*({"memory_bytes": {"0": each, "1000": 2 * each}, "start": start, "turn": 1}
                        for start, each in enumerate((5, 3, 4))), thrown_away(3, 1))
            for name in ("a", "b")}  # fmt: skip
    summarise(arms, client_cpus=1)
    assert arms["a"]["median"] == {"memory_bytes": {"0": 4, "1000": 8}}
    assert (arms["a"]["spread"], arms["a"]["ratio"]) == ({}, {})


times = st.floats(0.1, 1e6)


@given(st.lists(st.tuples(times, times, st.booleans(), st.booleans()), min_size=1, max_size=12), st.randoms())
@examples(100)
def test_whatever_the_rounds_are(drawn: Sequence[tuple[float, float, bool, bool]], order: random.Random) -> None:
    """Figures come from the rounds that count, in whatever order they stand."""
    rounds: dict[str, list[Round]] = {"a": [], "b": []}
    for number, (a, b, a_counts, b_counts) in enumerate(drawn):
        where = number // 3, number % 3
        rounds["a"].append(taken(a, *where) if a_counts else thrown_away(*where))
        rounds["b"].append(taken(b, *where) if b_counts else thrown_away(*where))
    expected = [a / b for a, b, a_counts, b_counts in drawn if a_counts and b_counts]
    counted = [a for a, _, a_counts, _ in drawn if a_counts]
    for each in rounds.values():
        order.shuffle(each)
    arms = {name: arm(*each) for name, each in rounds.items()}
    summarise(arms, client_cpus=1)
    assert sorted(ratios(arms["a"], arms["b"])) == sorted(expected)
    assert arms["a"]["ratio"].get("b") == (statistics.median(expected) if expected else None)
    if counted:
        assert arms["a"]["median"]["cpu_us"] == statistics.median(counted)
        assert arms["a"]["spread"]["cpu_us"] == [min(counted), max(counted)]
        assert arms["a"]["ratio"]["a"] == 1.0
    else:
        assert arms["a"]["median"] is None


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = figures.new({"rounds": 3})
    arms = {"a": arm(taken(123.456789), thrown_away(0, 2)), "b": arm(taken(0.000123456789))}
    summarise(arms, client_cpus=1)
    result["loads"]["post64"] = {"title": "POST", "content": 16777216, "notes": "", "arms": arms}
    path = tmp_path / "not" / "there" / "result.json"
    save(result, path)
    again = load(path)
    assert again["loads"]["post64"]["content"] == 16777216, "a count is no measurement: all its digits stand"
    assert again["loads"]["post64"]["arms"]["a"]["rounds"][0]["cpu_us"] == 123.46
    assert again["loads"]["post64"]["arms"]["b"]["rounds"][0]["cpu_us"] == 0.00012346
    assert again["loads"]["post64"]["arms"]["a"]["rounds"][1] == thrown_away(0, 2)
    del result["loads"], again["loads"]
    assert again == result


NO_RESULT = {
    "": "can't be read: Expecting value",
    "{": "can't be read: Expecting property name",
    '"\xff': "can't be read: 'utf-8' codec can't decode",
    "[1]": "is not a result of this bench: expected format 1",
    '{"benchmarks": []}': "is not a result of this bench: expected format 1",
    '{"format": 2, "loads": {}}': "is not a result of this bench: expected format 1",
    '{"format": 1}': "is not a result of this bench: expected format 1",
    '{"format": 1, "loads": []}': "is not a result of this bench: expected format 1",
}


@pytest.mark.parametrize("text", NO_RESULT)
def test_a_file_that_is_no_result(text: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(NoFigures) as error:
        load(path)
    assert str(error.value).startswith(f"{path} {NO_RESULT[text]}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NoFigures) as error:
        load(tmp_path / "none.json")
    assert str(error.value) == f"{tmp_path}/none.json is not there: `python -m bench compare` writes one"
    with pytest.raises(NoFigures, match=f"{tmp_path} can't be read: "):
        load(tmp_path)


def test_a_result_says_what_it_was_made_on_and_not_whose_machine_it_is() -> None:
    result = figures.new({})
    assert set(result["machine"]) == {"cpu", "cpus", "memory_bytes", "kernel", "system"}
    assert platform.node() not in result["machine"].values()
    assert result["versions"]["echoserver"] == echoserver.__version__
    assert {"python", "uvloop", "httptools"} <= set(result["versions"])
    assert json.loads(json.dumps(result)) == result
