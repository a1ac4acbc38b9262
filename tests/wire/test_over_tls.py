"""The tests of TCP, HTTP and WebSocket once more, over TLS: what is echoed is the same."""

import functools
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.certificates import Certificates
from tests.servers import Server
from tests.tls_bridge import TlsServer
from tests.wire import test_http, test_http_content, test_http_limits, test_on_demand, test_tcp, test_websocket

LIMITS = {
    "test_beyond_a_limit", "test_at_a_limit", "test_max_body__too_many_chunks_after_an_echo_has_begun",
    "test_max_connections__those_beyond_are_told_so", "test_an_error_survives_a_client_that_goes_on_for_a_while",
    "test_a_client_that_never_ends_is_closed_after_a_while",
    "test_header_timeout__a_section_that_does_not_come_gets_408", "test_idle_timeout__of_stalled_content",
    "test_idle_timeout__of_content_that_is_echoed_already",
    "test_buffer_total__content_that_waits_for_its_rest_counts_too",
}  # fmt: skip
WEBSOCKET = {
    "test_frames_right_behind_the_handshake_and_requests_before_it", "test_conversations", "test_what_is_wrong",
    "test_what_is_wrong_is_closed_before_the_rest_has_come", "test_a_close_within_a_message",
    "test_what_comes_after_a_close_is_dropped_until_the_clients_fin", "test_a_fin_without_a_close", "test_deflate",
    "test_what_is_wrong_with_deflate", "test_bombs_let_others_be_served_and_cost_a_message_each",
    "test_max_connections__an_upgrade_beyond_them_gets_503", "test_buffer_limit__a_client_that_does_not_read",
    "test_buffer_total__messages_of_many_that_are_not_whole", "test_idle_timeout__closes_with_a_reason",
    "test_ws_ping__a_client_that_does_not_answer_is_closed", "test_drain",
}  # fmt: skip
ON_DEMAND = {
    "test_answers", "test_all_pipelined_with_others", "test_content_is_described", "test_a_delay", "test_a_rate",
    "test_content_longer_than_is_kept", "test_content_that_is_not_echoed_is_not_kept", "test_close",
    "test_a_client_that_has_sent_its_fin_gets_its_answers", "test_errors_close",
    "test_idle_timeout__is_about_the_client", "test_a_drain_waits_for_what_was_asked_for",
    "test_a_handshake_is_completed_late",
}  # fmt: skip
NOT_OVER_TLS = {
    "test_the_last_answer_comes_in_one_packet_with_the_fin": "it looks at TCP's state",
    "test_a_reset_leaves_no_trace": "the bridge has no resets",
    "test_small_pieces_that_are_not_read_cost_no_more_than_their_bytes": "each is a record, and 22 bytes longer",
    "test_as_http_client_sees_it": "it connects by itself",
    "test_max_connections__those_beyond_are_closed": "a handshake comes first",
    "test_much_is_relayed": "it takes too long",
    "test_nothing_is_lost_at_half_close": "the same, with 20 MB, is in test_tls.py",
    "test_what_can_not_become_a_request_is_answered_at_once": "it has a server of its own",
}


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    with TlsServer(certificates, "--loop", request.param) as running:
        yield running


@pytest.fixture(scope="module")
def small(certificates: Certificates) -> Iterator[Server]:
    with TlsServer(certificates, "--max-header", "1KiB", "--max-body", "1000") as running:
        yield running


@pytest.fixture(autouse=True)
def over_tls(monkeypatch: pytest.MonkeyPatch, certificates: Certificates) -> None:
    """The servers that tests start for themselves."""
    for module in (test_tcp, test_http, test_http_content, test_http_limits, test_on_demand, test_websocket):
        monkeypatch.setattr(module, "Server", functools.partial(TlsServer, certificates))


def suite(module: ModuleType, only: set[str] | None = None) -> type:
    """A class of the module's tests that are as good over TLS."""
    found = {
        name: staticmethod(each)
        for name, each in inspect.getmembers(module, inspect.isfunction)
        if name.startswith("test_") and name not in NOT_OVER_TLS and (only is None or name in only)
    }
    return type(f"Test_{module.__name__}", (), found)


TestTcp = suite(test_tcp)
TestHttp = suite(test_http)
TestContent = suite(test_http_content)
TestWebSocket = suite(test_websocket, WEBSOCKET)
TestOnDemand = suite(test_on_demand, ON_DEMAND)
TestLimits = suite(test_http_limits, LIMITS)
