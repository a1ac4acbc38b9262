"""What of the tests over real sockets is left out for the time that it takes."""

import pytest

ABOVE_TLS = {
    "test_what_is_refused",
    "test_answers",
    "test_what_is_wrong",
    "test_conversations",
    "test_which_connections_stay",
}
"""Tests whose many cases are decided by what stands above TLS, which does not see it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests once more over TLS: on one loop, as test_tls.py has both, and without what TLS can't change."""
    for item in items:
        if isinstance(item, pytest.Function) and item.path.name == "test_over_tls.py":
            values = item.callspec.params.values() if hasattr(item, "callspec") else ()
            if "asyncio" in values or item.originalname in ABOVE_TLS:
                item.add_marker(pytest.mark.slow)
