"""The fairness bench: its arithmetic, its table, and that the attackers send what a load says."""

import itertools
import re
import zlib
from typing import Any

import pytest

from bench import attackers, attacks, fairness
from bench.attacks import ATTACKS, Attack
from bench.clients import ThrownAway
from bench.figures import Result, Round

MIB = 1 << 20


def counts(*, median: float = 100, worst: float = 2000, requests: int = 600) -> dict[str, Any]:
    """What the honest client says; times in microseconds."""
    return {"requests": requests, "due": 600, "seconds": 3.0, "latency_us": {"50": median, "99": 500, "max": worst}}


def attacked(**other: Any) -> dict[str, Any]:
    """What the attackers say."""
    return {"seconds": 2.0, "sent": 0, "received": 0, "opened": 1, "ended": 0, "answered": 0, "beginning": ""} | other


def round_of(**other: Any) -> Round:
    return {**fairness.figure(counts(), attacked(sent=50_000_000), 3 * MIB), "turn": 1, **other}


def test_a_round() -> None:
    figure = fairness.figure(counts(), attacked(sent=4, received=6, answered=8, ended=1), -5)
    assert figure == {
        "ms": {"median": 0.1, "p99": 0.5, "worst": 2.0}, "requests": 600, "due": 600, "grown_bytes": 0,
        "sent_per_s": 2, "received_per_s": 3, "answered_per_s": 4, "ended": 1,
    }  # fmt: skip


def test_the_worst_is_that_of_all_rounds_and_the_rest_the_median() -> None:
    rounds = [
        round_of(ms={"median": median, "p99": 2 * median, "worst": worst}, grown_bytes=grown)
        for median, worst, grown in ((1.0, 9.0, 5), (3.0, 40.0, 7), (2.0, 8.0, 6))
    ]
    arm: dict[str, Any] = {"rounds": [*rounds, {"thrown_away": "why", "turn": 4}]}
    fairness.summarise(arm)
    assert arm["median"]["ms"] == {"median": 2.0, "p99": 4.0, "worst": 40.0}
    assert arm["median"]["grown_bytes"] == 7


def test_without_a_round_that_counts() -> None:
    arm: dict[str, Any] = {"rounds": [{"thrown_away": "why", "turn": 1}]}
    fairness.summarise(arm)
    assert arm["median"] is None


# --- what is shown ----------------------------------------------------------------------------------------------------


def arm(*rounds: Round) -> dict[str, Any]:
    result: dict[str, Any] = {"rounds": list(rounds)}
    fairness.summarise(result)
    return result


SLOW = fairness.figure(counts(median=12_345, worst=1_234_567, requests=5), attacked(answered=3000), MIB // 2)
LOADS = {
    "get": {"title": "the same GET", "arms": {"echoserver": arm(round_of()), "nginx": arm(round_of(ended=2))}},
    "close": {"title": "connections", "arms": {"echoserver": arm(SLOW), "nginx": arm({"thrown_away": "it is off"})}},
    "ws": {"title": "WebSocket", "arms": {"echoserver": arm(round_of(sent_per_s=123_456))}},
}


def test_a_line() -> None:
    assert [fairness.line(name, of_load) for name, of_load in LOADS.items()] == [
        "get             echoserver 0.10 / 0.50 / 2.00 ms, 600 of 600 requests, 25 MB/s, +3.0 MiB; "
        "nginx 0.10 / 0.50 / 2.00 ms, 600 of 600 requests, 25 MB/s, ended 2 x, +3.0 MiB",
        "close           echoserver 12 / 0.50 / 1,235 ms, 5 of 600 requests, 1,500 answers/s, +0.5 MiB; "
        "nginx it is off",
        "ws              echoserver 0.10 / 0.50 / 2.00 ms, 600 of 600 requests, 0.12 MB/s, +3.0 MiB",
    ]


def test_the_table() -> None:
    result: Result = {
        "method": {"attackers": 10, "rounds": 2, "seconds": 3, "loop": "auto"}, "machine": {"cpu": "A"},
        "versions": {"python": "CPython 3.11.2"}, "loads": LOADS,
    }  # fmt: skip
    about, empty, *table = fairness.markdown(result).splitlines()
    assert about == "10 greedy connections, 2 x 3 s, --loop auto, A, python CPython 3.11.2."
    assert empty == ""
    assert table[0] == (
        "| load |  | echoserver: median / p99 / worst, ms | requests | attackers | memory, MiB "
        "| nginx: median / p99 / worst, ms | requests | attackers | memory, MiB |"
    )
    assert table[2].startswith("| `get` | the same GET | 0.10 / 0.50 / 2.00 | 600 of 600 | 25 MB/s | 3.0 | 0.10 / ")
    assert table[3].endswith("| it is off |  |  |  |")
    assert table[4].endswith("| 0.12 MB/s | 3.0 |  |  |  |  |")
    assert {line.count("|") for line in table} == {11}


# --- what is thrown away ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "did", "why"),
    [
        ("get", {}, "the attackers could send nothing"),
        ("get", {"sent": 1, "beginning": "HTTP/1.1 431 "}, "the attackers are answered with b'HTTP/1.1 431 '"),
        ("ws-ping", {"sent": 1, "beginning": "\x88\x02"}, r"the attackers are answered with b'\x88\x02'"),
        ("tcp-chargen", {}, "the attackers are answered with b''"),
    ],
)
def test_attackers_that_did_something_else(name: str, did: dict[str, Any], why: str) -> None:
    with pytest.raises(ThrownAway, match=f"^{re.escape(why)}$"):
        fairness.check(ATTACKS[name], attacked(**did))


def test_attackers_that_did_what_they_should() -> None:
    fairness.check(ATTACKS["get"], attacked(sent=1, beginning="HTTP/1.1 200 OK"))
    fairness.check(ATTACKS["get-unread"], attacked(sent=1))
    fairness.check(ATTACKS["tcp-chargen"], attacked(received=1, beginning=" !"))


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_names() -> None:
    for name, attack in ATTACKS.items():
        assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name)
        assert attack.name == name
        assert not attack.common or attack.port == "http"
    assert set(attacks.QUICK) <= set(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_what_is_held_of_a_load_is_small(attack: Attack) -> None:
    parts = attack.parts() if attack.parts else []
    assert sum(len(data) for data, _ in parts) < 40 * MIB
    assert all(data and times for data, times in parts)


def test_all_parts_are_sent_again_and_again() -> None:
    sent = attackers.endless([(b"a", 1), (b"b", 2)])
    assert b"".join(itertools.islice(sent, 7)) == b"abbabba"
    assert list(attackers.endless([])) == []


def test_a_post_of_a_gibibyte() -> None:
    assert ATTACKS["post1g"].parts is not None
    (head, once), (content, times) = ATTACKS["post1g"].parts()
    assert b"Content-Length: 1073741824\r\n" in head
    assert (once, len(content) * times) == (1, 1 << 30)


def test_requests_of_their_own() -> None:
    assert ATTACKS["getpath"].parts is not None
    ((data, _),) = ATTACKS["getpath"].parts()
    paths = re.findall(rb"GET (\S+) HTTP/1.1", data)
    assert len(set(paths)) == len(paths) == 1 << 16


@pytest.mark.parametrize(("name", "size"), [("ws-inflate1m", MIB), ("ws-inflate16m", 16 * MIB)])
def test_messages_that_inflate(name: str, size: int) -> None:
    """The first one of the block: FIN, RSV1, binary; a masked payload."""
    make = ATTACKS[name].parts
    assert make is not None
    ((data, _),) = make()
    assert data[:2] == b"\xc2\xfe"
    length, mask = int.from_bytes(data[2:4]), data[4:8]
    payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data[8 : 8 + length]))
    assert zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") == bytes(size)
    assert len(data) % (8 + length) == 0


def test_a_server_has_the_listeners_of_its_load() -> None:
    words = fairness.command(ATTACKS["tcp-discard"], {"http": "1", "tcp": "2"}, "asyncio")
    assert words[1:] == [
        "-m", "echoserver", "--tcp", "127.0.0.1:2", "--udp", "off", "--http", "127.0.0.1:1",
        "--tcp-mode", "discard", "--loop", "asyncio",
    ]  # fmt: skip
