"""Fixtures that tests against transports in memory share."""

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop for the tests of a file: property tests can't have one for each test."""
    running = asyncio.new_event_loop()
    yield running
    running.close()
