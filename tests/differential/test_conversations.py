"""Random conversations over HTTP, with h11's reading of what was sent as the other opinion.

pytest tests/differential --conversations 200000 has as many with each loop and each settings; --seed makes other ones,
--conversation 123 repeats one of a report.
"""

import collections
import itertools
import random

import pytest

from tests.differential import clients
from tests.differential.conversations import SETTINGS, Settings
from tests.servers import Server

_ORDINARY = 300  # conversations with each loop and settings of a plain run
_EXAMPLES = 2  # of each kind of mismatch


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--seed")
    return random.randrange(10**6) if given is None else given


@pytest.mark.timeout(0)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_conversations_go_as_promised(request: pytest.FixtureRequest, loop: str, settings: Settings, seed: int) -> None:
    number, only = request.config.getoption("--conversations") or _ORDINARY, request.config.getoption("--conversation")
    numbers = (
        range(number) if only is None else itertools.repeat(only, request.config.getoption("--conversations") or 1)
    )
    kinds = collections.Counter[str]()
    examples: list[str] = []
    with Server("--loop", loop, *settings.options, allow_errors=True) as server:
        for kind, client in clients.converse(settings, server.http, seed, iter(numbers)):
            kinds[kind] += 1
            if kinds[kind] <= _EXAMPLES:
                examples.append(clients.report(kind, client))
    try:
        server.check_lines()
    except AssertionError as error:
        kinds[str(error)] += 1
    counted = "\n".join(f"{count:6d}  {kind}" for kind, count in kinds.most_common())
    again = f"--seed {seed} --conversation NUMBER"
    if kinds:
        pytest.fail(
            "\n".join((f"{kinds.total()} mismatches, repeat one with {again}", counted, *examples)), pytrace=False
        )
