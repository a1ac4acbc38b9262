"""Servers side by side: rounds in turn, every figure kept, and what failed thrown away loudly."""

import contextlib
import dataclasses
import functools
import os
import resource
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench import arms, clients, figures, running
from bench.arms import Arm, Missing
from bench.clients import ThrownAway
from bench.figures import Result, Round
from bench.loads import Load
from bench.running import Running, Server, ServerFailed

LIMIT, OURS, NGINX = "limit", "echoserver", "nginx"


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """rounds of seconds in each of starts: servers are started anew, for their memory never lies the same way twice.

    warm_up: a first round after each start that does not count. quick: the figures are not worth keeping.
    """

    rounds: int = 2
    starts: int = 3
    seconds: float = 1.0
    warm_up: bool = True
    quick: bool = False


QUICK = Method(rounds=1, starts=1, seconds=0.2, warm_up=False, quick=True)


class Watcher:
    """Hears what happens; this one says nothing."""

    def begins(self, load: Load, names: list[str], rounds: int) -> None:
        """A load, with the arms that take part and the rounds that there will be, warm-up included."""

    def round(self, load: Load, arm: str, figures: Round | None) -> None:
        """A round has ended; None: it warmed up."""

    def thrown_away(self, load: Load, arm: str, why: str) -> None:
        """A round does not count."""

    def step(self, what: str, number: int, total: int) -> None:
        """What is done now, besides loads: the so manyth of total."""

    def ends(self, load: Load, result: Result) -> None:
        """A load's figures are complete."""


def cpus() -> tuple[set[int], set[int]]:
    """The server's CPU and the client's; the same one where there is but one."""
    mine = sorted(os.sched_getaffinity(0))
    return {mine[0]}, {mine[min(1, len(mine) - 1)]}


def several_cpus() -> tuple[set[int], set[int], str]:
    """For a server of two workers and its client: two each, or both share all, which is then said."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) >= 4:
        return set(mine[:2]), set(mine[2:4]), ""
    return set(mine), set(mine), f"server and client share {len(mine)} CPUs"


def compare(
    loads: Sequence[Load],
    names: Iterable[str],
    method: Method,
    watcher: Watcher,
    keep: Callable[[Result], None] | None = None,
) -> Result:
    """All loads on all arms named that can serve them. Raises Missing where the limit server or a client is.

    keep: is given what there is so far after each load, for the whole may take an hour.
    """
    result = begin(loads, method)
    with running.folder() as name:
        found = installed([arms.ARMS[each] for each in names], result, Path(name))
    measure(loads, found, method, watcher, result, keep=keep)
    return result


def begin(loads: Sequence[Load], method: Method) -> Result:
    """A result without figures, when all that the clients of these loads need is there. Raises Missing."""
    _raise_descriptor_limit()
    server_cpus, client_cpus = cpus()
    arms.native("client")
    if not all(load.native or load.handshakes or load.protocol in clients.HTTP2 for load in loads):
        arms.needs("wrk", "wrk")
    return figures.new({
        **dataclasses.asdict(method),
        "server_cpus": sorted(server_cpus), "client_cpus": sorted(client_cpus),
    })  # fmt: skip


def measure(
    loads: Sequence[Load],
    found: list[Arm],
    method: Method,
    watcher: Watcher,
    result: Result,
    *,
    keep: Callable[[Result], None] | None = None,
) -> None:
    """Put the figures of these loads into the result."""
    for each in loads:
        try:
            load = _prepared(each, method)
        except (Missing, ServerFailed, ThrownAway) as why:
            result["skipped"][each.name] = str(why)
            continue
        _compare_one(load, _arms_of(load, found), method, watcher, result)
        watcher.ends(load, result)
        if keep is not None:
            keep(result)


def _prepared(load: Load, method: Method) -> Load:
    """A load that has all that it needs: its client, a certificate, or its rate. Raises Missing, and for the rate
    ServerFailed or ThrownAway."""
    clients.look_for_client(load)
    if load.protocol in arms.OVER_TLS:
        arms.certificate()
    if not load.half_of:
        return load
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(running.folder()))
        arm = arms.ARMS[load.half_of]
        niceness = _niceness(load, [arm], method)
        client = _start(load, arm, cpus(), folder, seconds=method.seconds, niceness=niceness, stack=stack)
        if method.warm_up:
            client()
        answered = statistics.median(client()["rate"] for _ in range(method.rounds * method.starts))
    return dataclasses.replace(load, rate=round(answered / 2))


def installed(wanted: list[Arm], result: Result, folder: Path) -> list[Arm]:
    """Those arms that are there; the others are named in the result. Raises Missing where it is the limit server."""
    found = []
    for arm in wanted:
        try:
            arm.command("1", arm.speaks[-1], folder)
        except Missing as missing:
            if arm.name == LIMIT:
                raise
            result["skipped"][arm.name] = str(missing)
        else:
            found.append(arm)
            result["versions"][arm.name] = arm.version()
    return found


def _arms_of(load: Load, found: list[Arm]) -> list[Arm]:
    """Those that a load is for, and those that say why they can't serve it."""
    if load.workers > 1:
        commands = {OURS: arms.echoserver, NGINX: arms.nginx}
        many = [
            dataclasses.replace(
                arm, name=f"{arm.name}-{load.workers}",
                command=functools.partial(commands[arm.name], workers=load.workers),
            )
            for arm in found if arm.name in commands
        ]  # fmt: skip
        return [*(arm for arm in found if arm.name == OURS), *many]
    return [
        arm for arm in found
        if (load.protocol in arm.speaks or load.name in arm.cannot)
        and (arm.unix or not load.unix)
        and (not load.arms or arm.name in load.arms)
    ]  # fmt: skip


def _compare_one(load: Load, taking_part: list[Arm], method: Method, watcher: Watcher, result: Result) -> None:
    shared = several_cpus() if load.workers > 1 else (*cpus(), "")
    of_load: dict[str, Any] = {
        "title": load.title, "group": load.group, "content": load.content, "client": clients.described(load),
        "notes": shared[2] or _why_this_rate(load), "arms": {arm.name: {"rounds": []} for arm in taking_part},
    }  # fmt: skip
    for arm in taking_part:
        if load.name in arm.cannot:
            of_load["arms"][arm.name]["cannot"] = arm.cannot[load.name]
    taking_part = [arm for arm in taking_part if load.name not in arm.cannot]
    result["loads"][load.name] = of_load
    if load.rate:
        of_load["offered_rate"] = load.rate
    niceness = _niceness(load, taking_part, method)
    turns = range(1, 2) if load.steps else range(0 if method.warm_up else 1, method.rounds + 1)
    watcher.begins(load, [arm.name for arm in taking_part], method.starts * len(turns) * len(taking_part))

    def throw_away(arm: str, why: Exception, start: int, turn: int) -> None:
        of_load["arms"][arm]["rounds"].append({"thrown_away": str(why), "start": start, "turn": turn})
        watcher.thrown_away(load, arm, str(why))

    def take(arm: str, client: Callable[[], Round], start: int, turn: int) -> None:
        try:
            figure = client()
        except ThrownAway as why:
            throw_away(arm, why, start, turn)
            return
        if turn:
            of_load["arms"][arm]["rounds"].append({**figure, "start": start, "turn": turn})
        watcher.round(load, arm, figure if turn else None)

    for start in range(method.starts):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(running.folder()))
            ready: dict[str, Callable[[], Round]] = {}
            for arm in taking_part:
                try:
                    ready[arm.name] = _start(
                        load, arm, shared[:2], folder, seconds=method.seconds, niceness=niceness, stack=stack
                    )
                except (ThrownAway, ServerFailed, Missing) as why:  # some have a program for each protocol
                    throw_away(arm.name, why, start, turns[0])
            for turn in turns:
                for name, client in ready.items():
                    take(name, client, start, turn)
    # a client that keeps a rate is always busy: that says nothing of its ceiling
    figures.summarise(of_load["arms"], client_cpus=0 if load.rate else len(shared[1]))


def _why_this_rate(load: Load) -> str:
    return f"{load.rate} requests a second: half of what {load.half_of} answered before" if load.half_of else ""


def _niceness(load: Load, taking_part: Sequence[Arm], method: Method) -> int:
    """Of servers and client, where latency is of interest: what else runs would be in it. It is the same for all, so it
    is that of those that start by themselves."""
    first = (load.rate or load.half_of) and not method.quick and all(arm.start is None for arm in taking_part)
    return running.FIRST if first else 0


def _start(
    load: Load,
    arm: Arm,
    cpus: tuple[set[int], set[int]],
    folder: Path,
    *,
    seconds: float,
    niceness: int,
    stack: contextlib.ExitStack,
) -> Callable[[], Round]:
    """Start an arm, until the stack ends, and look at its answer; returns what takes a round. Raises ThrownAway."""
    home = folder / arm.name
    home.mkdir()
    server: Running
    if arm.start is not None:
        server = stack.enter_context(arm.start(load.protocol, cpus[0]))
    else:
        udp = load.protocol == "udp"
        where = str(home / "socket") if load.unix else running.free_port(udp=udp)
        words = arm.command(where, load.protocol, home)
        server = stack.enter_context(Server(arm.name, words, where, cpus[0], home, udp=udp, niceness=niceness))
    if load.steps:
        return lambda: {"memory_bytes": _by_connections(load, server, cpus[1], home)}
    answers = clients.check(load, server)
    client = clients.client(load, server, answers, cpus[1], folder, niceness=niceness)  # what is sent is the same
    return lambda: client(seconds)


def _by_connections(load: Load, server: Running, cpus: set[int], folder: Path) -> dict[str, int]:
    return {str(step): clients.resident_bytes(load, server, step, cpus, folder) for step in load.steps}


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
