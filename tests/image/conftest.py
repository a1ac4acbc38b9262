"""The images, built once a session by whatever engine is there, and a server in a container of each."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import arms, engines
from tests.image.containers import Contained, Variant
from tests.requested import only_folder_where_asked

HERE = Path(__file__).parent
STATIC = ("scratch", "minimal")

UNREACHABLE = re.compile(
    r"dial tcp|no such host|i/o timeout|TLS handshake timeout|toomanyrequests|did not resolve to an alias"  # registries
    r"|Failed to fetch|Temporary failure resolving|Could not resolve"  # apt-get
    r"|Failed to establish a new connection|Max retries exceeded|ReadTimeoutError"  # pip
    r"|urlopen error|HTTP Error (?:403|429|5\d\d)"  # docker/fetch.sh
)
"""What engines and the tools in the Dockerfile say where they get no connection, or are told to come back later."""

HINT = (
    "offline: name other base images with ECHOSERVER_BUILD_ARGS='SLIM_IMAGE=... ALPINE_IMAGE=... BUILD_IMAGE=...', "
    "and put the archives into docker/sources (see its README.md)"
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of this folder: only where asked for."""
    only_folder_where_asked(config, items, HERE, option="images", seconds=300)


@pytest.fixture(scope="session")
def engine() -> engines.Engine:
    try:
        return engines.find()
    except arms.Missing as missing:
        pytest.skip(f"no container engine: {missing}")


@pytest.fixture(scope="session", params=engines.TARGETS)
def variant(engine: engines.Engine, request: pytest.FixtureRequest) -> Variant:
    return built(engine, request.param)


@pytest.fixture(scope="session", params=STATIC)
def static(engine: engines.Engine, request: pytest.FixtureRequest) -> Variant:
    """One of those that are a static executable and nothing else."""
    return built(engine, request.param)


@pytest.fixture(scope="session")
def scratch(engine: engines.Engine) -> Variant:
    return built(engine, "scratch")


@pytest.fixture(scope="session")
def slim(engine: engines.Engine) -> Variant:
    return built(engine, "slim")


@pytest.fixture(scope="session")
def running(variant: Variant) -> Iterator[Contained]:
    """A server with every restriction. It serves many tests: none may leave it changed."""
    with variant.serve() as server:
        yield server


@functools.cache
def built(engine: engines.Engine, target: str) -> Variant:
    """A target's image; what has not changed since the last time comes from the engine's cache."""
    name = f"echoserver-test:{target}"
    try:
        engine.build(target, name, engines.build_arguments())
    except engines.EngineFailed as failure:
        end = "\n".join(failure.output.splitlines()[-20:])
        if found := UNREACHABLE.search(end):
            (line,) = [each for each in end.splitlines() if found[0] in each][-1:]
            pytest.skip(f"{target} can't be built here: {line.strip()} ({HINT})")
        pytest.fail(f"{target} can't be built: {failure}\n{end}", pytrace=False)
    return Variant(engine, target, name)
