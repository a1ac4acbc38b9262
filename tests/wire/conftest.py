"""What the tests over real sockets share, and what of them is left out for the time that it takes."""

from collections.abc import Iterator

import pytest

from tests.servers import HttpClient, Server

ABOVE_TLS = {
    "test_what_is_refused", "test_answers", "test_what_is_wrong", "test_conversations",
    "test_which_connections_stay", "test_a_head_comes_back_as_it_was_sent", "test_an_error_to_head_has_no_content",
    "test_content_has_the_type_it_came_with", "test_chunks_that_are_here_are_answered_with_their_length",
    "test_upgrade_is_ignored_and_the_content_is_not", "test_head_is_answered_as_get_without_the_content",
    "test_nothing_to_continue", "test_beyond_a_limit", "test_what_is_wrong_is_closed_before_the_rest_has_come",
    "test_what_is_wrong_with_deflate", "test_content_longer_than_is_kept", "test_content_is_described",
}  # fmt: skip
"""Tests whose many cases are decided by what stands above TLS, which does not see it."""

ABOVE_THE_LOOP = {
    "test_http.py": {
        "test_what_is_refused", "test_which_connections_stay", "test_a_head_comes_back_as_it_was_sent",
        "test_content_comes_back", "test_upgrade_is_ignored_and_the_content_is_not",
        "test_chunks_that_are_here_are_answered_with_their_length", "test_an_error_to_head_has_no_content",
        "test_the_client_is_told_to_continue_before_it_sends", "test_content_has_the_type_it_came_with",
    },
    "test_http_content.py": {"test_content_comes_back"},
    "test_rfc_9112.py": {
        "test_rfc_9112_section_what_is_refused_and_the_connection_closed", "test_rfc_9112_section_what_is_to_be_taken",
    },
    "test_on_demand.py": {
        "test_answers", "test_an_applications_parameters_are_echoed", "test_content_longer_than_is_kept",
        "test_expect__rfc_9110_section_10_1_1__the_error_in_place_of_the_100",
        "test_expect__100_where_the_answer_is_no_error", "test_content_encoding_goes_back_only_with_its_content",
        "test_close", "test_thousands_pipelined",
    },
    "test_websocket.py": {
        "test_what_is_wrong", "test_conversations", "test_bad_handshakes", "test_a_close_is_answered_with_its_code",
        "test_a_close_with_a_code_that_may_not_be_sent", "test_what_is_wrong_is_closed_before_the_rest_has_come",
        "test_what_is_wrong_with_deflate", "test_deflate", "test_deflate_is_negotiated",
        "test_idle_timeout__closes_with_a_reason",
    },
    "test_proxy_protocol.py": {
        "test_proxy_protocol__what_is_no_preamble_is_not_answered",
        "test_proxy_protocol__what_follows_is_echoed_and_the_log_says_who_it_was",
    },
    "test_curl.py": {
        "test_get", "test_any_method", "test_post", "test_content_encoding__compressed", "test_path_as_is", "test_head",
        "test_expect__the_file_stays_where_it_is", "test_a_file", "test_a_file_twice_on_one_connection",
        "test_http_1_0", "test_an_error_is_shown", "test_many_urls_on_one_connection",
    },
    "test_metrics.py": {
        "test_http_is_counted", "test_tcp_is_counted", "test_udp_is_counted", "test_errors_are_counted_by_reason",
        "test_timeouts_are_counted_by_deadline", "test_scrapes_beside_traffic_harm_no_request",
        "test_promtool_finds_nothing_to_say",
    },
    "test_http_limits.py": {
        "test_header_timeout__a_section_that_does_not_come_gets_408",
        "test_header_timeout__is_for_the_header_section_only",
        "test_keep_alive_timeout__an_idle_connection_is_closed", "test_idle_timeout__lets_go_on_what_goes_on",
        "test_idle_timeout__of_content_that_is_echoed_already", "test_idle_timeout__of_stalled_content",
        "test_max_connections__those_beyond_are_told_so", "test_content_that_is_claimed_and_not_sent_costs_nothing",
        "test_buffer_total__content_that_waits_for_its_rest_counts_too",
    },
    "test_tcp_faults.py": {
        "test_tcp_close_after__exactly_so_much_comes_then_fin", "test_tcp_mode__a_drain_ends_chargen",
        "test_tcp_mode__discard_without_anything", "test_tcp_rate__an_echo_is_no_faster",
        "test_tcp_rate__discard_reads_no_faster", "test_tcp_rate__chargen_is_no_faster",
        "test_tcp_delay__chargen_begins_late", "test_tcp_rate__it_comes_smoothly",
        "test_tcp_rate__time_without_anything_to_send_is_no_credit", "test_tcp_reset__a_share_of_the_connections",
        "test_tcp_reset__none_of_them", "test_tcp_close_after__less_than_that_is_a_plain_echo",
        "test_it_is_counted", "test_over_a_unix_socket", "test_idle_timeout__does_not_count_the_delay",
        "test_idle_timeout__does_not_count_the_pace", "test_tcp_close_after__discard_closes_after_so_much_was_read",
        "test_tcp_reset__chargen_at_once_or_after_so_much",
    },
    "test_tls.py": {"test_curl", "test_curl_without_the_authority", "test_openssl_client"},
}  # fmt: skip
"""Tests, by their module, of what is decided above the event loop (what a request means, which deadline there is), and
of many cases that are alike: on asyncio with --slow only. What the loops do themselves (pauses, half-closes, resets,
ends, handshakes, datagrams), and large contents in other tests, is tested on both."""


@pytest.fixture
def client(server: Server) -> Iterator[HttpClient]:
    """On a connection to the server that the tests share."""
    with HttpClient(server.connect()) as connected:
        yield connected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests once more over TLS: on one loop, as test_tls.py has both, and without what TLS can't change."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        values = list(item.callspec.params.values()) if hasattr(item, "callspec") else []
        on_asyncio = any(isinstance(each, str) and each.split(", ")[-1] == "asyncio" for each in values)
        if item.path.name == "test_over_tls.py":
            if on_asyncio or item.originalname in ABOVE_TLS:
                item.add_marker(pytest.mark.slow)
        elif on_asyncio and item.originalname in ABOVE_THE_LOOP.get(item.path.name, ()):
            item.add_marker(pytest.mark.slow)
