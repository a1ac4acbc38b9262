"""Where the Autobahn test suite is, which belongs to no extra: it is a program for Python 2.7."""

import os
import shutil
from pathlib import Path

import pytest

from tests.requested import only_folder_where_asked


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests of this folder: only where asked for."""
    only_folder_where_asked(config, items, Path(__file__).parent, option="conformance", seconds=1800)


@pytest.fixture(scope="session")
def wstest() -> str:
    """The suite's program: ECHOSERVER_WSTEST's, else the one that is found."""
    found = shutil.which(os.environ.get("ECHOSERVER_WSTEST") or "wstest")
    if found is None:
        pytest.skip("wstest is not installed (autobahntestsuite, on Python 2.7); ECHOSERVER_WSTEST names another place")
    return found
