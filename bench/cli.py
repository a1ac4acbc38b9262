"""``python -m bench``: compare, costs, fairness, images, report, gate."""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NoReturn

from bench import arms, attacks, compare, costs, engines, fairness, figures, gate, images, loads, sections
from bench.arms import Missing
from bench.engines import EngineFailed
from bench.figures import NoFigures, Result
from bench.running import ServerFailed

OK, FAILED, USAGE, NOT_STARTED = 0, 1, 2, 3
LATEST = Path(".benchmarks") / "compare.json"
LATEST_COSTS = Path(".benchmarks") / "costs.json"
LATEST_FAIRNESS = Path(".benchmarks") / "fairness.json"
LATEST_IMAGES = Path(".benchmarks") / "images.json"

_EPILOG = """
exit codes: 0 done; 1 a load got slower (gate), echoserver has no figure (compare, fairness); 2 bad usage; 3 something
is missing
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line: what was wrong and what was expected."""

    def error(self, message: str) -> NoReturn:
        print(f"bench: {message.removeprefix('argument ')}", file=sys.stderr)
        raise SystemExit(USAGE)


def _one_of(what: str, names: Collection[str]) -> Callable[[str], str]:
    """Takes an argument that is one of these names."""

    def parse(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name!r} is not {what}: expected one of {', '.join(names)}")
        return name

    return parse


_load = _one_of("a load", loads.LOADS)
_attack = _one_of("a load", attacks.ATTACKS)
_target = _one_of("an image", engines.TARGETS)


def _gate_load(name: str) -> str:
    if loads.LOADS[_load(name)].group in ("workers", "memory"):
        raise argparse.ArgumentTypeError(f"{name!r} is not compared with the limit server")
    return name


def _http_peers(text: str) -> list[str]:
    names = _peers(text)
    expected = [name for name, arm in arms.ARMS.items() if "http" in arm.speaks and name != compare.OURS]
    for name in names:
        if name not in expected:
            raise argparse.ArgumentTypeError(f"{name!r} is no other HTTP server: expected some of {','.join(expected)}")
    return names


def _peers(text: str) -> list[str]:
    names = [each for each in text.split(",") if each]
    for name in names:
        if name not in arms.ARMS:
            raise argparse.ArgumentTypeError(f"{name!r} is not a peer: expected some of {','.join(arms.ARMS)}")
    return names


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a count: expected a whole number from 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="bench", description=__doc__, epilog=_EPILOG, allow_abbrev=False)
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="compare | costs | fairness | sections | images | report | gate",
        parser_class=_Parser,
    )

    comparing = commands.add_parser("compare", help="measure servers side by side", allow_abbrev=False)
    comparing.add_argument(
        "loads", nargs="*", type=_load, metavar="LOAD", help=f"all, or some of: {', '.join(loads.LOADS)}"
    )
    comparing.add_argument(
        "--peers", type=_peers, default=list(arms.ARMS), metavar="NAME,...",
        help=f"servers besides the limit server and echoserver (default: all of {','.join(arms.ARMS)})",
    )  # fmt: skip
    comparing.add_argument(
        "--add", action="store_true", help="keep the other loads of the result that is there already"
    )
    comparing.add_argument(
        "--output", type=Path, default=LATEST, metavar="FILE", help=f"the result (default: {LATEST})"
    )
    _add_method(comparing)

    costing = commands.add_parser(
        "costs", help="measure the server with metrics scraped, access logs and the like beside itself without",
        allow_abbrev=False,
    )  # fmt: skip
    costing.add_argument("loads", nargs="*", type=_load, metavar="LOAD", help=f"default: {' '.join(costs.LOADS)}")
    costing.add_argument(
        "--output", type=Path, default=LATEST_COSTS, metavar="FILE", help=f"the result (default: {LATEST_COSTS})"
    )
    _add_method(costing)

    fair = commands.add_parser(
        "fairness", help="measure an honest client's round trips beside greedy connections", allow_abbrev=False,
        description=fairness.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    fair.add_argument(
        "loads", nargs="*", type=_attack, metavar="LOAD", help=f"all, or some of: {', '.join(attacks.ATTACKS)}"
    )
    fair.add_argument(
        "--attackers", type=_positive, default=1, metavar="N", help="greedy connections (default: %(default)s)"
    )
    fair.add_argument(
        "--peers", type=_http_peers, default=list(fairness.PEERS), metavar="NAME,...",
        help=f"servers besides echoserver, where they can (default: {','.join(fairness.PEERS)})",
    )  # fmt: skip
    fair.add_argument("--loop", choices=("auto", "uvloop", "asyncio"), default="auto", help="echoserver's")
    fair.add_argument("--rounds", type=_positive, default=1, metavar="N", help="of each (default: %(default)s)")
    fair.add_argument(
        "--seconds", type=_positive, default=3, metavar="N", help="seconds a round (default: %(default)s)"
    )
    fair.add_argument(
        "--quick", action="store_true", help="a few loads and one short round of each: shows that all works"
    )
    fair.add_argument(
        "--output", type=Path, default=LATEST_FAIRNESS, metavar="FILE",
        help=f"the result (default: {LATEST_FAIRNESS})",
    )  # fmt: skip
    fair.add_argument("--markdown", type=Path, metavar="FILE", help="the same as a table")

    reading = commands.add_parser(
        "sections", help="what a header section costs by its size, in memory", allow_abbrev=False,
        description="Times requests whose header section is read anew, and the same again, without system calls: a "
        "table, sections.json and a picture.",
    )  # fmt: skip
    reading.add_argument(
        "--into", type=Path, default=figures.RESULTS, metavar="FOLDER", help="where they go (default: %(default)s)"
    )
    reading.add_argument("--quick", action="store_true", help="few rounds, whose figures are worth nothing")

    imaging = commands.add_parser(
        "images",
        help="build and measure the container images",
        allow_abbrev=False,
        description="Builds the container images and measures size, start, memory, CPU time and rates of each, in turn "
        "with the same server in no container. All four take some 6 minutes besides building.",
    )
    imaging.add_argument(
        "targets", nargs="*", type=_target, metavar="TARGET", help=f"all, or some of: {', '.join(engines.TARGETS)}"
    )
    imaging.add_argument("--take", action="store_true", help="take the images that are there instead of building them")
    imaging.add_argument(
        "--prefix", default="echoserver", metavar="NAME", help="they are tagged NAME:TARGET (default: %(default)s)"
    )
    imaging.add_argument(
        "--output", type=Path, default=LATEST_IMAGES, metavar="FILE", help=f"the result (default: {LATEST_IMAGES})"
    )
    imaging.add_argument(
        "--runs", type=_positive, default=images.RUNS, metavar="N",
        help="times that each is started and stopped for the times that takes (default: %(default)s)",
    )  # fmt: skip
    _add_method(imaging)

    reporting = commands.add_parser("report", help="make tables and pictures of a result", allow_abbrev=False)
    reporting.add_argument(
        "result", nargs="?", type=Path, metavar="FILE",
        help="a result of compare or images (default: the committed references)",
    )  # fmt: skip
    reporting.add_argument(
        "--into", type=Path, default=figures.RESULTS, metavar="FOLDER", help="where they go (default: bench/results)"
    )
    reporting.add_argument(
        "--readme", type=Path, metavar="FILE", help="a README whose table of figures is made anew too"
    )

    gating = commands.add_parser("gate", help="has the server become slower than the reference?", allow_abbrev=False)
    gating.add_argument("loads", nargs="*", type=_gate_load, metavar="LOAD", help=f"default: {' '.join(gate.LOADS)}")
    gating.add_argument("--reference", type=Path, default=figures.REFERENCE, metavar="FILE", help="a result of compare")
    _add_method(gating)
    return parser


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--starts",
        type=_positive,
        default=3,
        metavar="N",
        help="times that all servers are started (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        default=2,
        metavar="N",
        help="rounds in each, after one that warms up (default: %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=_positive, default=1, metavar="N", help="seconds a round (default: %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few loads and one short round of each: shows that all works, judges nothing",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, or raises SystemExit(2) for bad usage."""
    asked = _parser().parse_args(arguments)
    command = {
        "compare": _compare, "costs": _costs, "fairness": _fairness, "sections": _sections, "images": _images,
        "report": _report, "gate": _gate,
    }  # fmt: skip
    try:
        return command[asked.command](asked)
    except (Missing, NoFigures, EngineFailed, ServerFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        print(f"bench: {error.name} is not installed: pip install '.[bench]'", file=sys.stderr)
    except OSError as error:
        print(f"bench: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return FAILED
    return NOT_STARTED


def _method(asked: argparse.Namespace) -> compare.Method:
    if asked.quick:
        return compare.QUICK
    return compare.Method(rounds=asked.rounds, starts=asked.starts, seconds=asked.seconds)


def _measure(
    chosen: Sequence[loads.Load],
    peers: Sequence[str],
    method: compare.Method,
    keep: Callable[[Result], None] | None = None,
) -> Result:
    from bench import progress  # noqa: PLC0415 - rich is wanted here only

    with progress.Progress(chosen) as watcher:
        return compare.compare(chosen, peers, method, watcher, keep)


def _say_skipped(result: Result) -> None:
    for name, why in result["skipped"].items():
        print(f"skipped: {name}: {why}")


def _say_done(result: Result, path: Path) -> None:
    _say_skipped(result)
    print(f"written: {path}")


def _compare(asked: argparse.Namespace) -> int:
    names = asked.loads or (loads.QUICK if asked.quick else list(loads.LOADS))
    peers = list(dict.fromkeys([compare.LIMIT, compare.OURS, *asked.peers]))
    before = figures.load(asked.output) if asked.add else None

    def keep(result: Result) -> None:
        whole = figures.joined(before, result) if before else result
        whole["loads"] = {name: whole["loads"][name] for name in loads.LOADS if name in whole["loads"]}
        figures.save(whole, asked.output)

    result = _measure([loads.LOADS[name] for name in names], peers, _method(asked), keep)
    _say_done(result, asked.output)
    without = [
        name for name in names
        if (ours := result["loads"].get(name, {"arms": {}})["arms"].get(compare.OURS)) and not ours["median"]
    ]  # fmt: skip
    if without:
        print(f"bench: echoserver has no figure for {', '.join(without)}", file=sys.stderr)
        return FAILED
    return OK


def _costs(asked: argparse.Namespace) -> int:
    from bench import progress  # noqa: PLC0415 - rich is wanted here only

    names = asked.loads or (costs.LOADS[:1] if asked.quick else costs.LOADS)
    chosen = [loads.LOADS[name] for name in names]
    with progress.Progress(chosen, compare.OURS) as watcher:
        result = costs.compare(chosen, _method(asked), watcher, lambda so_far: figures.save(so_far, asked.output))
    _say_done(result, asked.output)
    if any(not arm["median"] for of_load in result["loads"].values() for arm in of_load["arms"].values()):
        print("bench: not everything has a figure", file=sys.stderr)
        return FAILED
    return OK


def _fairness(asked: argparse.Namespace) -> int:
    names = asked.loads or (attacks.QUICK if asked.quick else list(attacks.ATTACKS))
    rounds, seconds = (1, 0.3) if asked.quick else (asked.rounds, asked.seconds)
    method = fairness.Method(asked.attackers, seconds, rounds, asked.loop, quick=asked.quick)
    result = fairness.measure(
        [attacks.ATTACKS[name] for name in names], asked.peers, method, functools.partial(print, flush=True),
        lambda so_far: figures.save(so_far, asked.output),
    )  # fmt: skip
    _say_done(result, asked.output)
    if asked.markdown:
        # of what was saved: a figure that was rounded twice can differ in its last digit
        asked.markdown.write_text(fairness.markdown(figures.load(asked.output)), encoding="utf-8")
        print(f"written: {asked.markdown}")
    if without := [name for name in names if not result["loads"][name]["arms"][compare.OURS]["median"]]:
        print(f"bench: echoserver has no figure for {', '.join(without)}", file=sys.stderr)
        return FAILED
    return OK


def _sections(asked: argparse.Namespace) -> int:
    figures_of_all = sections.both(2 if asked.quick else 200, functools.partial(print, flush=True))
    for path in sections.write(figures_of_all, asked.into):
        print(f"written: {path}")
    return OK


def _images(asked: argparse.Namespace) -> int:
    from bench import progress  # noqa: PLC0415 - rich is wanted here only

    runs = images.QUICK_RUNS if asked.quick else asked.runs
    with progress.Progress([loads.LOADS[name] for name in (*images.LOADS, "memory")]) as watcher:
        result = images.measure(
            asked.targets or engines.TARGETS, _method(asked), runs, watcher,
            prefix=asked.prefix, take=asked.take, keep=lambda so_far: figures.save(so_far, asked.output),
        )  # fmt: skip
    _say_done(result, asked.output)
    return OK


def _report(asked: argparse.Namespace) -> int:
    from bench import image_report, report  # noqa: PLC0415 - so is matplotlib

    references = [path for path in (figures.REFERENCE, images.REFERENCE) if path.exists()]
    for result in map(figures.load, [asked.result] if asked.result else references):
        of_images = "images" in result
        for path in (image_report if of_images else report).write(result, asked.into):
            print(f"written: {path}")
        if asked.readme:
            readme = asked.readme.read_text(encoding="utf-8")
            update = image_report.update_readme if of_images else report.update_readme
            asked.readme.write_text(update(readme, result), encoding="utf-8")
            print(f"written: {asked.readme}")
    return OK


def _gate(asked: argparse.Namespace) -> int:
    reference = figures.load(asked.reference)
    for difference in gate.differences(reference, figures.machine(), figures.versions()):
        print(f"the reference differs: {difference}")
    method = _method(asked)
    quick = [name for name in loads.QUICK if name in gate.LOADS]
    names = asked.loads or (quick if asked.quick else gate.LOADS)

    def measure(some: Sequence[str]) -> Result:
        wanted = [loads.LOADS[name] for name in some]
        chosen = [dataclasses.replace(each, arms=gate.taking_part(each)) for each in wanted]
        peers = dict.fromkeys([compare.LIMIT, compare.OURS, *(arm for each in chosen for arm in each.arms)])
        result = _measure(chosen, list(peers), method)
        _say_skipped(result)
        return result

    verdicts = gate.gate(reference, names, measure, print)
    if without := [each.load for each in verdicts if each.now is None or (each.missing and not asked.quick)]:
        print(f"not judged: {' '.join(without)}")
        return FAILED
    if asked.quick:
        print("quick: nothing is judged by one short round")
        return OK
    slower = [each.load for each in verdicts if each.slower]
    print(f"slower than the reference: {' '.join(slower)}" if slower else "passed")
    return FAILED if slower else OK
