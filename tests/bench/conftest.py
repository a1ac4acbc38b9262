"""Fixtures that the tests of the bench share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import arms


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the bench builds its programs, for as long: the tests' own folder."""
    path = tmp_path_factory.getbasetemp() / "bench-programs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="module")
def native_client(cache: Path) -> str:
    """The path of the native client."""
    return _built("client")


@pytest.fixture(scope="module")
def limit_server(cache: Path) -> str:
    """The path of the limit server."""
    return _built("limit")


def _built(name: str) -> str:
    try:
        return arms.native(name)
    except arms.Missing as missing:
        pytest.skip(str(missing))
