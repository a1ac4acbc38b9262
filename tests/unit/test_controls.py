"""Queries in, controls out: what they mean, and how wrong ones are refused."""

import collections
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.answers import controls
from echoserver.answers.controls import Caps, Controls, Outcome
from echoserver.wire.response import HttpError
from tests.unit.examples import examples

CAPS = Caps(60.0, 1 << 30)
USUAL = Outcome(None, 0.0, close=False, abort=False)


def read(query: str, caps: Caps = CAPS) -> Controls:
    found, ignored = controls.read(query.encode(), caps)
    assert found is not None
    assert not ignored
    return found


def refusal(query: str, caps: Caps = CAPS) -> str:
    with pytest.raises(HttpError) as caught:
        controls.read(query.encode(), caps)
    assert caught.value.status == 400
    return caught.value.reason


def chosen(query: str, times: int = 2000) -> "collections.Counter[Outcome]":
    found = read(query)
    return collections.Counter(found.choose() for _ in range(times))


@pytest.mark.parametrize("query", ["", "a=1", "&&", "=", "status_=503", "Status=503", "delay.x=1", "%", "a=%zz&b"])
def test_what_has_none(query: str) -> None:
    assert controls.read(query.encode(), CAPS) == (None, [])


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        ("status=503", Outcome(503, 0.0, close=False, abort=False)),
        ("status=200:100", Outcome(200, 0.0, close=False, abort=False)),
        ("status=599:0", USUAL),
        ("delay=150ms", Outcome(None, 0.15, close=False, abort=False)),
        ("delay=0", USUAL),
        ("delay=60s", Outcome(None, 60.0, close=False, abort=False)),
        ("delay=1s-1s", Outcome(None, 1.0, close=False, abort=False)),
        ("close", Outcome(None, 0.0, close=True, abort=False)),
        ("close=", Outcome(None, 0.0, close=True, abort=False)),
        ("abort=100", Outcome(None, 0.0, close=False, abort=True)),
        ("abort=0&close=0", USUAL),
        ("status=404&delay=2m&close&abort", Outcome(404, 120.0, close=True, abort=True)),
        ("status=5%303", Outcome(503, 0.0, close=False, abort=False)),
        ("x=1&status=201&y", Outcome(201, 0.0, close=False, abort=False)),
    ],
)
def test_what_is_always_so(query: str, plan: Outcome) -> None:
    found = read(query, Caps(120.0, 0))
    assert {found.choose() for _ in range(50)} == {plan}


def test_shares_add_up() -> None:
    statuses = collections.Counter[int | None]()
    for plan, times in chosen("status=503:20,404:10", 20_000).items():
        statuses[plan.status] += times
    assert set(statuses) == {503, 404, None}
    for status, percent in ((503, 20), (404, 10), (None, 70)):  # 3 % of 20,000: 20 standard deviations and more
        assert abs(statuses[status] / 20_000 - percent / 100) < 0.03


def test_a_range_is_used_from_end_to_end() -> None:
    delays = [plan.delay for plan in chosen("delay=50ms-2s:50").elements()]
    late = [each for each in delays if each]
    assert 0.3 < len(late) / len(delays) < 0.7
    assert all(0.05 <= each <= 2.0 for each in late)
    assert min(late) < 0.25
    assert max(late) > 1.8


def test_what_is_chosen_is_chosen_anew_each_time() -> None:
    assert len(chosen("delay=0-60s")) > 1900
    assert {plan.abort for plan in chosen("abort=50")} == {True, False}
    assert {plan.close for plan in chosen("close=0.5", 20_000)} == {True, False}


def test_values() -> None:
    found = read("echo=json&size=64KiB&rate=100KiB&chunked")
    assert (found.echo, found.size, found.rate, found.chunked) == ("json", 65536, 102400, True)
    found = read("size=0")
    assert (found.echo, found.size, found.rate, found.chunked) == (None, 0, 0, False)


@pytest.mark.parametrize(
    "name",
    [
        "Access-Control-Allow-Origin",
        "access-control-x",
        "Clear-Site-Data",
        "Service-Worker-Allowed",
        "strict-transport-security",
    ],
)
def test_no_field_that_browsers_would_remember_can_be_set(name: str) -> None:
    assert refusal(f"header={name}:x") == (f"header='{name}:x': {name} must not be set by a request (CORS: --cors)")


def test_a_long_value_is_read_in_no_time() -> None:
    """Blanks, which a regular expression may look at again and again."""
    blanks = "+" * 60_000
    assert read(f"header=A:{blanks}b").fields == b"A: b\r\n"
    assert refusal(f"header=A:{blanks}b%01").endswith("expected Name:Value, without control characters")


def test_fields() -> None:
    found = read("header=X-A:1&header=x-a:%20two+words%20&header=Content-Type:a/b;c=%22d%22&header=E:&header=F:%C3%A9")
    assert found.fields == b'X-A: 1\r\nx-a: two words\r\nContent-Type: a/b;c="d"\r\nE: \r\nF: \xc3\xa9\r\n'
    assert found.replaced == {b"x-a", b"content-type", b"e", b"f"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("echo=JSON", "echo='JSON': expected json, head, body or none"),
        ("echo=headers", "echo='headers': expected json, head, body or none"),
        ("status=600", "status: '600' is not the status of a response: expected 200 to 599"),
        ("status=101", "status: '101' is not the status of a response: expected 200 to 599"),
        ("status=999", "status: '999' is not the status of a response: expected 200 to 599"),
        ("status=5030", "status: '5030' is not the status of a response: expected 200 to 599"),
        ("status=+503", "status: ' 503' is not the status of a response: expected 200 to 599"),
        ("status=500٣", "status: '500٣' is not the status of a response: expected 200 to 599"),
        ("status=503,404", "status='503,404': '503' has no percentage: expected VALUE:PERCENT,VALUE:PERCENT"),
        ("status=503:60,404:41", "status='503:60,404:41': the percentages must add up to at most 100"),
        (
            "status=503:101",
            "status='503:101': '101' is not a share: expected a number from 0 to 100, as in 25, 0.1%, or on or off",
        ),
        (
            "status=503:",
            "status='503:': '' is not a share: expected a number from 0 to 100, as in 25, 0.1%, or on or off",
        ),
        ("delay=60001ms", "delay='60001ms': at most 60 s are allowed here (--max-delay)"),
        ("delay=1s-61s:1", "delay='1s-61s:1': at most 60 s are allowed here (--max-delay)"),
        ("delay=2s-1s", "delay: '2s-1s' is not a range: expected the shorter duration first"),
        ("delay=10sec", "delay: '10sec' is not a duration: expected a number and a unit, as in 500ms, 10s, 2m, or off"),
        ("delay=OFF", "delay: 'OFF' is not a duration: expected a number and a unit, as in 500ms, 10s, 2m, or off"),
        ("delay=1e9", "delay: '1e9' is not a duration: expected a number and a unit, as in 500ms, 10s, 2m, or off"),
        ("size=1025MiB", "size='1025MiB': at most 1073741824 bytes are allowed here (--max-size)"),
        ("size=10XB", "size: '10XB' is not a size: expected bytes or a unit, as in 1000, 64KiB, 16MiB, 1GB"),
        ("rate=1KB/s", "rate: '1KB/s' is not a size: expected bytes or a unit, as in 1000, 64KiB, 16MiB, 1GB"),
        ("rate=0", "rate='0': expected at least a byte a second"),
        ("close=101", "close: '101' is not a share: expected a number from 0 to 100, as in 25, 0.1%, or on or off"),
        ("abort=ON", "abort: 'ON' is not a share: expected a number from 0 to 100, as in 25, 0.1%, or on or off"),
        ("header=:X", "header=':X': expected Name:Value, without control characters"),
        ("header=X%20Y:1", "header='X Y:1': expected Name:Value, without control characters"),
        ("header=X:a%0d%0aY:b", "header='X:a\\r\\nY:b': expected Name:Value, without control characters"),
        ("header=X:a%00", "header='X:a\\x00': expected Name:Value, without control characters"),
        (
            "header=content-LENGTH:5",
            "header='content-LENGTH:5': content-LENGTH must not be set: "
            "it is about the end of the response or the connection",
        ),
        ("header=%FF:1", "header='\\\\xff:1': expected Name:Value, without control characters"),
        ("size=" + "1" * 1001, f"size='{'1' * 60}...': expected 1000 characters at most"),
        ("header=" + "(" * 65_000 + ":", f"header='{'(' * 60}...': expected Name:Value, without control characters"),
        ("&".join(["header=A:b"] * 101), "header='A:b': expected at most 100 fields"),
        ("echo=json" + "x" * 996, f"echo='json{'x' * 56}...': expected json, head, body or none"),
        ("echo=json" + "x" * 997, f"echo='json{'x' * 56}...': expected 1000 characters at most"),
    ],
)
def test_wrong_values(query: str, reason: str) -> None:
    assert refusal(query) == reason


@pytest.mark.parametrize(
    ("query", "ignored"),
    [
        ("status=open", "status"), ("status=", "status"), ("status", "status"), ("status=1", "status"),
        ("status=50", "status"), ("status=5xx", "status"), ("status=-200", "status"), ("status=50٣", "status"),
        ("status=open&status=closed", "status"), ("status=200&status=404", "status"),
        ("status=999&status=open", "status"), ("delay=1s&delay=1s", "delay"), ("close&close", "close"),
        ("delay=soon", "delay"), ("delay=", "delay"), ("delay=-1s", "delay"), ("delay=offset", "delay"),
        ("delay=.5", "delay"), ("size=XL", "size"), ("size=-1", "size"), ("size", "size"), ("rate=USD", "rate"),
        ("echo=xml", "echo"), ("echo", "echo"), ("echo=1", "echo"), ("echo=" + "x" * 60_000, "echo"),
        ("close=yes", "close"), ("close=once", "close"), ("close=office", "close"), ("abort=nan", "abort"),
        ("chunked=1", "chunked"), ("chunked=true", "chunked"), ("header=X", "header"), ("header", "header"),
        ("header=a&header=b", "header"), ("header=" + "a" * 65_000, "header"),
        ("size=XL&a=b&status=open&echo=x", "size, status, echo"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_a_control_is_an_applications(query: str, ignored: str) -> None:
    assert controls.read(query.encode(), CAPS) == (None, ignored.encode().split(b", "))


def test_what_is_a_control_beside_what_is_an_applications() -> None:
    found, ignored = controls.read(b"status=open&delay=1s&header=x&header=A:b&size=1&size=2", CAPS)
    assert found is not None
    assert (found.choose(), found.fields, found.size) == (
        Outcome(None, 1.0, close=False, abort=False),
        b"A: b\r\n",
        None,
    )
    assert ignored == [b"status", b"header", b"size"]


def test_controls_prefix__names_without_it_are_not_ours() -> None:
    caps = Caps(60.0, 1 << 30, b"e.-")
    found, ignored = controls.read(b"status=404&size=10XB&e.-status=503&ex-delay=1s&e.-e.-size=3", caps)
    assert found is not None
    assert (found.choose().status, found.size, ignored) == (503, None, [])
    assert controls.read(b"e.-status=open&status=1", caps) == (None, [b"e.-status"])
    assert refusal("e.-delay=10sec", caps).startswith("e.-delay: '10sec' is not a duration")
    assert refusal("e.-delay=2m", caps).startswith("e.-delay='2m': at most 60 s")


@pytest.mark.parametrize("name", ["Transfer-Encoding", "connection", "Keep-Alive", "TE", "trailer", "Upgrade"])
def test_no_field_that_frames_messages_can_be_set(name: str) -> None:
    assert (
        refusal(f"header={name}:x")
        == f"header='{name}:x': {name} must not be set: it is about the end of the response or the connection"
    )


NAMES = st.sampled_from(
    ["echo", "status", "delay", "size", "header", "close", "abort", "rate", "chunked", "other", "header", "status"]
)
VALUES = st.text(max_size=12) | st.from_regex(r"[0-9a-zA-Z:,.\-%]{0,12}", fullmatch=True)


@examples(2000)
@given(pairs=st.lists(st.tuples(NAMES, VALUES), max_size=5), raw=st.booleans())
@example(pairs=[("header", "a:\x85b")], raw=False)
def test_any_query_is_read_or_refused_in_one_short_line(pairs: list[tuple[str, str]], raw: bool) -> None:
    query = "&".join("=".join(pair) for pair in pairs) if raw else urllib.parse.urlencode(pairs)
    refused = found = None
    try:
        found, ignored = controls.read(query.encode("utf-8", "surrogatepass"), CAPS)
        assert len(ignored) == len(set(ignored))
        assert set(ignored) <= {name.encode() for name, _ in pairs} | {b"close", b"abort"} or raw
    except HttpError as caught:
        refused = caught
    if refused is not None:
        assert refused.status == 400
        assert "\n" not in refused.reason
        assert len(refused.reason) < 500
    if found is None:
        return
    plan = found.choose()
    assert plan.status is None or 200 <= plan.status <= 599
    assert 0 <= plan.delay <= CAPS.delay
    assert found.size is None or 0 <= found.size <= CAPS.size
    assert found.fields.count(b"\n") == found.fields.count(b"\r\n") == len(found.fields.split(b"\r\n")) - 1


@examples(1000)
@given(query=st.binary(max_size=60))
def test_parameters_are_those_of_the_standard_library(query: bytes) -> None:
    assert controls.parameters(b"a&" * 1001 + query) == [(b"a", b"")] * 1000
    text = query.decode("latin-1")
    expected = urllib.parse.parse_qsl(text, keep_blank_values=True, encoding="latin-1")
    assert [(name.decode("latin-1"), value.decode("latin-1")) for name, value in controls.parameters(query)] == expected
