"""Fixtures and options that all groups share."""

import os
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates
from tests.requested import only_where_asked
from tests.servers import Server
from tests.unit import examples


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--images",
        action="store_true",
        default=bool(os.environ.get("ECHOSERVER_TEST_IMAGES")),
        help="build the container images and test them, which takes minutes (or: ECHOSERVER_TEST_IMAGES=1)",
    )
    parser.addoption(
        "--conformance",
        action="store_true",
        help="put WebSocket through the Autobahn test suite, which takes minutes; its program is wstest, or what "
        "ECHOSERVER_WSTEST names",
    )
    parser.addoption(
        "--conversations",
        type=int,
        metavar="N",
        help="so many random HTTP conversations with a server on each loop, with each settings",
    )
    parser.addoption("--seed", type=int, help="which ones; without it, others each time")
    parser.addoption("--conversation", type=int, metavar="NUMBER", help="only this one, as a report has named it")
    parser.addoption(
        "--slow",
        action="store_true",
        help="nothing is left out for the time that it takes: tests of much data, both event loops for each, over TCP "
        "and over TLS, and all examples of the property tests",
    )
    parser.addoption(
        "--network",
        action="store_true",
        help="run what downloads: the wheel is built as pip builds it, with what it needs for that",
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, what in (("slow", "takes long, or is much like another"), ("network", "downloads")):
        config.addinivalue_line("markers", f"{name}: {what}; run with --{name} only")
    examples.share = 1 if config.getoption("slow") else 5


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for option in ("slow", "network"):
        only_where_asked(config, items, [each for each in items if each.get_closest_marker(option)], option)


@pytest.fixture(scope="session", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with default settings, once on each event loop. It serves many tests: none may leave it changed."""
    with Server("--loop", request.param) as running:
        yield running


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority's, for servers and clients over TLS: none may be renewed by a test."""
    return Certificates(tmp_path_factory.mktemp("certificates"))
