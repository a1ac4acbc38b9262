"""Makes pages from the figures of the images: IMAGES.md, a picture, and the README's table of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import images, report
from bench.image_data import held, megabytes, size_of_group, start, targets_of, whole
from bench.images import OUTSIDE
from bench.report import Block, Facts, Heading, Notes, Picture, Table, Text
from bench.results_data import (
    NONE,
    Load,
    Result,
    arms_of,
    figure,
    loads_of,
    mebibytes,
    name,
    percent,
    ratio,
    times,
)

BEGIN, END = "<!-- images -->", "<!-- /images -->"
HEADLINE = "post64"
"""The load whose cost stands for all in the README."""


# --- figures for people ---------------------------------------------------------------------------------------------


def milliseconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{figure(seconds * 1e3)} ms"


def from_to(values: Sequence[float]) -> str:
    return f"{figure(min(values) * 1e3)} to {figure(max(values) * 1e3)} ms" if values else NONE


# --- the README's table ---------------------------------------------------------------------------------------------


def readme_table(result: Result) -> str:
    """The README's table of the images, in Markdown, with the lines that mark its place."""
    load = result["loads"].get(HEADLINE, {"arms": {}})
    cost = f"{load['title']}: CPU time / no container" if load["arms"] else "CPU time"
    head = ["image", "size", "compressed", "first answer after", "memory, idle", cost]
    rows = [
        [
            target, megabytes(result["images"][target]["size"]), megabytes(result["images"][target]["compressed"]),
            milliseconds(start(result, target, "answer")), mebibytes(held(result, target, 0)),
            times(ratio(load, target, OUTSIDE)),
        ]
        for target in targets_of(result)
    ]  # fmt: skip
    return f"{BEGIN}\n{report.markdown_table(Table('', head, rows))}\n{END}"


def update_readme(readme: str, result: Result) -> str:
    """The README with the table of these images between its marks. Raises NoFigures where it has none."""
    return report.replaced(readme, readme_table(result), (BEGIN, END))


# --- the page -------------------------------------------------------------------------------------------------------


def blocks(result: Result, pictures: Sequence[Picture] = ()) -> Iterator[Block]:
    """All that is to be said of the images, in order."""
    yield Heading(1, "The images, measured")
    yield from method(result)
    yield from report.thrown_away_rounds(result)
    if pictures:
        yield Heading(2, "Picture")
        yield from pictures
    yield Heading(2, "Size")
    yield from sizes(result)
    yield Heading(2, "What the bytes are")
    yield from breakdown(result)
    yield Heading(2, "From start to stop")
    yield from starts(result)
    yield Heading(2, "Memory")
    yield from memory(result)
    loads = list(loads_of(result, "tcp", "http").values())
    if loads:
        yield Heading(2, "Under load")
        yield from under_load(loads, result)


def method(result: Result) -> Iterator[Block]:
    how = result["method"]
    if how["quick"]:
        yield Text("A quick run: it shows that the bench works. What the images cost, a whole run says.", loud=True)
    yield Text(
        "Containers run with everything dropped that can be: a read-only file system, no capability, no new "
        "privileges; on the host's network, and on the server's CPU. Under load they take turns with the same server "
        "in no container (on this Python: the versions are below) and with the limit server, a C program on "
        f"epoll that does next to nothing: {how['rounds']} rounds of {how['seconds']:g} s in each of {how['starts']} "
        "starts. CPU time is the user and system time of the server's processes over the requests that the client "
        "counted as answered right. A figure is the median of the rounds; a ratio is the median of the ratios within "
        f"the same round; from run to run it still moves by some {percent(report.NOISE)}. Starts were measured "
        f"{how['runs']} times, in turn."
    )
    yield from (block for block in report.machine_and_method(result) if isinstance(block, Facts))
    if result["skipped"]:
        yield Heading(2, "Not measured")
        yield Notes([f"{what}: {why}" for what, why in result["skipped"].items()])


def sizes(result: Result) -> Iterator[Block]:
    yield Text(
        "Uncompressed as the engine says; compressed as registries send it: the sum of the layers, with gzip at level "
        f"{images.LEVEL}. MB are millions of bytes. An image's base may be there already, and is then not sent again."
    )
    rows, of_layers = [], []
    for target in targets_of(result):
        image = result["images"][target]
        own = [layer for layer in image["layers"] if not layer["base"]]
        rows.append([
            target, megabytes(image["size"]), megabytes(image["compressed"]), str(len(image["layers"])),
            megabytes(sum(layer["size"] for layer in own)), megabytes(sum(layer["compressed"] for layer in own)),
        ])  # fmt: skip
        of_layers += [
            [f"{target}, {number}", megabytes(layer["size"]), megabytes(layer["compressed"]), whose]
            for number, layer in enumerate(image["layers"], 1)
            if (whose := "base" if layer["base"] else "ours")
        ]
    head = ["image", "size", "compressed", "layers", "without its base", "compressed"]
    yield Table("", head, rows)
    yield Table("Layers", ["image, layer", "size", "compressed", "whose"], of_layers, aside=True)


def breakdown(result: Result) -> Iterator[Block]:
    targets = targets_of(result)
    rows = [
        [group, *(megabytes(size_of_group(result, target, group) or None) for target in targets)]
        for group in images.GROUPS
    ]
    sums = [whole(result, target) for target in targets]
    yield Table("", ["part", *targets], [*rows, ["sum of the layers", *map(megabytes, sums)]])
    yield Notes([
        "base: the distribution with what it brings; in static executables musl and zlib",
        "rest: the archives' own headers; in static executables headers, alignment and what could not be attributed",
    ])  # fmt: skip
    for target in targets:
        parts = result["images"][target]["parts"]
        yield Table(
            f"{target}, part by part", ["part", "bytes", "of it"],
            [
                [f"{group}: {part}", f"{size:,}", f"{100 * size / max(1, sums[targets.index(target)]):.1f} %"]
                for group, of_group in parts.items()
                for part, size in of_group.items()
            ],
            aside=True,
        )  # fmt: skip


def starts(result: Result) -> Iterator[Block]:
    yield Text(
        "From the start to the first answer, and from the order to stop to the end, without connections: of containers "
        "with the engine's own work, of processes without it. What the engine needs, the column --version shows: from "
        "the start to the end of a server that only says its version. Medians, and the least to the most."
    )
    rows = []
    for what, of_it in result["starts"].items():
        rows.append([
            start_name(what), milliseconds(start(result, what, "answer")), from_to(of_it["answer"]),
            milliseconds(start(result, what, "version")), milliseconds(start(result, what, "stop")),
            from_to(of_it["stop"]),
        ])  # fmt: skip
    yield Table("", ["", "first answer after", "from, to", "--version", "stopped after", "from, to"], rows)


def start_name(what: str) -> str:
    """A thing that was started, for people."""
    outside, _, target = what.partition(" ")
    return f"no container, {target}'s executable" if outside == OUTSIDE and target else name(what)


def memory(result: Result) -> Iterator[Block]:
    load = result["loads"].get("idle", {"arms": {}})
    yield Text(
        "Resident memory of all processes (statm), idle and with idle HTTP keep-alive connections; and the "
        "proportional share (Pss) after the first answer: what several processes share is divided among them."
    )
    counts = (0, images.CONNECTIONS)
    rows = []
    for arm in arms_of([load]):
        share = start(result, arm, "proportional_bytes")
        rows.append([name(arm), *(mebibytes(held(result, arm, count)) for count in counts), mebibytes(share)])
    yield Table("", ["server", *(f"{count:,} connections" for count in counts), "proportional share"], rows)


def under_load(loads: Sequence[Load], result: Result) -> Iterator[Block]:
    arms = arms_of(loads)
    yield report.cpu_times(loads, arms)
    yield Notes(report.missing(loads, arms, result["skipped"]))
    for other in (OUTSIDE, "slim", "limit"):
        if other in arms:
            title, some = f"CPU time over that of: {name(other)}", [arm for arm in arms if arm != other]
            yield report.matrix(title, loads, some, beside(other))
    yield from report.spreads_and_rates(loads, arms)


def beside(other: str) -> report.Cell:
    """A cell with the ratio to another arm."""
    return lambda load, arm: times(ratio(load, arm, other))


def write(result: Result, folder: Path) -> list[Path]:
    """Writes IMAGES.md and images.svg; returns their paths."""
    from bench import image_pictures  # noqa: PLC0415 - matplotlib, which only pictures need

    drawn = [Picture(*each) for each in image_pictures.draw(result)]
    files = {"IMAGES.md": report.markdown(blocks(result, drawn)), **{f"{each.name}.svg": each.svg for each in drawn}}
    return report.written(files, folder)
