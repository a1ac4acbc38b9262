"""How a run goes: in how many processes, what is left out unless asked for, and what is said of that in the end."""

import collections
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

LEFT_OUT = pytest.StashKey[dict[str, int]]()
"""How many tests are left out for want of an option, by the option."""

_ONE_BY_ONE = (
    "benchmark_only", "benchmark_enable", "collectonly", "trace", "setupshow", "keyword", "markexpr", "lf", "images",
    "conformance",
)  # fmt: skip
"""Options that ask for a measurement, for a look at a test, for few tests, or for such as share what is built once."""


if sys.dont_write_bytecode:
    # Said of the source tree. Hundreds of servers, and the processes of this run, need not compile it each for itself
    # for that: what they compile goes where pytest keeps what it knows.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".pytest_cache", "bytecode")
    os.environ.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=sys.pycache_prefix)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In a shell's background, or under nohup: the programs that tests start would ignore it too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for each CPU, as most tests wait most of the time; none where few tests are asked for, or a look at them.

    None means: all in this process. -n NUMBER has it otherwise.
    """
    option = config.option
    chosen = config.args_source is pytest.Config.ArgsSource.ARGS and not all(map(os.path.isdir, config.args))
    if chosen or option.capture == "no" or any(getattr(option, name, None) for name in _ONE_BY_ONE):
        return 0
    return min(16, 2 * len(os.sched_getaffinity(0)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that started this one what has been left out here."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process has left out the same."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", node.config.stash[LEFT_OUT])


def _lines(reporter: pytest.TerminalReporter) -> Iterator[tuple[int, str]]:
    """Numbers of tests that were not run, and why."""
    skipped = reporter.stats.get("skipped", [])
    reasons = collections.Counter(each.longrepr[2].removeprefix("Skipped: ") for each in skipped)
    yield from sorted(((count, reason) for reason, count in reasons.items()), key=lambda line: (-line[0], line[1]))
    yield from ((count, f"only with {option}") for option, count in reporter.config.stash[LEFT_OUT].items())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each reason why tests were skipped, where -rs would have one for each place."""
    lines = list(_lines(terminalreporter))
    if lines and not terminalreporter.no_summary:
        terminalreporter.section("not run")
        for count, reason in lines:
            terminalreporter.line(f"{count:5} {'tests' if count != 1 else 'test '}: {reason}")
