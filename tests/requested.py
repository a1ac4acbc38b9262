"""Groups of tests that are run only where an option asks for them."""

from pathlib import Path

import pytest


def only_where_asked(
    config: pytest.Config, items: list[pytest.Item], folder: Path, *, option: str, what: str, seconds: int
) -> None:
    """Leave one test of a folder, skipped, to say so where the option is not given; else give each so many seconds.

    The time begins after the fixtures: what these wait for may be a build of many minutes.
    """
    theirs = [item for item in items if folder in item.path.parents]
    if theirs and not config.getoption(option):
        theirs[0].add_marker(pytest.mark.skip(f"{len(theirs)} tests of {what} take minutes: --{option}"))
        config.hook.pytest_deselected(items=theirs[1:])
        items[:] = [item for item in items if item not in theirs[1:]]
    for item in theirs:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(seconds, func_only=True))
