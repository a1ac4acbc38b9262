"""The loads of the bench: their bytes are requests, their names are known, and each has a client that can do it."""

import re

import pytest

from bench import arms, clients, gate, http2, loads
from bench.loads import COUNTED, LOADS, Load, pattern
from echoserver.wire import request

BLANK = b"\r\n\r\n"
HTTP = [each for each in LOADS.values() if each.protocol in ("http", "https") and not each.pool]  # those: test_pools.py


def by_name(load: Load) -> str:
    return load.name


def whole_requests(sent: bytes) -> list[tuple[request.Request, bytes]]:
    """Each request in these bytes, as the server reads it, and its content as it is sent."""
    found = []
    while sent:
        end = sent.index(BLANK) + len(BLANK)
        read = request.read(sent[:end])
        size = len(sent) - end if read.chunked else read.content_length
        assert len(sent) >= end + size, "the content is shorter than it says"
        found.append((read, sent[end : end + size]))
        sent = sent[end + size :]
    return found


@pytest.mark.parametrize("load", HTTP, ids=by_name)
def test_what_is_sent_are_requests(load: Load) -> None:
    found = whole_requests(load.sent.replace(COUNTED, b"00000000"))
    assert len(found) == load.answers
    for read, content in found:
        assert read.page is None
        assert not read.expects
        assert not read.no_body
        if load.content is None:
            assert content == b""
            assert read.answer.endswith(read.head), "the header section comes back"
        elif read.chunked:
            assert content == b"%x\r\n%b\r\n0\r\n\r\n" % (load.content, pattern(load.content))
        else:
            assert content == pattern(load.content)
        assert read.keep_alive == (load.name != "close" and not load.handshakes)


@pytest.mark.parametrize("load", HTTP, ids=by_name)
def test_what_is_counted_is_not_content(load: Load) -> None:
    """The number stands in a header section, and answers are compared with content that is always the same."""
    assert load.sent.count(COUNTED) == {"getpath": 1, "path": 1, "fields": 1, "cold": 2}.get(load.name, 0)
    assert COUNTED not in load.sent.partition(BLANK)[2]
    assert COUNTED not in pattern(16 << 20)
    if COUNTED in load.sent:
        assert load.answers == 1
        assert not load.native, "the native client sends a file as it is"


@pytest.mark.parametrize("load", [each for each in LOADS.values() if each.protocol in ("tcp", "udp")], ids=by_name)
def test_raw_bytes(load: Load) -> None:
    assert load.content is not None
    assert load.sent == pattern(load.content)
    assert len(load.sent) == load.content > 0
    assert load.answers == 1


@pytest.mark.parametrize("load", [each for each in LOADS.values() if each.protocol == "ws"], ids=by_name)
def test_masked_frames(load: Load) -> None:
    """One binary message each, which a server sees as another one unless it unmasks it."""
    assert load.content
    mask = load.sent[-load.content - 4 : -load.content]
    assert all(mask)
    sent = load.sent[-load.content :]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(sent)) == pattern(load.content)
    head = load.sent[: -load.content - 4]
    assert head[1] & 0x80
    unmasked = bytes([head[0], head[1] & 0x7F]) + head[2:] + pattern(load.content)
    assert clients.message(unmasked) == pattern(load.content)
    assert load.answers == 1


@pytest.mark.parametrize(("size", "head"), [(0, "8280"), (125, "82fd"), (126, "82fe007e"), (65535, "82feffff"),
                                            (65536, "82ff0000000000010000")])  # fmt: skip
def test_the_length_of_a_frame(size: int, head: str) -> None:
    """RFC 6455, section 5.2: in the fewest bytes that can say it."""
    frame = loads.frame(pattern(size))
    assert frame[: -size - 4].hex() == head


def test_bytes_tell_where_they_belong() -> None:
    """A piece of content that lies elsewhere than it should is seen: neither a page nor a buffer is a whole period."""
    for shift in (1, 64, 4096, 65536, 1 << 18, 1 << 20):
        assert pattern(3 << 20)[shift : shift + 512] != pattern(512)


@pytest.mark.parametrize("load", LOADS.values(), ids=by_name)
def test_each_has_a_client_that_can_do_it(load: Load) -> None:
    assert bool(load.sent) != (bool(load.pool) or load.name == "h2get")
    if load.protocol in {"tcp", "udp", "ws"} or load.unix or load.rate or load.half_of or load.active or load.steps:
        assert load.native, "wrk can't"
    if load.half_of:
        assert load.protocol in arms.ARMS[load.half_of].speaks
        assert (load.group, load.rate, load.workers) == ("rate", 0, 1), "its rate is measured"
    if load.native and load.protocol == "http" and not load.pool:
        assert b"\r\nContent-Length: " in load.sent, "the native client knows the length from there"
        assert load.answers == 1
    if load.handshakes:
        assert load.handshakes in {"new", "resumed"}
        assert load.protocol == "https"
        assert not load.native
    assert not (load.native and load.protocol in arms.OVER_TLS), "the native clients speak no TLS"
    assert load.streams == 1 or load.protocol in clients.HTTP2
    assert bool(load.encoding) == (bool(load.pool) and load.protocol in clients.HTTP2)
    assert not load.encoding or load.encoding in http2.ENCODINGS
    if load.protocol in clients.HTTP2:
        assert load.native == bool(load.pool), "each has its client"
        assert len(load.sent) == (load.content or 0)
        content = load.sent[loads.PREFIX :] if load.protocol == "grpc" else load.sent
        assert content == pattern(len(content)), "h2load makes the rest"
    assert 0 <= load.active <= load.connections
    assert load.workers in (1, 2)
    assert load.title
    assert re.fullmatch(r"[a-z0-9]+", load.name), "it names files and anchors"


def test_a_message_of_grpc() -> None:
    """Not compressed, its length in four bytes (PROTOCOL-HTTP2.md of gRPC, Length-Prefixed-Message)."""
    for load in (each for each in LOADS.values() if each.protocol == "grpc"):
        assert load.sent == b"\0\0\0\0\x40" + pattern(64)
    assert loads.message(bytes(258)) == b"\0\0\0\1\2" + bytes(258)


def test_who_speaks_http_2_and_no_grpc_says_why() -> None:
    """The limit server alone says nothing: it has no figure there, as over TLS."""
    calls = {each.name for each in LOADS.values() if each.protocol == "grpc"}
    for arm in arms.ARMS.values():
        if "h2c" in arm.speaks and arm.name != "limit":
            assert ("grpc" in arm.speaks) != (calls <= set(arm.cannot))
        if "grpc" in arm.speaks:
            assert not calls & set(arm.cannot)


def test_names() -> None:
    assert [each.name for each in LOADS.values()] == list(LOADS)
    for names in (loads.QUICK, gate.LOADS):
        assert set(names) <= set(LOADS)
        assert len(set(names)) == len(names)
    assert set(loads.QUICK) & set(gate.LOADS), "the gate has something to do when it is quick"
    for load in LOADS.values():
        assert set(load.arms) <= set(arms.ARMS)
    for name, arm in arms.ARMS.items():
        assert arm.name == name
        assert set(arm.cannot) <= set(LOADS)
        assert set(arm.speaks) <= {"tcp", "udp", "http", "https", "ws", "h2", "h2c", "grpc"}
        assert arm.speaks[-1] not in {"udp", "https", "h2"}, "without openssl it would be nowhere"


def test_what_the_gate_judges_has_a_server_beside_it() -> None:
    """The limit server, or over TLS nginx."""
    for name in gate.LOADS:
        load = LOADS[name]
        beside = "nginx" if load.protocol == "https" else "limit"
        assert gate.taking_part(load) == ("echoserver", beside)
        assert {beside, "echoserver"} <= set(load.arms or arms.ARMS)
        assert not load.rate
        assert not load.steps
        assert load.workers == 1
        for which in (beside, "echoserver"):
            assert load.protocol in arms.ARMS[which].speaks
            assert arms.ARMS[which].unix or not load.unix
            assert name not in arms.ARMS[which].cannot


def test_quick_runs_each_client_and_what_it_does_otherwise() -> None:
    quick = [LOADS[name] for name in loads.QUICK]
    assert {each.native for each in quick} == {True, False}
    assert {each.protocol for each in quick} == {"tcp", "udp", "http", "https", "ws", "h2", "h2c", "grpc"}
    assert {each.native for each in quick if each.protocol == "h2c"} == {True, False}
    assert any(each.handshakes for each in quick)
    assert any(each.unix for each in quick)
    assert any(each.rate for each in quick)
    assert any(each.half_of for each in quick)
    assert any(each.answers > 1 for each in quick)
    assert any(COUNTED in each.sent for each in quick)
    assert any(each.pool for each in quick)
