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
import subprocess
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
from tests.bench.commands import counted
from tests.bench.test_clients import Watched, run
from tests.programs import needs
from tests.servers import Server

POOLS = [each.name for each in LOADS.values() if each.pool and not each.native]
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
        assert load.pool == name
    assert {each.pool for each in LOADS.values()} == {*POOLS, ""}, "the native client sends the same ones"


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
    """Answers as it is told, and keeps what it was sent, in the order in which it came. torn: bytes that it sends at a
    time; 0: all."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer, torn: int) -> None:
        super().__init__(("127.0.0.1", 0), _Recorded)
        self.answer = answer
        self.torn = torn
        self.requests: list[bytes] = []
        self.connections: dict[object, list[bytes]] = {}  # the requests of each, in the order in which they were made
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
                recording.connections.setdefault(self.client_address, []).append(sent)
                answer = recording.answer(sent)
                step = recording.torn or len(answer)
                for at in range(0, len(answer), step):
                    self.wfile.write(answer[at : at + step])


@contextlib.contextmanager
def recording(answer: Answer = echo, *, torn: int = 0) -> Iterator[Recording]:
    with Recording(answer, torn) as server:
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


# --- what the native client sends -------------------------------------------------------------------------------------


def native(
    program: str, *options: str, where: str, requests: Sequence[bytes], folder: Path
) -> subprocess.CompletedProcess[str]:
    """From its start to its end, with one round."""
    return run(program, "-h", *options, where=where, sent=pools.packed(requests), folder=folder, name="some.pool")


@pytest.mark.parametrize("options", [(), ("-r", "2000"), ("-i", "1")], ids=["closed loop", "fixed rate", "paced"])
def test_each_connection_goes_through_the_pool(
    native_client: str, options: tuple[str, ...], small: Sequence[bytes], tmp_path: Path
) -> None:
    """From a place of its own, again and again."""
    with recording() as server:
        done = native(native_client, "-c", "4", *options, where=server.where, requests=small, folder=tmp_path)
        by_connection = list(server.connections.values())
    (figures,) = counted(done)
    assert len(by_connection) == 4
    assert [sent[0] for sent in by_connection] == [small[each * len(small) // 4] for each in range(4)]
    for sent in by_connection:
        at = small.index(sent[0])
        assert sent == [small[each % len(small)] for each in range(at, at + len(sent))]
    counts = sum(map(len, by_connection)) - 4
    assert figures["requests"] <= counts <= figures["requests"] + 4
    if "-r" in options:
        assert figures["requests"] == figures["due"] == 100


def test_a_pool_that_comes_again(native_client: str, tmp_path: Path) -> None:
    with recording() as server:
        counted(native(native_client, where=server.where, requests=pools.pool("mix")[:3], folder=tmp_path))
    assert len(server.requests) > 9
    assert server.requests[3:6] == server.requests[:3] == list(pools.pool("mix")[:3])


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("options", [(), ("-r", "2000")], ids=["closed loop", "fixed rate"])
def test_the_native_client_against_the_server(
    native_client: str, options: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    with Server() as server:
        done = native(native_client, "-c", "16", *options, where=str(server.http), requests=pools.pool(name),
                      folder=tmp_path)  # fmt: skip
    (figures,) = counted(done)
    assert figures["requests"] == 100 if options else figures["requests"] > 0


def chunked(sent: bytes) -> bytes:
    """The same echo, 100 bytes at a time."""
    content = echo(sent).partition(BLANK)[2]
    parts = [*(content[at : at + 100] for at in range(0, len(content), 100)), b""]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in parts)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded


PLAIN = b"GET /head HTTP/1.1\r\nHost: localhost\r\nAge: 0\r\n\r\n"
"""Neither content nor X-Request-Id: all of it has to come back, and that ends as a chunked answer does."""

SAID: dict[str, Answer] = {
    "with a length": echo,
    "chunked": chunked,
    "other words": lambda sent: response(sent.lower()[:-9]) if sent.startswith(b"GET /head/") else echo(sent),
}


@pytest.mark.parametrize("torn", [0, 3], ids=["whole", "torn"])
@pytest.mark.parametrize("how", SAID)
def test_answers_in_other_words(native_client: str, how: str, torn: int, tmp_path: Path) -> None:
    requests = [*pools.pool("mix")[:20], PLAIN]
    with recording(SAID[how], torn=torn) as server:
        done = native(native_client, "-c", "2", "-r", "400", where=server.where, requests=requests, folder=tmp_path)
    assert counted(done)[0]["requests"] == 20


NO_POOLS = {
    "empty": b"",
    "cut in a length": pools.packed([PLAIN]) + b"\1\0",
    "cut in a request": pools.packed([PLAIN])[:-1],
    "no request": pools.packed([b"hello"]),
}


@pytest.mark.parametrize("how", NO_POOLS)
def test_what_is_no_pool(native_client: str, how: str, tmp_path: Path) -> None:
    done = run(native_client, "-h", where="1", sent=NO_POOLS[how], folder=tmp_path, name="some.pool")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "client: no pool of HTTP requests\n")


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


def another_length(sent: bytes) -> bytes:
    return response(sent.partition(BLANK)[2][:-1])


WRONG, LENGTH = "a wrong echo", "an echo of another length"
LIES: dict[str, tuple[str, Answer]] = {
    "a byte": (WRONG, lying(PATCH, changed)),
    "a byte, chunked": (WRONG, lying(PUT, lambda sent: chunked(sent[:-1] + bytes([sent[-1] ^ 1])))),
    "cut": (LENGTH, lying(PUT, another_length)),
    "cut, chunked": (LENGTH, lying(PUT, lambda sent: chunked(sent[:-1]))),
    "longer, chunked": (LENGTH, lying(PUT, lambda sent: chunked(sent + b"x"))),
    "more than it says": ("a long echo", lying(PUT, lambda sent: echo(sent) + b"x")),
    "more than its chunks": ("a long echo", lying(PUT, lambda sent: chunked(sent) + b"x")),
    "another head": (WRONG, lying(GET, of_another)),
    "another head, chunked": (WRONG, lying(GET, lambda sent: chunked(of_another(sent).partition(BLANK)[2]))),
    "no head": (WRONG, lying(GET, lambda _: response(b"hello"))),
    "status": ("a status other than 200", lying(GET, failed)),
    "no length": (
        "neither Content-Length nor chunked content", lying(GET, lambda _: b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n")
    ),
    "too long": ("an answer that is too long", lying(GET, lambda sent: response(sent + bytes(20_000)))),
    "too long, chunked": (
        "an answer that is too long", lying(GET, lambda sent: chunked(b"GET /" + BLANK + bytes(20_000)))
    ),
    "a chunk without a length": (
        "a chunk without a length", lying(GET, lambda sent: chunked(sent).replace(b"\r\n64\r\n", b"\r\nx\r\n"))
    ),
    "a chunk that is longer": (
        "a chunk of another length", lying(GET, lambda sent: chunked(sent).replace(b"\r\n64\r\n", b"\r\n63\r\n"))
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_some_ends_the_native_client(
    native_client: str, lie: str, small: Sequence[bytes], tmp_path: Path
) -> None:
    why, answer = LIES[lie]
    with recording(answer) as server:
        done = native(native_client, "-c", "4", "-r", "2000", where=server.where, requests=small, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"client: {why} after \d+ echoes\n", done.stderr)


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
