"""Fixtures that all groups share."""

from collections.abc import Iterator

import pytest

from tests.servers import Server


@pytest.fixture(scope="session", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with default settings, once on each event loop. It serves many tests: none may leave it changed."""
    with Server("--loop", request.param) as running:
        yield running
