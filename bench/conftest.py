"""How benchmarks run: once each, as tests; or measured, with --benchmark-only. And what a saved run says of itself."""

import importlib.metadata
import itertools
import os
import platform
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from bench.exchanges import Measure

_DEFAULTS: dict[str, Any] = {
    "columns": ["min", "median", "iqr", "ops"],
    "name": "short",
    "min-time": "0.0002",  # a round: long beside the timer's call, short beside the kernel's time slices
    "max-time": "0.5",
    "disable-gc": True,  # a collection would walk what pytest keeps; the server freezes what it has at its start
}
"""Options of pytest-benchmark (5.3) that are other ones here, unless the command line has them."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the options before pytest-benchmark reads them, which it does last of all plugins."""
    option, defaults = config.option, dict(_DEFAULTS)
    if option.benchmark_compare:
        defaults["sort"] = "name"  # the saved line of a benchmark next to the new one
    given = {each.split("=")[0] for each in config.invocation_params.args}
    for name, value in defaults.items():
        if f"--benchmark-{name}" not in given:
            setattr(option, f"benchmark_{name.replace('-', '_')}", value)
    if not (option.benchmark_only or option.benchmark_enable):
        option.benchmark_disable = True
        late = getattr(config, "_benchmarksession", None)
        if late is not None:  # `pytest .`: it has read them, for this file is only found with the tests beside it
            late.disabled = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """--benchmark-only: leave the tests out. pytest-benchmark skips them, and each would be listed below the tables."""
    if config.option.benchmark_only:
        benchmarks: list[pytest.Item] = []
        tests: list[pytest.Item] = []
        for item in items:
            (benchmarks if "benchmark" in getattr(item, "fixturenames", ()) else tests).append(item)
        items[:] = benchmarks
        config.hook.pytest_deselected(items=tests)


@pytest.fixture
def measure(benchmark: Any, pytestconfig: pytest.Config) -> Measure:
    """Rounds of as many exchanges as take --benchmark-min-time, until --benchmark-max-time is used up.

    It is pytest-benchmark's own way of measuring, but for the check after each round; where that fails there is no
    figure.
    """
    shortest, longest = (float(pytestconfig.getoption(f"benchmark_{each}_time")) for each in ("min", "max"))
    least: int = pytestconfig.getoption("benchmark_min_rounds")

    def run(exchange: Callable[[], object], check: Callable[[int], None]) -> None:
        if benchmark.disabled:
            benchmark(exchange)
            check(1)
            return
        number = 1
        while (took := min(timeit.repeat(exchange, number=number, repeat=3))) < shortest:
            check(3 * number)
            number *= 2
        check(3 * number)
        rounds = max(least, int(longest / took))
        # where a round is of several, pytest-benchmark makes a last one by itself, for its result
        numbers = itertools.chain(itertools.repeat(number, rounds), (1,))
        try:
            benchmark.pedantic(exchange, iterations=number, rounds=rounds, teardown=lambda: check(next(numbers)))
        except BaseException:
            benchmark.stats.stats.data.clear()  # or the tables would have it, in red
            raise

    return run


def pytest_benchmark_scale_unit(config: pytest.Config, unit: str) -> tuple[str, float] | None:
    """One unit in all tables. (--benchmark-time-unit=us would show operations in millionths too.)"""
    if config.getoption("benchmark_time_unit"):
        return None
    return ("u", 1e6) if unit == "seconds" else ("K", 1e-3)


# --- what is saved ------------------------------------------------------------------------------------------------


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """The facts that figures depend on, and nothing that says whose machine it is or that differs from run to run."""
    cpu = machine_info["cpu"]
    machine_info.clear()
    machine_info.update(
        cpu=cpu.get("brand_raw", "unknown"),
        cpus=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        python=f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        **{each: importlib.metadata.version(each) for each in ("uvloop", "httptools")},
    )


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_compare_machine_info(
    benchmarksession: Any, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Say what is different. pytest-benchmark's own warning comes after this, and would be an error here: spare it."""
    saved = compared_benchmark["machine_info"]
    for fact in sorted(machine_info | saved):
        if machine_info.get(fact) != saved.get(fact):
            benchmarksession.logger.info(f"{fact}: {machine_info.get(fact)}; of the saved run: {saved.get(fact)}")
    compared_benchmark["machine_info"] = machine_info


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    commit_info["project"] = "echoserver"  # it would be the folder's name
    commit_info.pop("error", None)  # git's words, paths among them


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Leave out each round's time, unless asked for, and what was sent: names and statistics are a hundredth of it."""
    for each in output_json["benchmarks"]:
        del each["params"]
        if not config.getoption("benchmark_save_data"):
            each["stats"].pop("data", None)
