"""Requests that differ: the pools are what they say and always the same, wrk sends them, and no wrong echo counts."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import random
import re
import socket
import socketserver
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from bench import clients, pools, running
from bench.clients import Mixed, ThrownAway
from bench.figures import Round
from bench.loads import COUNTED, LOADS
from echoserver.wire import request
from tests.bench.test_clients import Watched
from tests.programs import needs
from tests.servers import Server

POOLS = [each.name for each in LOADS.values() if each.pool]
BLANK = b"\r\n\r\n"

# --- what they are ----------------------------------------------------------------------------------------------------

HASHES = {
    "mix": "5727c4b4ff5d55c3e6f2abaa679ab65cc83d649c63a10aa9c734b77354883b28",
    "mixpost": "1adf6fc2f83217e353e453d9b772353d23ee45ba6f3ac0a3ac667b0208e73510",
    "lengths": "1e189f4583b0af873ad1842b67e010849a4674790d1e56d8bfe95718aae5b97d",
    "big1500": "d9a1181f530680a388707ff71acfd1f6a1548e0c98a00996df6f0901f0623a71",
}
"""Whoever changes a pool makes figures that can't be compared with those before."""


@functools.cache
def parts(name: str) -> list[tuple[str, dict[str, str], bytes]]:
    """Line, fields and content of each request."""
    found = []
    for each in pools.pool(name):
        head, _, content = each.partition(BLANK)
        line, *fields = head.decode("ascii").split("\r\n")
        found.append((line, dict(field.split(": ", 1) for field in fields), content))
        assert len(found[-1][1]) == len(fields), "no field comes twice"
    return found


def test_all_pools_are_loads() -> None:
    assert list(HASHES) == POOLS
    for name in POOLS:
        load = LOADS[name]
        assert (load.group, load.protocol, load.workers, load.answers) == ("mix", "http", 1, 1), "one thread sends it"
        assert not load.native


@pytest.mark.parametrize("name", POOLS)
def test_the_same_bytes_everywhere(name: str) -> None:
    assert hashlib.sha256(pools.packed(pools.pool(name))).hexdigest() == HASHES[name]


@pytest.mark.parametrize("name", POOLS)
def test_each_is_another_one(name: str) -> None:
    assert len(set(pools.pool(name))) == len(pools.pool(name)) == (5_000 if name == "big1500" else 20_000)
    assert not any(COUNTED in each for each in pools.pool(name))


@pytest.mark.parametrize("name", POOLS)
def test_each_is_a_request_that_is_echoed(name: str) -> None:
    for sent in pools.pool(name)[::10]:
        end = sent.index(BLANK) + len(BLANK)
        read = request.read(sent[:end])
        assert read.page is None
        assert not read.expects
        assert read.keep_alive
        assert read.content_length == len(sent) - end
        if not read.content_length:
            assert read.answer.endswith(read.head), "the header section comes back, and no description of it"


@pytest.mark.parametrize(("name", "gets"), [("mix", 0.7), ("mixpost", 0)])
def test_the_mix_of_a_proxy(name: str, gets: float) -> None:
    methods = Counter(line.split()[0] for line, _, _ in parts(name))
    total = len(parts(name))
    assert methods["GET"] / total == pytest.approx(gets, abs=0.01)
    with_content = total - methods["GET"]
    for method, share in (("POST", 0.6), ("PUT", 0.2), ("PATCH", 0.2)):
        assert methods[method] / with_content == pytest.approx(share, abs=0.02)
    seen: Counter[str] = Counter()
    for line, fields, content in parts(name):
        assert 8 <= len(fields) <= 14
        seen.update(list(fields))
        assert line.startswith("GET /head/") == (not content), "where all peers answer with the header section"
        assert ("Content-Length" in fields) == ("Content-Type" in fields) == bool(content)
        if content:
            assert int(fields["Content-Length"]) == len(content)
            assert 16 <= len(content) <= 4000
        if fields.get("Content-Type") == "application/json":
            assert set(json.loads(content)) == {"note"}
        assert re.fullmatch(r"[0-9a-f]{32}", fields["X-Request-Id"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", fields["traceparent"])
        assert fields["X-Real-IP"] == fields["X-Forwarded-For"]
    for field in ("Host", "X-Real-IP", "X-Forwarded-Proto", "X-Request-Id", "traceparent", "User-Agent"):
        assert seen[field] == total
    for field in ("Accept", "Accept-Encoding", "Accept-Language", "Cookie", "Authorization", "Referer"):
        assert 0.2 < seen[field] / total < 0.9
    assert len({frozenset(fields) for _, fields, _ in parts(name)}) > 50, "sets of fields"
    for field, least in (("X-Request-Id", total), ("User-Agent", 40), ("X-Real-IP", 0.99 * total)):
        assert len({fields[field] for _, fields, _ in parts(name)}) >= least
    log_uniform([len(content) for _, _, content in parts(name) if content], 16, 4000)


def test_lengths_and_nothing_else() -> None:
    heads = {(line, *((name, fields[name]) for name in fields if name != "Content-Length"))
             for line, fields, _ in parts("lengths")}  # fmt: skip
    assert len(heads) == 1
    sizes = [len(content) for _, _, content in parts("lengths")]
    assert sizes == [int(fields["Content-Length"]) for _, fields, _ in parts("lengths")]
    assert len(set(sizes)) > 900
    log_uniform(sizes, 20, 1000)


def log_uniform(sizes: Sequence[int], least: int, most: int) -> None:
    assert min(sizes) == least
    assert most - 5 <= max(sizes) <= most
    quarters = statistics.quantiles(sizes, n=4)
    expected = [least * (most / least) ** (each / 4) for each in (1, 2, 3)]
    assert quarters == pytest.approx(expected, rel=0.06)


def test_large_header_sections() -> None:
    sizes = [each.index(BLANK) + len(BLANK) for each in pools.pool("big1500")]
    assert statistics.fmean(sizes) == pytest.approx(1500, abs=20)
    assert min(sizes) > 1300
    assert max(sizes) < 1700
    assert {len(content) for _, _, content in parts("big1500")} == {64}
    for field in ("Cookie", "Authorization", "X-Request-Id"):
        assert len({fields[field] for _, fields, _ in parts("big1500")}) == 5_000


def test_packed() -> None:
    """Each after its length."""
    assert pools.packed([b"a", b"", b"x" * 300]) == b"\1\0\0\0a\0\0\0\0\x2c\1\0\0" + b"x" * 300


# --- a server that records --------------------------------------------------------------------------------------------

Answer = Callable[[bytes], bytes]
"""The response to a request."""


def echo(sent: bytes) -> bytes:
    head, _, content = sent.partition(BLANK)
    return response(content or head + BLANK)


def response(content: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(content), content)


class Recording(socketserver.ThreadingTCPServer):
    """Answers as it is told, and keeps what it was sent, in the order in which it came."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Recorded)
        self.answer = answer
        self.requests: list[bytes] = []
        self.where = str(self.server_address[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.where)), 5)


class _Recorded(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        recording = cast(Recording, self.server)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline():
                head = line
                while line != b"\r\n" and line:
                    line = self.rfile.readline()
                    head += line
                size = re.search(rb"\r\nContent-Length: (\d+)", head)
                sent = head + (self.rfile.read(int(size[1])) if size else b"")
                recording.requests.append(sent)
                self.wfile.write(recording.answer(sent))


@contextlib.contextmanager
def recording(answer: Answer = echo) -> Iterator[Recording]:
    with Recording(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def round_of(name: str, where: str, answers: clients.Answers, folder: Path, *, connections: int) -> Round:
    """A second of it."""
    load = dataclasses.replace(LOADS[name], connections=connections)
    server = cast(running.Server, Watched(where))
    return clients.client(load, server, answers, os.sched_getaffinity(0), folder)(0.1)


def looked_at(name: str, server: Recording) -> Mixed:
    answers = clients.check(LOADS[name], cast(running.Server, server))
    assert isinstance(answers, Mixed)
    return answers


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Sequence[bytes]:
    """All pools are the beginning of `mix`, and so short that it comes again and again."""
    requests = pools.pool("mix")[:50]
    monkeypatch.setattr(pools, "pool", lambda name: requests)
    return requests


# --- what is sent -----------------------------------------------------------------------------------------------------


@needs("wrk")
def test_wrk_sends_one_after_the_other_again_and_again(small: Sequence[bytes], tmp_path: Path) -> None:
    with recording() as server:
        answers = looked_at("mix", server)
        assert server.requests == list(small), "a look at each"
        server.requests.clear()
        figures = round_of("mix", server.where, answers, tmp_path, connections=1)
    sent = server.requests
    assert len(sent) > 3 * len(small)
    assert sent == (list(small) * (len(sent) // len(small) + 1))[: len(sent)]
    assert 1e6 / figures["cpu_us"] == pytest.approx(len(sent), abs=1), "for it has used a second"


@needs("wrk")
@pytest.mark.parametrize("name", POOLS)
def test_wrk_sends_the_pool_on_many_connections(name: str, tmp_path: Path) -> None:
    """Its beginning, and nothing twice."""
    with recording() as server:
        answers = looked_at(name, server)
        assert len(server.requests) == 400
        server.requests.clear()
        round_of(name, server.where, answers, tmp_path, connections=16)
        sent = server.requests
    assert len(sent) > 100
    beginning = (pools.pool(name) * 10)[: len(sent) + 16]
    assert not Counter(sent) - Counter(beginning)


@needs("wrk")
def test_the_server_itself(tmp_path: Path) -> None:
    with Server() as server:
        answers = clients.check(LOADS["mix"], running.Running("echoserver", str(server.http), 0))
        assert round_of("mix", str(server.http), answers, tmp_path, connections=16)["rate"] > 100


@needs("wrk")
def test_a_number_in_each_of_its_places(tmp_path: Path) -> None:
    with recording() as server:
        answers = clients.check(LOADS["cold"], cast(running.Server, server))
        server.requests.clear()
        round_of("cold", server.where, answers, tmp_path, connections=4)
    seen = set()
    for sent in server.requests:
        found = re.findall(rb"(?<=/v1/orders/)\d{8}(?= )|(?<=X-Request-Id: 5ca1ab1e-)\d{8}(?=\r\n)", sent)
        assert len(found) == 2
        assert found[0] == found[1]
        assert sent.replace(found[0], COUNTED) == LOADS["cold"].sent
        seen.add(found[0])
    assert len(seen) == len(server.requests) > 100


# --- what does not count ----------------------------------------------------------------------------------------------

GET, PATCH, PUT = b"GET", b"PATCH", b"PUT"


def lying(to: bytes, lie: Answer) -> Answer:
    """About requests of a method."""
    return lambda sent: lie(sent) if sent.startswith(to) else echo(sent)


def changed(sent: bytes) -> bytes:
    answer = echo(sent)
    return answer[:-1] + bytes([answer[-1] ^ 1])


def of_another(sent: bytes) -> bytes:
    """The header section of another request."""
    return echo(re.sub(rb"(?<=X-Request-Id: )\w+", b"0" * 32, sent))


def failed(sent: bytes) -> bytes:
    return response(b"", "500 Internal Server Error")


NO_ECHOES = {
    "a byte": (lying(PATCH, changed), "its content is no echo of b'PATCH /"),
    "cut": (lying(PUT, lambda sent: response(sent.partition(BLANK)[2][:-1])), "its content is no echo of b'PUT /"),
    "longer": (lying(PUT, lambda sent: response(sent.partition(BLANK)[2] + b"x")), "its content is no echo of b'PUT /"),
    "another head": (lying(GET, of_another), "its content is no echo of b'GET /head/"),
    "the content of all": (lambda sent: response(b"hello"), "its content is no echo of "),
    "status": (lying(GET, failed), "it answers 500 to b'GET /head/"),
}


@pytest.mark.parametrize("how", NO_ECHOES)
def test_a_look_sees_what_is_wrong_with_some(how: str) -> None:
    answer, why = NO_ECHOES[how]
    with recording(answer) as server, pytest.raises(ThrownAway) as error:
        looked_at("mix", server)
    assert str(error.value).startswith(why)


def test_a_head_in_other_words() -> None:
    """Some peers have no other: fewer bytes than were sent are counted as that."""
    with recording(lying(GET, lambda sent: response(sent.lower()[:-9]))) as server:
        answers = looked_at("mix", server)
    around = len(response(b"x" * 100)) - 100
    assert set(answers.around) <= {around - 10, around - 9, around - 1, around, around + 1}


@needs("wrk")
@pytest.mark.parametrize("what", [GET, PATCH])
def test_wrk_counts_no_other_lengths(what: bytes, small: Sequence[bytes], tmp_path: Path) -> None:
    """They are right as long as they are looked at."""
    lie = lying(what, lambda sent: response(b"hello"))
    with recording() as honest, recording(lie) as liar:
        answers = looked_at("mix", honest)
        with pytest.raises(ThrownAway) as error:
            round_of("mix", liar.where, answers, tmp_path, connections=2)
    assert re.fullmatch(r"wrk: \d+ bytes for \d+ answers of \d+ on average: echoes of another length", str(error.value))


@pytest.mark.parametrize("name", POOLS)
def test_what_the_answers_measure(name: str) -> None:
    """Whatever is under way, and however long what is around an echo is: true sums are within the bounds."""
    rng = random.Random(1)
    requests = pools.pool(name)
    around = [150 + rng.randrange(25) for _ in requests]
    echoes = [len(each.partition(BLANK)[2]) or len(each) for each in requests]
    whole = [a + b for a, b in zip(around, echoes, strict=True)]
    answers = Mixed(echoes, around[:: len(requests) // 400])
    for answered in (1, 64, 1000, 17_000, 20_000, 61_234):
        for _ in range(5):
            sent = [whole[each % len(whole)] for each in range(answered + 64)]
            least, most = answers.bounds(answered, 64)
            assert least <= sum(sorted(sent)[:answered]), "the longest ones are under way"
            assert sum(sent) <= most, "all but their last bytes"
            rng.shuffle(sent)
            assert least <= sum(sent[:answered]) <= most
        if answered >= 17_000:
            assert most / least < 1.04, "an echo of another length is seen"
