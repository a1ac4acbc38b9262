"""The access log: its lines byte for byte, and its writer on pipes that are read, not read, and closed.

Modules: observe.access_lines, observe.access_log.
"""

import datetime
import errno
import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.observe.access_lines import (
    MAX_AGENT,
    MAX_LINE,
    MAX_METHOD,
    MAX_REFERER,
    MAX_TARGET,
    Entry,
    Json,
    Text,
)
from echoserver.observe.access_log import AccessLog
from tests.unit.examples import examples

WHEN = datetime.datetime(2026, 11, 25, 13, 4, 5, 123_456, datetime.UTC).timestamp()
CLIENT = ("192.0.2.1", 4321)
HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: curl/8\r\nContent-Length: 64\r\n\r\n"
LINE = b'192.0.2.1 - - [25/Nov/2026:13:04:05 +0000] "POST /x HTTP/1.1" 200 64 "http://r/" "curl/8"\n'
PATIENCE = 60.0  # seconds; none of the tests takes as long unless it fails

# nginx's format, read by what its documentation says and nothing of ours
ESCAPED = rb'"((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)"'
COMBINED = re.compile(
    rb"([!-~]+) - - \[(\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000)\] "
    + ESCAPED + rb" (\d+) (\d+) " + ESCAPED + b" " + ESCAPED + rb"\n"
)  # fmt: skip
KEYS = [
    "time", "client", "port", "protocol", "worker", "method", "target", "version", "status", "bytes_in", "bytes_out",
    "referer", "user_agent", "duration",
]  # fmt: skip


def entry(head: bytes | None = HEAD, protocol: str = "http", **other: Any) -> Entry:
    client, when, duration = other.get("client", CLIENT), other.get("when", WHEN), other.get("duration", 0.000_25)
    return client, protocol, head, other.get("status", 200), other.get("received", 65), 64, when, duration


def text(*entries: Entry) -> bytes:
    return Text().lines(list(entries)).encode("ascii")


def as_json(*entries: Entry) -> bytes:
    return Json(3).lines(list(entries)).encode("ascii")


def combined(line: bytes) -> tuple[bytes, bytes, bytes]:
    """The request line, referer and agent of a line, as the client sent them."""
    found = COMBINED.fullmatch(line)
    assert found, line
    request, referer, agent = (
        re.sub(rb"\\x(..)", lambda escape: bytes.fromhex(escape[1].decode()), found[number]) for number in (3, 6, 7)
    )
    return request, referer, agent


def test_a_request_in_text() -> None:
    assert text(entry()) == LINE


def test_a_request_in_json() -> None:
    assert as_json(entry(protocol="https")) == (
        b'{"time":"2026-11-25T13:04:05.123Z","client":"192.0.2.1","port":4321,"protocol":"https","worker":3,'
        b'"method":"POST","target":"/x","version":"HTTP/1.1","status":200,"bytes_in":65,"bytes_out":64,'
        b'"referer":"http://r/","user_agent":"curl/8","duration":0.000250}\n'
    )


def test_a_connection_in_text() -> None:
    line = b"192.0.2.1 [25/Nov/2026:13:04:05 +0000] TCP 200 64 65 12.346\n"
    assert text(entry(None, "tcp", duration=12.3456)) == line
    assert text(entry(None, "tls", duration=12.3456)) == line.replace(b"TCP", b"TLS")


def test_a_connection_in_json() -> None:
    assert as_json(entry(None, "tls", duration=12.3456784)) == (
        b'{"time":"2026-11-25T13:04:05.123Z","client":"192.0.2.1","port":4321,"protocol":"tls","worker":3,'
        b'"status":200,"bytes_in":65,"bytes_out":64,"duration":12.345678}\n'
    )


def test_a_unix_socket_has_no_port() -> None:
    assert text(entry(client=("unix:", 0))).startswith(b"unix: - - [")
    assert b'"client":"unix:","port":null,' in as_json(entry(client=("unix:", 0)))


@pytest.mark.parametrize(
    ("head", "line", "parts"),
    [
        (b"", b"-", (None, None, None)),
        (b"\r\n", b"-", (None, None, None)),
        (b"GET", b"GET", ("GET", None, None)),
        (b"GET /so/far", b"GET /so/far", ("GET", "/so/far", None)),
        (b"GET /so/far HTT", b"GET /so/far HTT", ("GET", "/so/far HTT", None)),
        (b"GET  HTTP/1.1\r\n\r\n", b"GET HTTP/1.1", ("GET", None, "HTTP/1.1")),
        (b"GET /a b HTTP/1.1\r\n\r\n", b"GET /a b HTTP/1.1", ("GET", "/a b", "HTTP/1.1")),
        (b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1", ("GET", "/", "HTTP/1.1")),
        (b"GET /\xe9\" HTTP/2.0\r\n\r\n", rb"GET /\xE9\x22 HTTP/2.0", ("GET", '/\xe9"', "HTTP/2.0")),
        (b"\x16\x03\x01\x00\\ \x7f", rb"\x16\x03\x01\x00\x5C \x7F", (None, None, None)),
    ],
)  # fmt: skip
def test_as_much_of_a_request_line_as_can_be_told(
    head: bytes, line: bytes, parts: tuple[str | None, str | None, str | None]
) -> None:
    assert b'] "' + line + b'" 400 64 "-" "-"\n' in text(entry(head, status=400))
    read = json.loads(as_json(entry(head, status=400)))
    assert (read["method"], read["target"], read["version"]) == parts
    assert read["referer"] is read["user_agent"] is None


def test_a_field_is_found_in_any_case_and_the_first_one_counts() -> None:
    head = b"GET / HTTP/1.1\r\nuser-AGENT:\t a b \t\r\nX-Referer: x\r\nUser-Agent: c\r\nREFERER:\r\nReferer: d\r\n\r\n"
    assert combined(text(entry(head)))[1:] == (b"", b"a b")
    read = json.loads(as_json(entry(head)))
    assert (read["referer"], read["user_agent"]) == ("", "a b")


def test_times_are_utc_and_in_english() -> None:
    moments = [datetime.datetime(2027, month, 28, 23, 59, 59, 999_000, datetime.UTC) for month in range(1, 13)]
    names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    entries = [entry(when=moment.timestamp()) for moment in moments]
    for month, line in zip(names, text(*entries).splitlines(), strict=True):
        assert f"[28/{month}/2027:23:59:59 +0000]".encode() in line
    for moment, line in zip(moments, as_json(*entries).splitlines(), strict=True):
        assert json.loads(line)["time"] == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@examples(300)
@given(st.lists(st.floats(0, 253_402_300_799), min_size=1, max_size=5))
def test_entries_of_any_times_in_any_order(times: list[float]) -> None:
    for when, line in zip(times, as_json(*(entry(when=when) for when in times)).splitlines(), strict=True):
        read = datetime.datetime.fromisoformat(json.loads(line)["time"]).timestamp()
        assert -0.000_1 <= when - read < 0.001_1


VALUES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda piece, times, tail: piece * times + tail, st.binary(max_size=3), st.integers(0, 3000), st.binary()
    ),
)
FIELD_VALUES = VALUES.map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"").strip(b" \t"))


@examples(300)
@given(FIELD_VALUES.filter(bool), FIELD_VALUES, FIELD_VALUES)
def test_what_was_sent_can_be_read_from_the_line(target: bytes, referer: bytes, agent: bytes) -> None:
    head = b"GET %b HTTP/1.1\r\nReferer: %b\r\nUser-Agent: %b\r\n\r\n" % (target, referer, agent)
    line = text(entry(head))
    read = json.loads(as_json(entry(head)))
    request, *in_text = combined(line)
    assert request.startswith(b"GET ")
    assert request.endswith(b" HTTP/1.1")
    in_text.append(request[4:-9])
    in_json = [read[name].encode("latin-1") for name in ("referer", "user_agent", "target")]
    for sent, *values in zip((referer, agent, target), in_text, in_json, strict=True):
        for value in values:
            assert value == sent or (value.endswith(b"...") and sent.startswith(value[:-3]))
    assert len(line) <= MAX_LINE
    assert list(read) == KEYS


def test_values_are_cut_to_what_each_may_have() -> None:
    head = b"%b /%b HTTP/1.1\r\nReferer: %b\r\nUser-Agent: %b\r\n\r\n"
    lengths = (MAX_METHOD, MAX_TARGET - 1, MAX_REFERER, MAX_AGENT)
    whole = tuple(b"x" * length for length in lengths)
    read = json.loads(as_json(entry(head % whole)))
    assert [read[key] for key in ("method", "target", "referer", "user_agent")] == [
        "x" * MAX_METHOD, "/" + whole[1].decode(), whole[2].decode(), whole[3].decode()
    ]  # fmt: skip
    assert combined(text(entry(head % whole))) == (b"%b /%b HTTP/1.1" % whole[:2], *whole[2:])
    longer = tuple(value + b"x" for value in whole)
    cut = tuple(value[:-3] + b"..." for value in whole)
    read = json.loads(as_json(entry(head % longer)))
    assert [read[key] for key in ("method", "target", "referer", "user_agent")] == [
        cut[0].decode(), "/" + cut[1].decode(), cut[2].decode(), cut[3].decode()
    ]  # fmt: skip
    assert combined(text(entry(head % longer))) == (b"%b /%b HTTP/1.1" % cut[:2], *cut[2:])


@pytest.mark.parametrize("piece", [b"x", b'"', b"\\", b"\xff", b"a\xff", b"ab\\", b"abc\x01"])
def test_the_longest_line(piece: bytes) -> None:
    value = piece * 3000
    head = b"%b %b HTTP/1.1\r\nReferer: %b\r\nUser-Agent: %b\r\n\r\n" % (b"M" * 100, value, value, value)
    largest = 2**64 - 1
    noted: Entry = (("\u20ac" * 100, 65535), "https", head, 999, largest, largest, 253_402_300_799.9, 999_999_999.9)
    for line in (text(noted), Json(99_999).lines([noted]).encode()):
        assert len(line) <= MAX_LINE
        assert line.count(b"...") == 5
    combined(text(noted))
    assert list(json.loads(as_json(noted))) == KEYS


@examples(500)
@given(VALUES | st.builds(lambda *pieces: b"".join(pieces), st.sampled_from([HEAD, HEAD[:20], b"GET "]), VALUES))
def test_any_bytes_make_a_line(head: bytes) -> None:
    line = text(entry(head, status=400))
    combined(line)
    read = as_json(entry(head, status=400))
    assert list(json.loads(read)) == KEYS
    for each in (line, read):
        assert len(each) <= MAX_LINE
        assert each.count(b"\n") == 1


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::1%\udcff\ud800", "\u20ac", '"\\'])
def test_any_host_makes_a_line(host: str) -> None:
    combined(text(entry(client=(host, 1))))
    assert json.loads(as_json(entry(client=(host, 1))))["client"].encode("latin-1") == host.encode(
        "utf-8", "surrogatepass"
    )


def test_only_some_short_heads_are_remembered() -> None:
    lines = Text()
    heads = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(1000)]
    for head in (*heads, *heads):
        assert combined(lines.lines([entry(head)]).encode())[0] == head[:-4]
        assert len(lines._heads) <= 256
    before = len(lines._heads)
    lines.lines([entry(b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * 1024))])
    assert len(lines._heads) == before


# the writer


class Pipe:
    """A pipe, and what has come through it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.received = b""
        self._reading: threading.Thread | None = None

    def _read(self) -> None:
        while data := os.read(self.reader, 1 << 16):
            self.received += data

    def read(self) -> None:
        """Read from now on, aside."""
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def lines(self) -> list[bytes]:
        """All that was written, once nobody will write any more."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
        if self._reading is not None:
            self._reading.join()
        return self.received.splitlines(keepends=True)

    def at_capacity(self) -> bool:
        return not select.select([], [self.writer], [], 0)[1]

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.lines()
    pipe.close_reader()


def note(log: AccessLog, times: int = 1, head: bytes = HEAD) -> None:
    for _ in range(times):
        log.note(entry(head))


def fill(log: AccessLog, pipe: Pipe) -> int:
    """Note so much that the thread has to wait for the reader; how many entries that took."""
    note(log, 2000)
    log.flush()
    until(pipe.at_capacity)
    return 2000


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_what_was_noted_is_written_in_order(pipe: Pipe) -> None:
    pipe.read()
    log = AccessLog("json", 3, pipe.writer)
    for number in range(3000):
        log.note(entry(received=number))
    log.note(entry(None, "tcp", received=3000))
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (3001, 0)
    assert [json.loads(line)["bytes_in"] for line in pipe.lines()] == list(range(3001))


def test_a_flush_hands_over_what_was_noted(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    log.flush()
    note(log)
    log.flush()
    assert os.read(pipe.reader, MAX_LINE) == LINE
    until(lambda: log.written == 1)
    log.close(PATIENCE)
    assert log.dropped == 0


@pytest.mark.parametrize(("times", "head"), [(1000, HEAD), (16, HEAD + b"x" * 65_536)])
def test_a_large_batch_is_not_waited_with(times: int, head: bytes, pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    note(log, times, head)
    assert os.read(pipe.reader, len(LINE)) == LINE
    pipe.read()
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (times, 0)


def test_a_large_batch_of_connections_is_not_waited_with(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    for _ in range(1024):
        log.note(entry(None, "tcp"))
    assert os.read(pipe.reader, 10) == LINE[:10]
    pipe.read()
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (1024, 0)


def test_nothing_waits_for_a_reader_that_does_not_read(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    noted = 0
    while log.dropped < 10_000:
        note(log, 500)
        noted += 500
        log.flush()
        assert (noted - log.written - log.dropped) * len(LINE) <= 1 << 20
    pipe.read()
    log.close(PATIENCE)
    assert log.written + log.dropped == noted
    assert pipe.lines() == [LINE] * log.written
    assert log.written * len(LINE) > (1 << 20) - MAX_LINE


def test_what_there_is_no_room_for_is_not_formatted(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    noted = fill(log, pipe)
    while not log.dropped:
        note(log, 100)
        noted += 100
        log.flush()
    lines = log._lines
    log._lines = lambda entries: pytest.fail("formatted in vain")
    note(log, 100)
    log.flush()
    log._lines = lines
    pipe.read()
    until(lambda: log.written + log.dropped == noted + 100)
    note(log)
    log.close(PATIENCE)  # there is room again
    assert log.written + log.dropped == noted + 101
    assert pipe.lines() == [LINE] * log.written


PROGRAM = """
import sys
from echoserver.observe.access_log import AccessLog
worker = int(sys.argv[1])
log = AccessLog("json", worker, 1)
for number in range(2000):
    head = b"GET /%b HTTP/1.1\\r\\n\\r\\n" % (b"x" * (number * (7 + worker) % 3000))
    log.note((("192.0.2.1", 4321), "http", head, 200, 0, 0, 0.0, 0.0))
    while number % 100 == 0 and log.written + log.dropped < number:  # so that the two alternate
        log.flush()
log.close(60)
print(log.written, log.dropped, file=sys.stderr)
"""


def test_lines_of_processes_that_share_a_pipe_do_not_mix(pipe: Pipe) -> None:
    pipe.read()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(worker)], stdout=pipe.writer, stderr=subprocess.PIPE, text=True
        )
        for worker in (0, 1)
    ]
    counts = []
    for worker in workers:
        counts.append(worker.communicate(timeout=PATIENCE)[1].split())
        assert worker.returncode == 0, counts
    seen = [json.loads(line)["worker"] for line in pipe.lines()]
    assert [[str(seen.count(worker)), "0"] for worker in (0, 1)] == counts == [["2000", "0"]] * 2


def test_a_reader_that_is_gone_ends_the_log_and_nothing_else(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    pipe.close_reader()
    note(log, 100)
    log.flush()
    until(lambda: log.dropped == 100)
    note(log, 3000)
    log.flush()
    assert (log.written, log.dropped) == (0, 3100)
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (0, 3100)


def test_close_does_not_wait_for_longer_than_it_is_told(pipe: Pipe) -> None:
    log = AccessLog("text", 3, pipe.writer)
    noted = fill(log, pipe)
    log.close(0.01)
    assert log.dropped > 0
    assert log.written + log.dropped == noted
    note(log)
    log.flush()
    log.close(0)
    assert log.written + log.dropped == noted + 1
    pipe.read()  # what the thread has begun to write it may finish
    log._thread.join(PATIENCE)
    assert log.written + log.dropped == noted + 1
    assert pipe.lines() == [LINE] * log.written


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    log = AccessLog("text", 3, pipe.writer)
    noted = fill(log, pipe)
    assert os.read(pipe.reader, len(LINE)) == LINE
    pipe.read()
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (noted, 0)
    assert pipe.lines() == [LINE] * (noted - 1)


def test_writes_that_are_taken_in_part(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    sizes = []

    def some(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return write(descriptor, data[:1000])

    monkeypatch.setattr(os, "write", some)
    pipe.read()
    log = AccessLog("text", 3, pipe.writer)
    note(log, 100)
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (100, 0)
    assert max(sizes) <= MAX_LINE
    assert pipe.lines() == [LINE] * 100


def test_a_line_that_was_not_taken_whole_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [len(LINE) * 2 + 10]

    def full(descriptor: int, data: bytes) -> int:
        if answers:
            return answers.pop()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    log = AccessLog("text", 3, -1)
    note(log, 100)
    log.close(PATIENCE)
    assert (log.written, log.dropped) == (2, 98)
