"""How an honest client fares beside greedy ones: its round trips, while others send as fast as they are read.

One worker on the first CPU, all clients on the second. The honest client (bench/native/client.c) posts 5 bytes every
5 ms on a connection of its own and compares each echo. A round trip counts from when its request was sent; where one
takes longer than 5 ms, the next request follows at once. Where the system allows it (root) the honest client has real
time priority, and the server and the attackers go before all else on the machine; elsewhere the attackers give way:
what is measured is whom the server serves, not whom the kernel runs.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import arms, clients, compare, figures, running
from bench.attacks import QUIET, Attack
from bench.clients import ThrownAway
from bench.compare import OURS
from bench.figures import Arm, Result, Round
from bench.loads import request
from bench.running import Server, ServerFailed

PEERS = ("nginx", "nethttp")
"""Who is asked besides echoserver by default."""

INTERVAL = 5
"""Milliseconds between two requests of the honest client."""

_REQUEST = request(content=b"hello")
_GIVES_WAY = 10  # niceness
_RESTS = 0.001  # seconds of CPU time in 50 ms that are next to nothing
_PATIENCE = 2.0  # seconds that one may take to come to rest
_NAMES = {"median": "50", "p99": "99", "worst": "max"}
_MIB = 1 << 20

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """attackers: so many at a time. loop: that of echoserver. quick: the figures are not worth keeping, so nobody else
    on the machine has to wait for them."""

    attackers: int = 1
    seconds: float = 3.0
    rounds: int = 1
    loop: str = "auto"
    quick: bool = False


def measure(
    attacks: Sequence[Attack], peers: Sequence[str], method: Method, say: Say, keep: Callable[[Result], None]
) -> Result:
    """All loads on echoserver, and on those peers that can. Raises Missing where the honest client can't be built.

    say: hears what is thrown away, and a line a load; keep: is given what there is so far after each load.
    """
    arms.native("client")
    server_cpus, client_cpus = compare.cpus()
    result = figures.new({
        **dataclasses.asdict(method), "interval_ms": INTERVAL,
        "server_cpus": sorted(server_cpus), "client_cpus": sorted(client_cpus),
    })  # fmt: skip
    with running.folder() as name:
        found = [each.name for each in compare.installed([arms.ARMS[each] for each in peers], result, Path(name))]
    for attack in attacks:
        taking_part = [OURS, *(found if attack.common else [])]
        of_load: dict[str, Any] = {"title": attack.title, "arms": {name: {"rounds": []} for name in taking_part}}
        for turn in range(1, method.rounds + 1):
            for arm in taking_part:
                of_load["arms"][arm]["rounds"].append({**_take(attack, arm, method, say), "turn": turn})
        for each in of_load["arms"].values():
            summarise(each)
        result["loads"][attack.name] = of_load
        say(line(attack.name, of_load))
        keep(result)
    return result


def summarise(arm: Arm) -> None:
    """Add what the rounds that count come to: the worst of all, the median of what else there is; None: none counts."""
    rounds = figures.good(arm)
    arm["median"] = None
    if not rounds:
        return
    latency = {name: statistics.median(each["ms"][name] for each in rounds) for name in ("median", "p99")}
    arm["median"] = {
        "ms": {**latency, "worst": max(each["ms"]["worst"] for each in rounds)},
        "grown_bytes": max(each["grown_bytes"] for each in rounds),
        **{name: statistics.median(each[name] for each in rounds)
           for name in ("requests", "due", "sent_per_s", "received_per_s", "answered_per_s", "ended")},
    }  # fmt: skip


# --- a round ------------------------------------------------------------------------------------------------------


def _take(attack: Attack, arm: str, method: Method, say: Say) -> Round:
    """A round of a server that is started for it, so that its memory is that of this load."""
    server_cpus, client_cpus = compare.cpus()
    with running.folder() as name:
        folder = Path(name)
        ports = {each: running.free_port() for each in sorted({"http", attack.port})}
        if arm == OURS:
            if "--tls-cert" in attack.options:
                arms.make_certificate(folder)
            words = command(attack, ports, method.loop)
        else:
            words = arms.ARMS[arm].command(ports["http"], "http", folder)
        try:
            with (
                Server(
                    arm, words, ports["http"], server_cpus, folder, niceness=0 if method.quick else running.FIRST
                ) as server,
                _honest_client(attack, server, client_cpus, folder) as client,
            ):
                return _beside(attack, ports[attack.port], server, client, method)
        except (ThrownAway, ServerFailed) as why:
            say(f"thrown away: {attack.name}: {arm}: {why}")
            return {"thrown_away": str(why)}


def command(attack: Attack, ports: dict[str, str], loop: str) -> list[str]:
    """echoserver, with --http for the honest client and the listener that is attacked."""
    where = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    listeners = {**dict.fromkeys(("tcp", "udp"), "off"), **where}
    words = [word for name, address in listeners.items() for word in (f"--{name}", address)]
    return [sys.executable, "-m", "echoserver", *words, *attack.options, "--loop", loop]


@contextlib.contextmanager
def _honest_client(attack: Attack, server: Server, cpus: set[int], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """It is connected, and has made an exchange. Raises ThrownAway."""
    file = folder / "request"
    file.write_bytes(_REQUEST)
    words = [arms.native("client"), "-h", "-i", str(INTERVAL), "-p", attack.preamble, server.where, str(file)]
    with clients.started(words, cpus) as client:
        yield client


def _beside(attack: Attack, port: str, server: Server, client: subprocess.Popen[str], method: Method) -> Round:
    """The honest client's figures, and the attackers'. Raises ThrownAway."""
    count = 0 if attack.name == QUIET else method.attackers
    niceness = _GIVES_WAY if method.quick or not _goes_first(client.pid) else running.FIRST
    words = [sys.executable, "-m", "bench.attackers", attack.name, str(count), port, str(niceness)]
    with clients.started(words, compare.cpus()[1], cwd=running.ROOT) as attackers:
        _await_rest(server)
        server.forget_peak()
        before = server.resident_bytes()
        attackers.stdin.write("\n")
        attackers.stdin.flush()
        counts = json.loads(clients.ask(client, f"{method.seconds}\n"))
        grown = server.peak_bytes() - before
        attacked = json.loads(clients.ask(attackers, "\n"))
    if count:
        check(attack, attacked)
    return figure(counts, attacked, grown)


def _await_rest(server: Server) -> None:
    """A server listens before all of it is up: that is not what is measured."""
    before, until = -1.0, time.monotonic() + _PATIENCE
    while (used := server.cpu_seconds()) > before + _RESTS and time.monotonic() < until:
        before = used
        time.sleep(0.05)


def _goes_first(pid: int) -> bool:
    """Give a process, which mostly sleeps, real time priority; False: we may not."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


def check(attack: Attack, attacked: dict[str, Any]) -> None:
    """Raises ThrownAway where the attackers have not done what the load says."""
    if attack.parts and not attacked["sent"]:
        raise ThrownAway("the attackers could send nothing")
    beginning = attacked["beginning"].encode("latin-1")
    if attack.reads and not beginning.startswith(attack.expected):
        raise ThrownAway(f"the attackers are answered with {beginning!r}")


def figure(counts: dict[str, Any], attacked: dict[str, Any], grown: int) -> Round:
    """A round's figures, of what the honest client and the attackers have counted."""
    return {
        "ms": {name: counts["latency_us"][each] / 1e3 for name, each in _NAMES.items()},
        "requests": counts["requests"],
        "due": counts["due"],
        "grown_bytes": max(0, grown),
        **{f"{name}_per_s": attacked[name] / attacked["seconds"] for name in ("sent", "received", "answered")},
        "ended": attacked["ended"],
    }


# --- what is shown ------------------------------------------------------------------------------------------------

_HEADINGS = ("median / p99 / worst, ms", "requests", "attackers", "memory, MiB")


def line(name: str, of_load: dict[str, Any]) -> str:
    """A load, as it is shown when it is done."""
    parts = []
    for arm, its in of_load["arms"].items():
        latency, requests, attackers, memory = _cells(its)
        rest = f" ms, {requests} requests, {attackers or 'no attackers'}, +{memory} MiB"
        parts.append(f"{arm} {latency}{rest if its['median'] else ''}")
    return f"{name:15} {'; '.join(parts)}"


def markdown(result: Result) -> str:
    """The table of a result, with what it was made with above it."""
    names = list(dict.fromkeys(name for of_load in result["loads"].values() for name in of_load["arms"]))
    headings = ["load", "", *(f"{name}: {_HEADINGS[0]}" if not n else each for name in names
                              for n, each in enumerate(_HEADINGS))]  # fmt: skip
    rows = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    for load, of_load in result["loads"].items():
        row = [f"`{load}`", of_load["title"]]
        for name in names:
            row += _cells(of_load["arms"][name]) if name in of_load["arms"] else [""] * len(_HEADINGS)
        rows.append(row)
    method, versions = result["method"], result["versions"]
    about = [f"{method['attackers']} greedy connection{'s' * (method['attackers'] > 1)}"]
    about += [f"{method['rounds']} x {method['seconds']:g} s", f"--loop {method['loop']}", result["machine"]["cpu"]]
    about += [f"{name} {version}" for name, version in versions.items()]
    return "\n".join([", ".join(about) + ".", "", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _cells(arm: Arm) -> tuple[str, str, str, str]:
    """Round trips, how many of those that were due, what the attackers did, and memory; or why there is none of it."""
    median = arm["median"]
    if not median:
        return arm["rounds"][-1]["thrown_away"], "", "", ""
    latency = " / ".join(_short(median["ms"][name]) for name in _NAMES)
    requests = f"{median['requests']:,.0f} of {median['due']:,.0f}"
    return latency, requests, _attackers(median), f"{median['grown_bytes'] / _MIB:.1f}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:,.0f}"


def _attackers(median: Round) -> str:
    """What the server took of them; where they only read, what they got; and how often it ended a connection."""
    if median["answered_per_s"]:
        return f"{median['answered_per_s']:,.0f} answers/s"
    if not median["sent_per_s"] and not median["received_per_s"]:
        return ""
    taken = median["sent_per_s"] or median["received_per_s"]
    megabytes = f"{taken / 1e6:,.0f}" if taken >= 1e7 else f"{taken / 1e6:.2g}"
    return f"{megabytes} MB/s" + f", ended {median['ended']:,.0f} x" * bool(median["ended"])
