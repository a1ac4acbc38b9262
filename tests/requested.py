"""Tests that are run only where an option asks for them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from conftest import LEFT_OUT


def only_where_asked(
    config: pytest.Config, items: list[pytest.Item], theirs: Sequence[pytest.Item], option: str
) -> None:
    """Leave some tests out where the option is not given."""
    if theirs and not config.getoption(option):
        out = set(theirs)
        config.stash[LEFT_OUT][f"--{option}"] = len(out)
        config.hook.pytest_deselected(items=list(theirs))
        items[:] = [item for item in items if item not in out]


def only_folder_where_asked(
    config: pytest.Config, items: list[pytest.Item], folder: Path, *, option: str, seconds: int
) -> None:
    """The same for the tests of a folder; and give each so many seconds.

    The time begins after the fixtures: what these wait for may be a build of many minutes.
    """
    theirs = [item for item in items if folder in item.path.parents]
    only_where_asked(config, items, theirs, option)
    for item in theirs:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))
