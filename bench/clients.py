"""What puts a load on a server and counts: wrk, h2load, a native client, or the one of handshakes; and a look at each
echo before it counts."""

import contextlib
import dataclasses
import http.client
import io
import json
import math
import os
import re
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from bench import arms, handshakes, http2, pools, running
from bench.figures import Round
from bench.loads import ACCEPT, COUNTED, HANDSHAKE, Load, pattern
from bench.running import Running

_WRK_SCRIPT = Path(__file__).parent / "load" / "request.lua"
_TIMEOUT = 10  # seconds without an answer after which a round is thrown away
_AT_ONCE = 16 << 10  # bytes that the kernel takes, whether or not they are read
_LOOKS = 400  # requests of a pool whose answers are looked at
_NATIVE = {"http": "-h", "udp": "-u", "ws": "-w"}  # the native client's options


HTTP2 = ("h2c", "h2", "grpc")


class ThrownAway(Exception):
    """A round that does not count; the message says why."""


class Answers(Protocol):
    """What a look at a server's answers says of those that are counted later."""

    def bounds(self, answered: int, connections: int) -> tuple[float, float]:
        """Least and most bytes that so many answers have, each connection still waiting for those to what it sent."""

    def __str__(self) -> str:
        """Bytes of one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Same:
    """All are as long as the one that was looked at. size: bytes of the answers to what a connection sends at a time,
    which are so many."""

    size: int
    answers: int = 1

    def bounds(self, answered: int, connections: int) -> tuple[float, float]:
        size = answered * self.size / self.answers
        return 0.999 * size, 1.001 * (size + connections * self.size)

    def __str__(self) -> str:
        return f"{self.size / self.answers:.0f}"


@dataclasses.dataclass(frozen=True, slots=True)
class Mixed:
    """Those to a pool. wrk sends it from its beginning, again and again: so it is known what has been sent, but for
    which of it is under way. echoes: bytes of what has to come back, by request. around: what each answer that was
    looked at has around that (or, of a header section in other words, less).

    Where what is around is not always as long, its mean in the round may differ from that of the answers looked at:
    both are means of draws from the same requests, and four standard errors of their difference are allowed.
    """

    echoes: Sequence[int]
    around: Sequence[int]

    def bounds(self, answered: int, connections: int) -> tuple[float, float]:
        sent = answered + connections
        times, rest = divmod(sent, len(self.echoes))
        drawn = min(max(answered, 1), len(self.echoes))
        error = statistics.pstdev(self.around) * (1 / len(self.around) + 1 / drawn) ** 0.5
        most = times * sum(self.echoes) + sum(self.echoes[:rest]) + sent * (statistics.fmean(self.around) + 4 * error)
        least = most - sent * 8 * error - connections * (max(self.echoes) + max(self.around))
        return 0.999 * least, 1.001 * most

    def __str__(self) -> str:
        return f"{statistics.fmean(self.echoes) + statistics.fmean(self.around):.0f} on average"


Client = Callable[[float], Round]
"""Puts its load on its server for so many seconds, and returns the round's figures. Raises ThrownAway."""


def client(load: Load, server: Running, answers: Answers, cpus: set[int], folder: Path, *, niceness: int = 0) -> Client:
    """The client that a load asks for; answers: those to what it sends. niceness: a native one's. Raises Missing."""
    file = folder / file_name(load)
    if not file.exists():
        file.write_bytes(to_send(load))
    if load.native or load.handshakes:
        words = (handshakes_words if load.handshakes else native_words)(load, server.where, file)
        return lambda seconds: _run_native(words, server, seconds, cpus, niceness)
    if load.protocol in HTTP2:
        return H2load(load, server, cast(Same, answers), cpus, file)
    program = arms.needs("wrk", "wrk")
    target = [f"{load.protocol}://127.0.0.1:{server.where}", "--", str(file)]

    def run(seconds: float) -> Round:
        words = [program, *wrk_words(load), f"-d{math.ceil(seconds)}s", "-s", str(_WRK_SCRIPT), *target]
        return _run_wrk(words, load, server, answers, cpus)

    return run


def file_name(load: Load) -> str:
    """Of what is sent; clients of HTTP/1 know a pool by it."""
    if load.encoding:
        return f"{load.pool}.{load.encoding}"
    return f"{load.pool}.pool" if load.pool else f"{load.name}.request"


def to_send(load: Load) -> bytes:
    """The bytes of that file."""
    if load.encoding:
        return http2.packed(load.pool, load.connections, load.encoding)
    return pools.packed(pools.pool(load.pool)) if load.pool else load.sent


def look_for_client(load: Load) -> None:
    """Raises Missing where HTTP/2 is to be spoken, and what its clients need is not there."""
    if load.protocol not in HTTP2:
        return
    arms.needs_module("h2", "bench")  # which comes with hpack
    if load.native:
        arms.native("h2client")
    else:
        arms.needs("h2load", "nghttp2-client")


def wrk_words(load: Load) -> list[str]:
    """wrk's options for a load, but for the time that it takes."""
    return [f"-t{load.workers}", f"-c{load.connections}", f"--timeout={_TIMEOUT}s"]


def native_words(load: Load, where: str, file: Path | str, connections: int | None = None) -> list[str]:
    """The native client's command line. Raises Missing."""
    if load.protocol in HTTP2:
        return [arms.native("h2client"), "-c", str(load.connections), "-m", str(load.streams), where, str(file)]
    words = [arms.native("client"), "-c", str(connections or load.connections)]
    words += [option for protocol, option in _NATIVE.items() if protocol == load.protocol]
    words += ["-a", str(load.active)] * bool(load.active)
    words += ["-r", str(load.rate)] * bool(load.rate)
    return [*words, where, str(file)]


def h2load_words(load: Load) -> list[str]:
    """h2load's options for a load, but for how many requests it makes, and of what content."""
    words = ["-t1", f"-c{load.connections}", f"-m{load.streams}", f"--connection-inactivity-timeout={_TIMEOUT}"]
    return words + [
        word for name, value in http2.request_of(load)[1] for word in ("-H", f"{name.decode()}: {value.decode()}")
    ]


def handshakes_words(load: Load, where: str, file: Path | str) -> list[str]:
    """The command line of the client that makes a connection each."""
    words = [sys.executable, "-m", "bench.handshakes", "-c", str(load.connections)]
    return [*words, *["-r"] * (load.handshakes == "resumed"), where, str(file)]


def described(load: Load) -> str:
    """The client as a person would call it."""
    if load.handshakes:
        return f"bench/handshakes.py, {load.connections} connections at a time, TLS sessions {load.handshakes}"
    if load.protocol in HTTP2 and load.native:
        return f"bench/native/h2client.c, {load.connections} connections, {load.streams} streams, {file_name(load)}"
    if load.protocol in HTTP2:
        return " ".join(["h2load", *h2load_words(load)])
    if load.native:
        options = [f"{load.connections} connections"]
        options += [f"{load.active} of them active"] * bool(load.active)
        options += [f"{load.rate} requests a second at equal distances"] * bool(load.rate)
        options += [file_name(load)] * bool(load.pool)
        return f"bench/native/client.c, {', '.join(options)}"
    return " ".join(
        ["wrk", *wrk_words(load), "-s", "bench/load/request.lua", *["--", file_name(load)] * bool(load.pool)]
    )


_H2LOAD = {
    "seconds": r"^finished in ([\d.]+[a-z]+),",
    "succeeded": r"^requests: .* (\d+) succeeded,",
    "ok": r"^status codes: (\d+) 2xx,",
    "bytes": r"\((\d+)\) data$",
    "longest": r"^time for request: +[\d.]+[a-z]+ +([\d.]+[a-z]+) ",
}
"""What h2load (1.52) says of its requests, and where."""
_UNITS = {"us": 1.0, "ms": 1e3, "s": 1e6}


class H2load:
    """h2load as a client. It makes so many requests that they take the time that they should, by what the last ones
    took. Given a time instead, it leaves out what is under way at the end: with many streams no little, and the server
    has worked for it."""

    def __init__(self, load: Load, server: Running, size: Same, cpus: set[int], file: Path) -> None:
        """Raises Missing."""
        scheme, path = ("https" if load.protocol == "h2" else "http"), http2.request_of(load)[0]
        self._words = [arms.needs("h2load", "nghttp2-client"), *h2load_words(load)]
        self._words += ["-d", str(file)] * (load.content is not None)
        self._target = f"{scheme}://127.0.0.1:{server.where}{path}"
        self._load, self._server, self._size, self._cpus = load, server, size.size, cpus
        self._rate = 0.0

    def __call__(self, seconds: float) -> Round:
        least = requests = self._load.connections * self._load.streams
        while not self._rate:
            rate = self._make(requests)["rate"]
            if requests / rate >= seconds / 4:  # sooner, it is the connections that have taken the time
                self._rate = rate
            requests *= 4
        figures = self._make(max(least, round(self._rate * seconds)))
        self._rate = figures["rate"]
        return figures

    def _make(self, requests: int) -> Round:
        words = [*self._words, f"-n{requests}", self._target]
        said, spent, usage = _watched(words, self._server, self._cpus)
        found = {name: re.search(each, said, re.MULTILINE) for name, each in _H2LOAD.items()}
        says = {name: each[1] for name, each in found.items() if each}
        if len(says) < len(found):
            raise ThrownAway(f"h2load: {(said.strip().splitlines() or ['it said nothing'])[-1]}")
        if int(says["succeeded"]) != requests or int(says["ok"]) != requests:
            raise ThrownAway(f"h2load: {says['succeeded']} of {requests} requests succeeded, {says['ok']} with a 2xx")
        if int(says["bytes"]) != requests * self._size:
            raise ThrownAway(
                f"h2load: {says['bytes']} bytes in {requests} answers of {self._size}: echoes of another length"
            )
        took, longest = (_microseconds(says[each]) for each in ("seconds", "longest"))
        return _round(requests, took / 1e6, spent, usage.ru_utime + usage.ru_stime, {"max": longest})


def _microseconds(text: str) -> float:
    """Of h2load's ``1.23ms``."""
    number = text.rstrip("mus")
    return float(number) * _UNITS[text[len(number) :]]


# --- the clients --------------------------------------------------------------------------------------------------


def _watched(words: list[str], server: Running, cpus: set[int]) -> tuple[str, float, resource.struct_rusage]:
    """Run a client to its end: what it said, and the CPU time that the server and the client have used meanwhile."""
    before = server.cpu_seconds()
    with running.pinned(words, cpus, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.read()
            spent = server.cpu_seconds() - before
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            raise
    return said, spent, usage


def _run_wrk(words: list[str], load: Load, server: Running, answers: Answers, cpus: set[int]) -> Round:
    said, spent, usage = _watched(words, server, cpus)
    lines = said.strip().splitlines() or [""]
    try:
        counts = json.loads(lines[-1])
    except ValueError:
        raise ThrownAway(f"wrk: {lines[-1]}") from None
    bad = [
        f"{counts[name]} {name} errors" for name in ("connect", "read", "write", "status", "timeout") if counts[name]
    ]
    if bad:
        raise ThrownAway(f"wrk: {', '.join(bad)}")
    requests = counts["requests"]
    least, most = answers.bounds(requests, load.connections)
    if not least <= counts["bytes"] <= most:
        raise ThrownAway(f"wrk: {counts['bytes']} bytes for {requests} answers of {answers}: echoes of another length")
    client_cpu = usage.ru_utime + usage.ru_stime - counts["cpu_before"]
    return _round(requests, counts["microseconds"] / 1e6, spent, client_cpu, counts["latency_us"])


def _run_native(words: list[str], server: Running, seconds: float, cpus: set[int], niceness: int) -> Round:
    # a session of its own, that its niceness counts
    with started(words, cpus, cwd=running.ROOT, niceness=niceness, start_new_session=bool(niceness)) as process:
        if niceness:
            running.of_session(process.pid, niceness)
        before = server.cpu_seconds()
        counts = json.loads(ask(process, f"{seconds}\n"))
        spent = server.cpu_seconds() - before
    return _round(counts["requests"], counts["seconds"], spent, counts["client_cpu"], counts["latency_us"])


def _round(requests: int, seconds: float, spent: float, client_cpu: float, latency: dict[str, float]) -> Round:
    if not requests or spent <= 0:
        raise ThrownAway(f"{requests} requests, {spent:.3f} s of CPU: its processes changed, or it does not answer")
    return {
        "rate": requests / seconds, "cpu_us": spent * 1e6 / requests, "client_cpu_us": client_cpu * 1e6 / requests,
        "latency_us": {name: value for name, value in latency.items() if value > 0},  # wrk (4.1) says 0 for unknown
    }  # fmt: skip


@contextlib.contextmanager
def started(words: list[str], cpus: set[int], **options: Any) -> Any:
    """A client that talks as the native one does, connected and ready; ended when the context ends. options: those of
    running.pinned(). Raises ThrownAway."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running.pinned(words, cpus, text=True, **pipes, **options) as process:
        try:
            ask(process, "")
            yield process
        except BaseException:
            process.kill()
            raise


def ask(process: subprocess.Popen[str], line: str) -> str:
    """Write a line, and read one. Raises ThrownAway where the client has given up."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line)
        process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise ThrownAway(process.stderr.read().strip() or "the client ended without a word")
    return answer


def resident_bytes(load: Load, server: Running, connections: int, cpus: set[int], folder: Path) -> int:
    """A server's memory with so many connections, each idle after one request. Raises ThrownAway."""
    if not connections:
        return server.resident_bytes()
    file = folder / f"{load.name}.request"
    file.write_bytes(load.sent)
    with started(native_words(load, server.where, file, connections), cpus) as process:
        held = server.resident_bytes()
        ask(process, "0\n")  # one more exchange on each: a server that has closed some holds less
        return held


# --- what an arm answers ------------------------------------------------------------------------------------------


def check(load: Load, server: Running) -> Answers:
    """Make one exchange, of a pool many, and look at the answer. Raises ThrownAway where it is no echo."""
    if load.protocol in HTTP2:
        return _check_http2(load, server)
    return _check_pool(load, server) if load.pool else Same(_check_one(load, server), load.answers)


def _check_http2(load: Load, server: Running) -> Same:
    """Of a pool nothing is looked at: the native client compares all answers, one on each connection before it
    counts."""
    if load.pool:
        return Same(0)
    try:
        return Same(http2.look(load, server))
    except OSError as error:
        raise ThrownAway(f"no answer to a single request: {error}") from None
    except http2.NoEcho as why:
        raise ThrownAway(str(why)) from None


def _check_one(load: Load, server: Running) -> int:
    """The answer's bytes."""
    sent = load.sent.replace(COUNTED, b"00000000")
    try:
        with _connected(load, server) as connection:
            if load.protocol == "ws":
                _shake_hands(connection)
            answer = _exchange(connection, sent, _least(load), lambda data: _complete(data, load))
    except OSError as error:
        raise ThrownAway(f"no answer to a single request: {error}") from None
    if load.protocol in ("tcp", "udp"):
        if answer != sent:
            raise ThrownAway("what comes back is not what was sent")
        return len(answer)
    if load.protocol == "ws":
        if message(answer) != pattern(load.content or 0):
            raise ThrownAway("the message that comes back is not what was sent")
        return len(answer)
    for status, content in _answers(answer, load.answers) or []:
        if status != 200:
            raise ThrownAway(f"it answers {status}")
        if b"localhost" not in content if load.content is None else content != pattern(load.content):
            raise ThrownAway(f"its content is no echo: {content[:80]!r}")
    return len(answer)


def _connected(load: Load, server: Running) -> socket.socket:
    """A connection as a load has it, over TLS 1.3 where that is what it has. Raises OSError."""
    connection = server.connect()
    if load.protocol != "https":
        return connection
    try:
        return handshakes.context().wrap_socket(connection)
    except BaseException:
        connection.close()
        raise


def _check_pool(load: Load, server: Running) -> Mixed:
    """One connection sends requests from all over the pool. Content comes back byte for byte; of a header section,
    which some have in words of their own, the X-Request-Id."""
    requests = pools.pool(load.pool)
    around = []
    try:
        with server.connect() as connection:
            looks = min(_LOOKS, len(requests))
            for sent in [requests[each * len(requests) // looks] for each in range(looks)]:
                echo, identity = _echo_of(sent)
                answer = _exchange(connection, sent, 0, lambda data: _answers(data, 1) is not None)
                ((status, content),) = _answers(answer, 1) or []
                if status != 200:
                    raise ThrownAway(f"it answers {status} to {sent[:80]!r}")
                if identity not in content if identity else content != echo:
                    raise ThrownAway(f"its content is no echo of {sent[:80]!r}: {content[:80]!r}")
                around.append(len(answer) - len(echo))
    except OSError as error:
        raise ThrownAway(f"no answer to a single request: {error}") from None
    return Mixed([len(_echo_of(each)[0]) for each in requests], around)


def _echo_of(sent: bytes) -> tuple[bytes, bytes]:
    """What has to come back: the content, or the header section, and in it the X-Request-Id."""
    head, blank, content = sent.partition(b"\r\n\r\n")
    if content:
        return content, b""
    return head + blank, head.partition(b"\r\nX-Request-Id: ")[2].partition(b"\r\n")[0]


def _least(load: Load) -> int:
    if load.protocol == "udp":
        return 1  # one datagram, however short
    return len(load.sent) if load.protocol == "tcp" else (load.content or 0) * load.answers


def _exchange(connection: socket.socket, sent: bytes, least: int, complete: Callable[[bytes], bool]) -> bytes:
    """Send while reading; returns what has come when it is complete, or comes to an end. least: bytes before which it
    can't be."""
    sender = threading.Thread(target=_send, args=(connection, sent), daemon=True)
    if len(sent) <= _AT_ONCE or isinstance(connection, ssl.SSLSocket):  # two threads may not use one TLS session
        _send(connection, sent)
    else:
        sender.start()
    answer = bytearray()
    until = time.monotonic() + _TIMEOUT
    while len(answer) < least or not complete(bytes(answer)):
        part = connection.recv(1 << 20)
        answer += part
        if not part or time.monotonic() > until:
            raise ThrownAway(f"its answer ends after {len(answer)} bytes: {bytes(answer[:80])!r}")
    if sender.ident is not None:
        sender.join(_TIMEOUT)
    return bytes(answer)


def _complete(answer: bytes, load: Load) -> bool:
    if load.protocol == "ws":
        return message(answer) is not None
    return load.protocol in ("tcp", "udp") or _answers(answer, load.answers) is not None


def _shake_hands(connection: socket.socket) -> None:
    """Begin WebSocket, and read no byte of what may follow. Raises ThrownAway."""
    connection.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(1)
        head += part
        if not part:
            raise ThrownAway(f"its handshake ends after {len(head)} bytes: {head[:80]!r}")
    line, *fields = head.split(b"\r\n")
    if not line.startswith(b"HTTP/1.1 101 "):
        raise ThrownAway(f"it answers a handshake with {line.decode(errors='replace')!r}")
    if ACCEPT not in [value.strip() for name, _, value in (each.partition(b":") for each in fields)
                      if name.lower() == b"sec-websocket-accept"]:  # fmt: skip
        raise ThrownAway("its handshake has no Sec-WebSocket-Accept, or another one")


def message(data: bytes) -> bytes | None:
    """The binary message in a server's frames; None where it is not whole. Raises ThrownAway where it is none."""
    at, content, first = 0, bytearray(), 0x02
    while len(data) >= at + 2:
        head, size = data[at : at + 2]
        if head & 0x7F != first or size > 127:
            raise ThrownAway(f"it sends a frame of another type, or masked: {data[at : at + 2].hex()}")
        more = {126: 2, 127: 8}.get(size, 0)
        if more:
            size = int.from_bytes(data[at + 2 : at + 2 + more])
        at += 2 + more + size
        if len(data) < at:
            return None
        content += data[at - size : at]
        if head & 0x80:
            if len(data) > at:
                raise ThrownAway("more than the message comes back")
            return bytes(content)
        first = 0
    return None


def _send(connection: socket.socket, sent: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(sent)


class _Bytes(io.BytesIO):
    """What http.client takes for a socket and its file, and can't close: the next response comes from it too."""

    def makefile(self, mode: str) -> "_Bytes":
        return self

    def close(self) -> None:
        """It stays open."""


def _answers(data: bytes, count: int) -> list[tuple[int, bytes]] | None:
    """Status and content of so many responses; None where data does not hold all of them."""
    file = _Bytes(data)
    answers = []
    try:
        for _ in range(count):
            if data.find(b"\r\n\r\n", file.tell()) < 0:  # http.client takes half a head for a whole one
                return None
            response = http.client.HTTPResponse(cast(socket.socket, file))
            response.begin()
            content = response.read()
            answers.append((response.status, content))
    except http.client.HTTPException:
        return None
    return answers
