"""``python -m bench`` as people run it: what is written and said, what is thrown away, and that nothing runs on."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import arms, cli, clients, compare, figures, running
from bench.figures import Result, Round
from bench.loads import LOADS, Load
from tests.bench.commands import bench, interrupt
from tests.process.processes import alive
from tests.programs import missing, needs
from tests.servers import wait_for

CPUS = os.sched_getaffinity(0)

needs_rich = pytest.mark.skipif(
    importlib.util.find_spec("rich") is None, reason="rich is not installed: pip install '.[bench]'"
)

# --- servers that it runs ---------------------------------------------------------------------------------------------


def server(folder: Path, source: str, cpus: set[int] = CPUS) -> running.Server:
    """A server in Python, from its source; where is the path of the socket that it should listen on."""
    where = str(folder / "socket")
    prelude = "import os, signal, socket, sys, time\nwhere = sys.argv[1]\n"
    return running.Server("it", [sys.executable, "-c", prelude + source, where], where, cpus, folder)


LISTEN = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(where)
listener.listen()
"""
WAIT = """
while True:
    listener.accept()
"""
FORK = """
for _ in range(2):
    if not os.fork():
        if not os.fork():
            time.sleep(1000)
        time.sleep(1000)
"""


@pytest.mark.parametrize(
    "deaf",
    ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"],
    ids=["ends when it is asked to", "has to be killed"],
)
def test_all_that_a_server_has_started_ends_with_it(tmp_path: Path, deaf: str) -> None:
    with server(tmp_path, deaf + FORK + LISTEN + WAIT) as it:
        wait_for(lambda: len(it.family()) == 5, "its children, and theirs")
        family = it.family()
        assert all(map(alive, family))
    wait_for(lambda: not any(map(alive, family)), "the end of all")


def test_children_that_are_left_behind_end_too(tmp_path: Path) -> None:
    """SIGTERM ends the server; its child does not care."""
    ignored, heeded = (f"signal.signal(signal.SIGTERM, signal.SIG_{each})\n" for each in ("IGN", "DFL"))
    child = "if os.fork() == 0:\n    time.sleep(1000)\n"
    with server(tmp_path, ignored + child + heeded + LISTEN + WAIT) as it:
        family = it.family()
        assert len(family) == 2
    wait_for(lambda: not any(map(alive, family)), "the end of both")


ENDS = {
    "raise SystemExit('no licence was found')": "it ended at its start with 1: no licence was found",
    "print('one', 'two', sep=chr(10)); sys.exit(3)": "it ended at its start with 3: two",
    "sys.exit(0)": "it ended at its start with 0: it said nothing",
    "os.kill(os.getpid(), signal.SIGKILL)": "it ended at its start with -9: it said nothing",
}


@pytest.mark.parametrize("source", ENDS)
def test_a_server_that_ends_at_its_start(tmp_path: Path, source: str) -> None:
    with pytest.raises(running.ServerFailed) as error, server(tmp_path, source):
        pass
    assert str(error.value) == ENDS[source]


def test_a_server_that_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_PATIENCE", 0.0)
    it = server(tmp_path, FORK + "time.sleep(1000)\n")
    with pytest.raises(running.ServerFailed, match=f"^it does not listen on {tmp_path}/socket$"), it:
        pass
    wait_for(lambda: not any(map(alive, it.family())), "its end")


DATAGRAMS = """
it = socket.socket(type=socket.SOCK_DGRAM)
time.sleep(0.1)
it.bind(("127.0.0.1", int(where)))
while True:
    data, sender = it.recvfrom(100)
    if next(first, None) is None:
        it.sendto(data, sender)
"""


@pytest.mark.parametrize("answers", [True, False])
def test_over_udp_an_answer_tells_that_it_is_there(
    tmp_path: Path, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked before it is bound nobody refuses it for good, and a datagram that is lost is sent again."""
    where = running.free_port(udp=True)
    first = f"first = iter({[1] if answers else [1] * 100})\n"
    words = [sys.executable, "-c", "import socket, sys, time\nwhere = sys.argv[1]\n" + first + DATAGRAMS, where]
    it = running.Server("it", words, where, CPUS, tmp_path, udp=True)
    if answers:
        with it, it.connect() as connection:
            connection.send(b"x")
            assert connection.recv(100) == b"x"
    else:
        monkeypatch.setattr(running, "_PATIENCE", 0.5)
        with pytest.raises(running.ServerFailed, match=f"^it does not listen on {where}$"), it:
            pass


def test_cpu_time_is_that_of_all_its_processes(tmp_path: Path) -> None:
    """Here a child works and its parent waits; the kernel's other account, in ticks, says the same."""
    with server(tmp_path, LISTEN + "if os.fork() == 0:\n    while True:\n        pass\n" + WAIT) as it:
        wait_for(lambda: len(it.family()) == 2, "its child")
        parent, child = it.family()
        before = it.cpu_seconds()
        wait_for(lambda: it.cpu_seconds() >= before + 0.1, "a tenth of a second of work")
        least = ticks(parent) + ticks(child)
        measured = it.cpu_seconds()
        most = ticks(parent) + ticks(child) + 4  # user and system time of each, cut off
        tick = 1 / os.sysconf("SC_CLK_TCK")
        assert least * tick <= measured <= most * tick
        assert it.resident_bytes() > 2 << 20


def test_the_most_memory_since_it_was_forgotten(tmp_path: Path) -> None:
    with server(tmp_path, "it = bytearray(64 << 20)\ndel it\n" + LISTEN + WAIT) as it:
        assert it.peak_bytes() >= 64 << 20
        it.forget_peak()
        assert it.resident_bytes() <= it.peak_bytes() < 64 << 20


def ticks(pid: int) -> int:
    """User and system time that a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_it_runs_on_its_cpus_from_the_start_and_we_stay_on_ours(tmp_path: Path) -> None:
    some = {max(CPUS)}
    with server(tmp_path, f"if os.sched_getaffinity(0) != {some}:\n    sys.exit('elsewhere')\n" + LISTEN + WAIT, some):
        assert os.sched_getaffinity(0) == CPUS


# --- peers that lie ---------------------------------------------------------------------------------------------------

PEER = """
import itertools, os, socketserver, sys

where, how = sys.argv[1:]
if how == "broke":
    sys.exit("no licence [/] was found")
exchanges = itertools.count(1)
open_ones = []

class Peer(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            size = 0
            while line not in (b"\\r\\n", b""):
                name, _, value = line.partition(b": ")
                size = int(value) if name == b"Content-Length" else size
                line = self.rfile.readline()
            content = self.rfile.read(size)
            self.answer(content, next(exchanges) > 5)

    def answer(self, content, later):
        # 5: the one that is looked at, and the first one of each of the client's 4 connections
        status, length = b"200 OK", len(content)
        if how == "wrong" or (how == "wrong-later" and later):
            content = content[:-1] + b"!"
        if how == "failing":
            status = b"500 Out of Order"
        if how == "dying" and later:
            os._exit(1)
        if how == "forgetful":
            open_ones.append(self.connection)
            if len(open_ones) > 50:
                open_ones[1].shutdown(2)
        if how == "short":
            content = content[:5]
        head = b"HTTP/1.1 %b\\r\\nContent-Length: %d\\r\\n\\r\\n" % (status, length)
        for piece in ([head[:9], head[9:], content] if how == "slow" else [head + content]):
            self.wfile.write(piece)
        if how == "short":
            self.connection.shutdown(2)

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads, request_queue_size = True, 100

    def handle_error(self, *_):
        pass

Server(where, Peer).serve_forever()
"""

HONEST = ("honest", "slow")
LIARS = {
    "broke": "broke ended at its start with 1: no licence [/] was found",
    "unbuilt": "it can't be built",
    "wrong": "its content is no echo: b'",
    "failing": "it answers 500",
    "short": "its answer ends after 44 bytes: b'HTTP/1.1 200 OK",
    "wrong-later": "client: a wrong echo after 0 echoes",
    "dying": "client: ",  # what it hears of first: a connection that is cut off, or a write that fails
}
POST = dataclasses.replace(LOADS["latency"], name="post", unix=True, rate=0, connections=4)
MEMORY = dataclasses.replace(LOADS["memory"], unix=True, steps=(0, 60))


class Recorder(compare.Watcher):
    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []

    def begins(self, load: Load, names: list[str], rounds: int) -> None:
        self.heard.append(("begins", load.name, *names, str(rounds)))

    def round(self, load: Load, arm: str, figures: Round | None) -> None:
        assert figures
        self.heard.append(("round", load.name, arm))

    def thrown_away(self, load: Load, arm: str, why: str) -> None:
        self.heard.append(("thrown away", load.name, arm, why))

    def ends(self, load: Load, result: Result) -> None:
        self.heard.append(("ends", load.name))


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """More arms than there are; and the limit of descriptors, which a comparison raises, as it was."""
    file = tmp_path / "peer.py"
    file.write_text(PEER, encoding="ascii")
    for how in (*HONEST, *LIARS, "excused", "foreign", "forgetful"):

        def command(where: str, protocol: str, folder: Path, *, how: str = how) -> list[str]:
            if (how, protocol) == ("unbuilt", "http"):
                raise arms.Missing("it can't be built")
            return [sys.executable, str(file), where, how]

        cannot = {POST.name: "it has a cold"} if how in {"excused", "foreign"} else {}
        speaks = ("tcp",) if how == "foreign" else ("http", "tcp")
        it = arms.Arm(how, speaks, command, lambda: "1", unix=True, cannot=cannot)
        monkeypatch.setitem(arms.ARMS, how, it)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("peers", "native_client", "limit_server")
def test_half_of_what_another_answers() -> None:
    """It is measured before, and need not take part."""
    load = dataclasses.replace(POST, half_of=HONEST[0])
    result = compare.compare([load], [compare.LIMIT, compare.OURS], compare.QUICK, Recorder())
    of_load = result["loads"]["post"]
    rate = of_load["offered_rate"]
    assert rate > 100
    assert of_load["notes"] == f"{rate} requests a second: half of what {HONEST[0]} answered before"
    assert f"{rate} requests a second at equal distances" in of_load["client"]
    assert list(of_load["arms"]) == [compare.LIMIT, compare.OURS]
    for arm in of_load["arms"].values():
        assert {"50", "99", "99.9"} <= set(arm["median"]["latency_us"])
        assert "ceiling" not in arm["median"], "the client is always busy"


@pytest.mark.usefixtures("native_client", "limit_server", "peers")
@pytest.mark.parametrize(
    ("rate", "quick", "niceness"), [(200, False, running.FIRST), (200, True, 0), (0, False, 0)],
    ids=["a fixed rate", "quick", "a closed loop"],
)  # fmt: skip
def test_what_goes_first(rate: int, quick: bool, niceness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and client, where latency is of interest."""
    seen = []
    pinned = running.pinned

    def spy(words: list[str], cpus: set[int], *, niceness: int = 0, **options: Any) -> subprocess.Popen[Any]:
        seen.append(niceness)
        return pinned(words, cpus, niceness=niceness, **options)

    monkeypatch.setattr(running, "pinned", spy)
    method = dataclasses.replace(compare.QUICK, seconds=0.1, quick=quick)
    result = compare.compare([dataclasses.replace(POST, rate=rate)], [compare.LIMIT, compare.OURS], method, Recorder())
    assert all(arm["median"] for arm in result["loads"]["post"]["arms"].values())
    assert seen == 4 * [niceness]


@pytest.mark.usefixtures("peers", "native_client", "limit_server")
@pytest.mark.parametrize("liar", ["broke", "unbuilt", "wrong", "wrong-later"])
def test_without_what_another_answers_there_is_no_rate(liar: str) -> None:
    load = dataclasses.replace(POST, half_of=liar)
    result = compare.compare([load], [compare.LIMIT, compare.OURS], compare.QUICK, Recorder())
    assert result["loads"] == {}
    assert result["skipped"]["post"].startswith(LIARS[liar])


@pytest.mark.usefixtures("peers", "native_client", "limit_server")
def test_what_lies_has_no_figures_and_that_is_said(tmp_path: Path) -> None:
    """And the others have theirs."""
    good = [compare.LIMIT, compare.OURS, *HONEST]
    watcher = Recorder()
    result = compare.compare([POST], [*good, *LIARS, "excused", "foreign"], compare.QUICK, watcher)
    figures.save(result, tmp_path / "result.json")
    found = figures.load(tmp_path / "result.json")["loads"]["post"]["arms"]
    assert list(found) == [*good, *LIARS, "excused", "foreign"]
    for name in ("excused", "foreign"):
        assert found[name] == {"rounds": [], "cannot": "it has a cold", "median": None, "spread": {}, "ratio": {}}
    for name in good:
        assert [set(each) for each in found[name]["rounds"]] == [ROUND]
        assert found[name]["median"]["cpu_us"] > 0
        assert set(found[name]["ratio"]) == set(good)
    for name, why in LIARS.items():
        (thrown_away,) = found[name]["rounds"]
        assert thrown_away["thrown_away"].startswith(why)
        assert (thrown_away["start"], thrown_away["turn"]) == (0, 1)
        assert (found[name]["median"], found[name]["spread"], found[name]["ratio"]) == (None, {}, {})
    assert watcher.heard[0] == ("begins", "post", *good, *LIARS, str(len(good) + len(LIARS)))
    assert sorted(watcher.heard[1:-1]) == sorted([
        *(("round", "post", name) for name in good),
        *(("thrown away", "post", name, found[name]["rounds"][0]["thrown_away"]) for name in LIARS),
    ])  # fmt: skip
    assert watcher.heard[-1] == ("ends", "post")


@pytest.mark.usefixtures("peers", "native_client", "limit_server")
def test_one_that_closes_idle_connections_needs_no_memory_for_them() -> None:
    """So what it needs is no figure."""
    watcher = Recorder()
    result = compare.compare([MEMORY], [compare.LIMIT, "honest", "forgetful"], compare.QUICK, watcher)
    found = result["loads"]["memory"]["arms"]
    for name in (compare.LIMIT, "honest"):
        (taken,) = found[name]["rounds"]
        assert taken["memory_bytes"]["60"] >= taken["memory_bytes"]["0"] > 0
    (why,) = (each[3] for each in watcher.heard if each[0] == "thrown away")
    assert found["forgetful"]["median"] is None
    assert why.startswith("client: a connection was cut off after 0 echoes")


# --- peers that don't -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def peer(name: str, protocol: str, folder: Path) -> Iterator[running.Server]:
    """One that speaks a protocol, if it is installed here."""
    arm, udp = arms.ARMS[name], protocol == "udp"
    where = running.free_port(udp=udp)
    try:
        words = arm.command(where, protocol, folder)
    except arms.Missing as missing:
        pytest.skip(str(missing))
    with running.Server(name, words, where, CPUS, folder, udp=udp) as server:
        yield server


def answers_all(protocol: str, server: running.Server, folder: Path) -> None:
    """All that the bench sends over a protocol is answered."""
    for load in [each for each in LOADS.values() if each.protocol == protocol]:
        client = clients.client(load, server, clients.check(load, server), CPUS, folder)
        assert client(0.1)["rate"] > 0


@pytest.mark.usefixtures("native_client")
@pytest.mark.parametrize("name", [name for name, arm in arms.ARMS.items() if arm.speaks == ("ws",)])
def test_peers_over_websocket(name: str, tmp_path: Path) -> None:
    """Those that are installed answer all that the bench sends."""
    with peer(name, "ws", tmp_path) as server:
        assert re.match(r"\d", arms.ARMS[name].version())
        answers_all("ws", server, tmp_path)


@needs("wrk")
@pytest.mark.usefixtures("native_client", "limit_server")
@pytest.mark.parametrize("name", [name for name, arm in arms.ARMS.items() if "http" in arm.speaks])
def test_peers_and_requests_that_differ(name: str, tmp_path: Path) -> None:
    """Those that are installed answer all of them, and a round of `mix` counts, with either client."""
    with peer(name, "http", tmp_path) as server:
        answers = {load.name: clients.check(load, server) for load in LOADS.values() if load.group == "mix"}
        for load in (LOADS["mix"], LOADS["mixrate"]):
            assert clients.client(load, server, answers["mix"], CPUS, tmp_path)(0.1)["rate"] > 0


@pytest.mark.usefixtures("native_client", "limit_server")
@pytest.mark.parametrize("name", [name for name, arm in arms.ARMS.items() if "udp" in arm.speaks])
def test_peers_over_udp(name: str, tmp_path: Path) -> None:
    """Those that are installed answer all that the bench sends."""
    with peer(name, "udp", tmp_path) as server:
        answers_all("udp", server, tmp_path)


@needs("wrk", "openssl")
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("name", [name for name, arm in arms.ARMS.items() if "https" in arm.speaks])
def test_peers_over_tls(name: str, tmp_path: Path) -> None:
    """Those that are installed answer all that the bench sends, over TLS 1.3, and resume sessions."""
    with peer(name, "https", tmp_path) as server:
        answers_all("https", server, tmp_path)


@needs("h2load", "openssl")
@pytest.mark.skipif(importlib.util.find_spec("h2") is None, reason="h2 is not installed: pip install '.[bench]'")
@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("name", "protocol"),
    [(name, each) for name, arm in arms.ARMS.items() for each in clients.HTTP2 if each in arm.speaks],
)
def test_peers_over_http2(name: str, protocol: str, tmp_path: Path) -> None:
    """Those that are installed echo all that the bench sends, and rounds of either client count."""
    arm = arms.ARMS[name]
    with peer(name, protocol, tmp_path) as server:
        for load in LOADS.values():
            if load.protocol != protocol or load.name in arm.cannot:
                continue
            answers = clients.check(load, server)
            if load.streams < 100 and (load.content or 0) < 1 << 20:
                few = dataclasses.replace(load, connections=4)
                assert clients.client(few, server, answers, CPUS, tmp_path)(0.05)["rate"] > 0


@needs("wrk", "nginx")
@pytest.mark.usefixtures("native_client", "limit_server", "peers")
def test_two_workers() -> None:
    """One worker of ours beside two, and two of nginx where it takes part."""
    names = [compare.LIMIT, compare.OURS, compare.NGINX]
    result = compare.compare([LOADS["workers2"]], names, compare.QUICK, Recorder())
    found = result["loads"]["workers2"]["arms"]
    expected = ["echoserver", "echoserver-2", *["nginx-2"] * (compare.NGINX not in result["skipped"])]
    assert list(found) == expected
    assert all(arm["median"]["cpu_us"] > 0 for arm in found.values())


LIBRARIES = {
    "fasthttp": ("go", "fasthttp is not installed: apt-get install golang-github-valyala-fasthttp-dev"),
    "gohttp2": ("go", "http2 is not installed: apt-get install golang-golang-x-net-dev"),
    "gorilla": ("go", "websocket is not installed: apt-get install golang-github-gorilla-websocket-dev"),
    "grpcgo": ("go", "grpc is not installed: apt-get install golang-google-grpc-dev"),
    "nodews": ("node", "ws is not installed: apt-get install node-ws"),
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_that_is_not_installed_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, why = LIBRARIES[name]
    (tmp_path / program).write_text("#!/bin/sh\n", encoding="ascii")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(arms, "DEBIAN_GO", tmp_path)
    monkeypatch.setattr(arms, "DEBIAN_WS", tmp_path / "ws")
    with pytest.raises(arms.Missing, match=f"^{re.escape(why)}$"):
        arms.ARMS[name].command("1", arms.ARMS[name].speaks[-1], tmp_path)


@needs_rich
def test_reasons_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """They hold what a server has said, and a bracket in it is no markup."""
    from bench.progress import Progress  # noqa: PLC0415 - where rich is

    with Progress([POST]) as progress:
        progress.begins(POST, ["liar"], 1)
        progress.thrown_away(POST, "liar", "it said [/] and [bold]b'[/red]'")
    assert capsys.readouterr().out == "thrown away: post: liar: it said [/] and [bold]b'[/red]'\n"


@needs_rich
@pytest.mark.parametrize(
    ("names", "base"),
    [
        (["echoserver", "limit", "nginx", "grpcgo"], "limit"), (["echoserver", "nginx", "grpcgo"], "nginx"),
        (["echoserver", "-nginx", "grpcgo"], "grpcgo"), (["echoserver", "-nginx"], "limit"),
    ],
)  # fmt: skip
def test_whose_cpu_time_the_others_is_divided_by(names: list[str], base: str) -> None:
    """-: it can't."""
    from bench.progress import _table  # noqa: PLC0415 - where rich is

    of_arms = {name.lstrip("-"): {"median": None, **({"cannot": "why"} if name[0] == "-" else {})} for name in names}
    table = _table(POST, {"loads": {POST.name: {"arms": of_arms, "notes": ""}}}, compare.LIMIT)
    assert f"x {base}" in [column.header for column in table.columns]


# --- the command line -------------------------------------------------------------------------------------------------

ROUND = {"rate", "cpu_us", "client_cpu_us", "latency_us", "start", "turn"}
ABSENT = [name for name in ("node", "socat") if shutil.which(name, path="/usr/sbin:/sbin") is None]
"""Peers that the bench looks for on the PATH, and would not find elsewhere."""


@pytest.fixture(scope="module")
def only_what_is_needed(native_client: str, limit_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, which has done its work, and wrk where it is installed."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("cc", "wrk"):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return folder


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison that was made."""

    loads: tuple[str, ...]
    done: subprocess.CompletedProcess[str]
    path: Path


@pytest.fixture(scope="module")
def compared(only_what_is_needed: Path, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    path = tmp_path_factory.mktemp("compared") / "new" / "result.json"
    names = ("mix", "tcp64", "fields", "latency") if shutil.which("wrk") else ("tcp64", "latency")
    peers = ",".join(["asyncio", "uvicorn", *ABSENT])
    words = ("compare", *names, "--quick", "--peers", peers, "--output", str(path))
    done = bench(*words, path=only_what_is_needed)
    return Compared(names, done, path)


@pytest.fixture(scope="module")
def result(compared: Compared) -> Result:
    """What it has written."""
    return figures.load(compared.path)


def installed(*names: str) -> list[str]:
    return [name for name in names if name != "uvicorn" or importlib.util.find_spec(name)]


TAKING_PART = {
    "mix": installed("limit", "echoserver", "uvicorn"),
    "tcp64": installed("limit", "echoserver", "asyncio"),
    "fields": installed("limit", "echoserver", "uvicorn"),
    "latency": installed("limit", "echoserver", "uvicorn"),
}


def figures_of(result: Result, load: str) -> dict[str, Any]:
    """The arms of a load that have figures; fails where one has none."""
    found = result["loads"][load]["arms"]
    assert list(found) == TAKING_PART[load]
    for arm in found.values():
        (taken,) = arm["rounds"]
        assert "thrown_away" not in taken
    return {name: arm for name, arm in found.items() if arm["median"]}


@needs_rich
def test_compare(compared: Compared, result: Result) -> None:
    assert (compared.done.returncode, compared.done.stderr) == (0, "")
    said = compared.done.stdout.splitlines()
    assert said[-1] == f"written: {compared.path}"
    for load in compared.loads:
        assert any(line.startswith(f"{load}: {LOADS[load].title}") for line in said)
    assert list(result["loads"]) == list(compared.loads)


@needs_rich
@needs("wrk")
def test_costs(only_what_is_needed: Path, tmp_path: Path) -> None:
    """Each way of the server beside the plain one."""
    done = bench("costs", "post64", "--quick", "--output", str(tmp_path / "costs.json"), path=only_what_is_needed)
    assert (done.returncode, done.stderr) == (0, "")
    of_load = figures.load(tmp_path / "costs.json")["loads"]["post64"]
    assert set(of_load["arms"]) == {
        "echoserver", "without metrics", "scraped each second", "access log, text", "access log, json",
        "no X-Served-By",
    }  # fmt: skip
    assert all(arm["ratio"]["echoserver"] > 0 for arm in of_load["arms"].values())
    assert "x echoserver" in done.stdout


@needs_rich
def test_what_is_written_of_the_machine_and_the_method(result: Result) -> None:
    assert set(result) == {"format", "made", "machine", "versions", "method", "skipped", "loads"}
    assert set(result["machine"]) == {"cpu", "cpus", "memory_bytes", "kernel", "system"}
    assert platform.node() not in json.dumps(result["machine"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", result["made"])
    expected = dataclasses.asdict(compare.QUICK)
    assert {name: result["method"][name] for name in expected} == expected
    assert set(result["method"]["server_cpus"]) | set(result["method"]["client_cpus"]) <= CPUS
    names = {"python", "echoserver", "uvloop", "httptools", *installed("limit", "asyncio", "uvicorn")}
    assert set(result["versions"]) - {"commit"} == names
    assert all(result["versions"].values())


@needs_rich
def test_what_is_written_of_each_load(compared: Compared, result: Result) -> None:
    for name in compared.loads:
        load, written = LOADS[name], result["loads"][name]
        assert (written["title"], written["group"], written["content"]) == (load.title, load.group, load.content)
        assert written["client"] == clients.described(load)
        assert written.get("offered_rate", 0) == load.rate
        measured = figures_of(result, name)
        for arm in measured.values():
            (taken,) = arm["rounds"]
            assert set(taken) == ROUND
            assert (taken["start"], taken["turn"]) == (0, 1)
            assert {"50", "99", "max"} <= set(taken["latency_us"])
            assert set(arm["median"]) - {"ceiling"} == ROUND - {"start", "turn"}
            assert ("ceiling" in arm["median"]) == (not load.rate)
            assert arm["spread"] == {field: 2 * [taken[field]] for field in ("rate", "cpu_us")}
            assert {other: arm["ratio"][other] for other in measured} == {
                other: pytest.approx(taken["cpu_us"] / its["rounds"][0]["cpu_us"], rel=1e-3)
                for other, its in measured.items()
            }


@needs_rich
@pytest.mark.skipif(not ABSENT, reason="all programs are in /usr/sbin here: none can be made missing")
def test_what_is_not_installed_is_named(compared: Compared, result: Result) -> None:
    packages = {"node": "nodejs", "socat": "socat"}
    expected = {name: f"{name} is not installed: apt-get install {packages[name]}" for name in ABSENT}
    assert {name: result["skipped"].get(name) for name in ABSENT} == expected
    for name, why in result["skipped"].items():
        assert f"skipped: {name}: {why}" in compared.done.stdout.splitlines()


@needs_rich
def test_the_gate_when_it_is_quick(compared: Compared, only_what_is_needed: Path) -> None:
    """It says what it sees, and judges nothing."""
    done = bench("gate", "--quick", "tcp64", "unix64", "--reference", str(compared.path), path=only_what_is_needed)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line for line in done.stdout.splitlines() if re.match(r"\w+: .*reference", line)]
    assert "the reference differs: it was made with --quick" in done.stdout
    number = r"\d+\.\d{3}"
    assert re.fullmatch(
        rf"tcp64: {number} x the limit server, {number} in the reference: [+-]\d+\.\d%, noise 6\.0%: "
        r"(SLOWER|the same|faster)",
        said[0],
    )
    assert said[1] == "unix64: not in the reference"
    assert done.stdout.splitlines()[-1] == "quick: nothing is judged by one short round"


@needs_rich
def test_without_a_compiler(tmp_path: Path) -> None:
    """The limit server is what all is measured by: nothing is without it."""
    if shutil.which("cc", path="/usr/sbin:/sbin"):
        pytest.skip("the compiler is in /usr/sbin here: it can't be made missing")
    reference = tmp_path / "reference.json"
    figures.save(figures.new({}), reference)
    for words in (["compare", "tcp64", "--quick"], ["gate", "tcp64", "--quick", "--reference", str(reference)]):
        done = bench(*words, path=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert (done.returncode, done.stderr) == (3, "bench: cc is not installed: apt-get install gcc libc6-dev\n")


@needs_rich
@needs("wrk")
@pytest.mark.skipif(
    shutil.which("openssl", path="/usr/sbin:/sbin") is not None, reason="openssl can't be made missing here"
)
def test_without_openssl(only_what_is_needed: Path, tmp_path: Path) -> None:
    """What is over TLS is skipped, and that is said; all else is measured, and the gate does not pass."""
    path = tmp_path / "result.json"
    words = ("--quick", "--peers", "nginx", "--output", str(path))
    done = bench("compare", "tls64", "udp64", "tlsresume", *words, path=only_what_is_needed)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("tls64", "tlsresume"):
        assert f"skipped: {name}: openssl is not installed: apt-get install openssl" in done.stdout.splitlines()
    assert list(figures.load(path)["loads"]) == ["udp64"]
    done = bench("gate", "tls64", "--quick", "--reference", str(path), path=only_what_is_needed)
    assert done.returncode == 1
    assert "skipped: tls64: openssl is not installed: apt-get install openssl" in done.stdout.splitlines()
    assert done.stdout.splitlines()[-1] == "not judged: tls64"


@needs_rich
@pytest.mark.skipif(shutil.which("wrk", path="/usr/sbin:/sbin") is not None, reason="wrk can't be made missing here")
def test_without_wrk(only_what_is_needed: Path, tmp_path: Path) -> None:
    (tmp_path / "cc").symlink_to(only_what_is_needed / "cc")
    output = ("--output", str(tmp_path / "result.json"))
    done = bench("compare", "post64", "--quick", "--peers", "limit", *output, path=tmp_path)
    assert (done.returncode, done.stderr) == (3, "bench: wrk is not installed: apt-get install wrk\n")


@needs_rich
@pytest.mark.skipif(
    shutil.which("h2load", path="/usr/sbin:/sbin") is not None, reason="h2load can't be made missing here"
)
def test_without_h2load(only_what_is_needed: Path, tmp_path: Path) -> None:
    """What it would send is skipped, and that is said; all else is measured."""
    path = tmp_path / "result.json"
    words = ("--quick", "--peers", "limit", "--output", str(path))
    done = bench("compare", "h2post64", "tcp64", *words, path=only_what_is_needed)
    assert (done.returncode, done.stderr) == (0, "")
    why = "h2load is not installed: apt-get install nghttp2-client"
    if importlib.util.find_spec("h2") is None:
        why = "h2 is not installed: pip install '.[bench]'"
    assert f"skipped: h2post64: {why}" in done.stdout.splitlines()
    assert list(figures.load(path)["loads"]) == ["tcp64"]


@needs_rich
@pytest.mark.parametrize(
    ("load", "number"),
    [
        ("tcp64", signal.SIGINT),
        ("tcp64", signal.SIGHUP),
        ("post64", signal.SIGTERM),
        pytest.param("tcp64", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("post64", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("post64", signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_interrupted(native_client: str, limit_server: str, load: str, number: signal.Signals, tmp_path: Path) -> None:
    """Neither the two servers nor the client are left."""
    if not LOADS[load].native and not shutil.which("wrk"):
        pytest.skip(missing("wrk"))
    words = ["compare", load, "--seconds", "100", "--peers", "limit", "--output", str(tmp_path / "result.json")]
    interrupt(number, *words, at_work=lambda started: ticks(started[2]) >= 5)


USAGE = {
    ("compare", "tcp65"): "LOAD: 'tcp65' is not a load: expected one of mix, mixpost, ",
    ("compare", "--peers", "nginx,apache"): "--peers: 'apache' is not a peer: expected some of limit,echoserver,nginx",
    ("compare", "--rounds", "0"): "--rounds: '0' is not a count: expected a whole number from 1",
    ("compare", "--starts", "1.5"): "--starts: '1.5' is not a count: expected a whole number from 1",
    ("fairness", "post"): "LOAD: 'post' is not a load: expected one of quiet, empty-lines, get, ",
    (
        "fairness",
        "--peers",
        "socat",
    ): "--peers: 'socat' is no other HTTP server: expected some of limit,nginx,fasthttp,",
    ("fairness", "--attackers", "0"): "--attackers: '0' is not a count: expected a whole number from 1",
    ("gate", "tcp65"): "LOAD: 'tcp65' is not a load: expected one of mix, mixpost, ",
    ("gate", "--seconds", "-1"): "--seconds: '-1' is not a count: expected a whole number from 1",
    ("gate", "--quickly"): "unrecognized arguments: --quickly",
    ("images", "tiny"): "TARGET: 'tiny' is not an image: expected one of slim, alpine, scratch, minimal",
    ("images", "--runs", "0"): "--runs: '0' is not a count: expected a whole number from 1",
    ("race",): "compare | costs | fairness | sections | images | report | gate: invalid choice: 'race'",
    (): "the following arguments are required: compare | costs | fairness | sections | images | report | gate",
}


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_bad_usage_is_one_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    out, (line,) = (text.splitlines() for text in capsys.readouterr())
    assert (end.value.code, out) == (2, [])
    assert line.startswith(f"bench: {USAGE[words]}")


def test_bad_usage_of_the_program() -> None:
    done = bench("compare", "tcp65")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


NO_REFERENCE = {
    None: "PATH is not there: `python -m bench compare` writes one",
    "tcp64: 1.06": "PATH can't be read: Expecting value: line 1 column 1 (char 0)",
    "{}": "PATH is not a result of this bench: expected format 1",
    '{"format": 1}': "PATH is not a result of this bench: expected format 1",
}


@pytest.mark.parametrize("text", NO_REFERENCE)
def test_no_reference(text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is looked at first: nobody waits for a measurement that can't be judged."""
    path = tmp_path / "reference.json"
    if text is not None:
        path.write_text(text, encoding="ascii")
    assert cli.main(["gate", "--reference", str(path)]) == 3
    assert capsys.readouterr() == ("", f"bench: {NO_REFERENCE[text].replace('PATH', str(path))}\n")
