"""Draws the figures of a comparison: four SVG pictures that answer one question each, for light and dark pages.

What matplotlib writes is rewritten once: every colour becomes a class with a light and a dark value, texts are left to
the reader's system font, and what no viewer needs is dropped. The same figures give the same bytes.
"""

import io
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from bench.results_data import (
    GROUPS,
    Load,
    Result,
    arms_of,
    bytes_a_connection,
    connections_of,
    duration,
    fell_short,
    figure,
    loads_of,
    median,
    name,
    percentiles_of,
    ratio,
    ratios_of_rounds,
    size,
    times,
)

Point = tuple[float, float]
Lines = dict[str, list[Point]]

TIMES, BEYOND = "\N{MULTIPLICATION SIGN}", "\N{RIGHTWARDS ARROW}"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"


class Colour(NamedTuple):
    """A colour on white, and what stands for it on a dark page."""

    light: str
    dark: str


# echoserver is the one warm colour. The others say what a server is written in, C, Go, Python or JavaScript; which one
# it is its shape says, and its name beside it. The hues are those of Okabe and Ito, which colour-blind people can tell
# apart, darkened for white and lightened for black until texts can be read in them (a contrast of 4.5).
INK = Colour("#1f2328", "#e6edf3")
MUTED = Colour("#59636e", "#9da7b3")
GRID = Colour("#d8dee4", "#30363d")
OWN = Colour("#c2410c", "#ff8f4a")
LIMIT = Colour("#57606a", "#a3adb8")
IN_C = Colour("#067a5b", "#3fc79a")
IN_GO = Colour("#0a66ad", "#63b3f2")
IN_PYTHON = Colour("#8e4fa8", "#d49be8")
IN_JAVASCRIPT = Colour("#7d6608", "#d9bf4a")
EXTRA = Colour("#b3306a", "#f291bd")
COLOURS = (INK, MUTED, GRID, OWN, LIMIT, IN_C, IN_GO, IN_PYTHON, IN_JAVASCRIPT)


class Mark(NamedTuple):
    """How an arm is drawn: its colour, the shape of its points, the dashes of its line."""

    colour: Colour
    shape: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"


MARKS = {
    "echoserver": Mark(OWN, "o"),
    "limit": Mark(LIMIT, "", (0, (4, 3))),
    "nginx": Mark(IN_C, "s"),
    "socat": Mark(IN_C, "D"),
    "fasthttp": Mark(IN_GO, "^"),
    "nethttp": Mark(IN_GO, "v"),
    "go": Mark(IN_GO, "v"),
    "bjoern": Mark(IN_PYTHON, "D"),
    "granian": Mark(IN_PYTHON, "p"),
    "uvicorn": Mark(IN_PYTHON, "X"),
    "asyncio": Mark(IN_PYTHON, "P"),
    "node": Mark(IN_JAVASCRIPT, "h"),
    "picows": Mark(IN_PYTHON, "D"),
    "websockets": Mark(IN_PYTHON, "X"),
    "gorilla": Mark(IN_GO, "^"),
    "nodews": Mark(IN_JAVASCRIPT, "h"),
}
UNKNOWN = Mark(MUTED, "o")


def mark(arm: str) -> Mark:
    return MARKS.get(arm, UNKNOWN)


def weight(arm: str) -> str:
    return "bold" if arm == "echoserver" else "normal"


class Drawn(NamedTuple):
    """A picture as it is written to a file; its title is the question that it answers."""

    name: str
    title: str
    svg: str


def draw(result: Result) -> list[Drawn]:
    """The pictures for which there are figures."""
    return drawn(PICTURES, result)


def drawn(pictures: Mapping[str, Callable[[Result], "Sheet | None"]], result: Result) -> list[Drawn]:
    """Those of some pictures for which there are figures."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the reader's own matplotlibrc says
        sheets = [(which, picture(result)) for which, picture in pictures.items()]
        return [Drawn(which, sheet.title, sheet.svg(which)) for which, sheet in sheets if sheet is not None]


# --- the CPU time of a request, load by load ------------------------------------------------------------------------

IN_CONTENT_ONLY = re.compile(r"post(1k|4k|16k|256k|4m|16m)")
"""Loads that differ in the content's size alone: this picture shows three of them, the next one all."""
FARTHEST = 8.0
"""Times the limit server: where the scale ends. What is beyond is said below it."""
NEAR = 1.5
"""Points of a server in neighbouring rows are joined where they are this near; longer lines would only cross others."""
LANE, ROW, SCALE = 50, 25, 26
"""Pixels: the names above a group, a load, the scale below a group."""


def cpu(result: Result) -> "Sheet | None":
    """One row a load: how many times the limit server's CPU time each arm needs."""
    groups = [
        (title, sorted(rows, key=lambda load: load["content"] or 0))
        for group, title in GROUPS.items()
        if (rows := rows_of(loads_of(result, group)))
    ]
    loads = [load for _, rows in groups for load in rows]
    if not loads:
        return None
    ratios = [value for load in loads for value in ratios_to_limit(load).values()]
    low, high = min(0.92, min(ratios) / 1.05), min(FARTHEST, max(1.5, max(ratios) * 1.05))

    top, left = 78.0, max(280, *(44 + text_width(load["title"]) for load in loads))
    right = left + 470
    sheet = Sheet(
        right + 160, top + sum(LANE + ROW * len(rows) + SCALE for _, rows in groups),
        "How much CPU time does a request cost?",
        "Server CPU time a request, as a multiple of the limit server's (C on epoll, does next to nothing) in the same "
        "round. Points are medians, thin lines go from the least to the most of all rounds. Further left is cheaper.",
        note=" ".join(filter(None, [beyond(loads, high), left_out(result)])),
        description="Multiples of the limit server's CPU time that echoserver needs. "
        + "; ".join(f"{load['title']}: {times(ratio(load, 'echoserver', 'limit'))}" for load in loads),
    )  # fmt: skip
    for title, rows in groups:
        top += LANE
        axes = sheet.axes(left, top, right, top + ROW * len(rows))
        axes.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.5, -0.5))
        ticks(axes.xaxis, multiples(low, high), multiple)
        ticks(axes.yaxis, range(len(rows)), lambda _: "")
        for arm in arms_of(rows):
            profile(axes, rows, arm, low, high)
        names_above(sheet, axes, rows, high, top)
        sheet.text((20, top - 10), title, weight="bold", height=14)
        sheet.text((right + 70, top - 10), f"{TIMES} limit", OWN, align="right")
        sheet.text((right + 140, top - 10), "a request", MUTED, align="right")
        for number, load in enumerate(rows):
            y = top + ROW * (number + 0.5) + 4.5
            sheet.text((20, y), load["title"])
            value = times(ratio(load, "echoserver", "limit"))
            sheet.text((right + 70, y), f"{value}{TIMES}", OWN, weight="bold", align="right")
            sheet.text((right + 140, y), duration(median(load, "echoserver", "cpu_us")), MUTED, align="right")
            if max(ratios_to_limit(load).values()) > high:
                sheet.text((right + 4, y), BEYOND, MUTED, height=14)
        top += ROW * len(rows) + SCALE
    return sheet


def rows_of(loads: Mapping[str, Load]) -> list[Load]:
    """The loads that this picture can show."""
    return [
        load
        for key, load in loads.items()
        if "echoserver" in ratios_to_limit(load) and not IN_CONTENT_ONLY.fullmatch(key)
    ]


def ratios_to_limit(load: Load) -> dict[str, float]:
    return {arm: value for arm in arms_of([load]) if (value := ratio(load, arm, "limit"))}


def beyond(loads: Iterable[Load], high: float) -> str:
    """What is beyond the scale, in words."""
    said = []
    for load in loads:
        far = [f"{name(arm)} {times(value)}{TIMES}" for arm, value in ratios_to_limit(load).items() if value > high]
        if far:
            said.append(f"{load['title']}: {', '.join(far)}")
    return f"Beyond the scale ({BEYOND}): {'; '.join(said)}." if said else ""


def left_out(result: Result) -> str:
    """The loads that this picture can't show, since there is nothing to compare with, in words."""
    titles = [
        load["title"]
        for load in loads_of(result, *GROUPS).values()
        if median(load, "echoserver", "cpu_us") and not ratio(load, "echoserver", "limit")
    ]
    return f"No figure of the limit server: {'; '.join(titles)}." if titles else ""


def profile(axes: Axes, rows: Sequence[Load], arm: str, low: float, high: float) -> None:
    """An arm's points down the rows, with the range of its rounds."""
    colour, shape, _ = mark(arm)
    if arm == "limit":
        axes.axvline(1, color=colour.light, linewidth=1.5)
        return
    points = [
        (value, number)
        for number, load in enumerate(rows)
        if (value := ratios_to_limit(load).get(arm)) is not None and value <= high
    ]
    joined: list[Point] = []
    for (before, upper), (after, lower) in itertools.pairwise(points):
        if lower == upper + 1 and 1 / NEAR < after / before < NEAR:
            joined += [(before, upper), (after, lower), BREAK]
    ranges: list[Point] = []
    for _, number in points:
        if rounds := ratios_of_rounds(rows[number], arm, "limit"):
            ranges += [(max(low, min(rounds)), number), (min(high, max(rounds)), number), BREAK]
    # echoserver's points are the largest and lie lowest: what is at the same place can be seen on top of them
    own = arm == "echoserver"
    plot(axes, joined, colour, linewidth=1.2, alpha=0.6 if own else 0.35, zorder=1.9)
    plot(axes, ranges, colour, linewidth=2 if own else 1.2, zorder=2 if own else 3)
    plot(axes, points, colour, linewidth=0, marker=shape, markersize=11 if own else 7, zorder=2 if own else 3)


def names_above(sheet: "Sheet", axes: Axes, rows: Sequence[Load], high: float, top: float) -> None:
    """The names of the arms above the rows, each with a line to its uppermost point."""
    uppermost: dict[str, Point] = {}
    for number, load in reversed(list(enumerate(rows))):
        on_scale = {arm: value for arm, value in ratios_to_limit(load).items() if value <= high}
        uppermost |= {arm: sheet.at(axes, value, number) for arm, value in on_scale.items()}
    arms = sorted(uppermost, key=lambda arm: uppermost[arm])
    widths = [text_width(name(arm)) + 14 for arm in arms]
    places = apart([uppermost[arm][0] for arm in arms], widths, 80, sheet.width - 150)
    for arm, place in zip(arms, places, strict=True):
        x, y = uppermost[arm]
        sheet.text((place, top - 32), name(arm), mark(arm).colour, weight=weight(arm), align="center")
        sheet.line([(place, top - 27), (x, y - 9)], mark(arm).colour)


# --- the other three ------------------------------------------------------------------------------------------------


Panel = tuple[str, Lines, float, Callable[[float, float], list[float]], Callable[[float], str]]


def content(result: Result) -> "Sheet | None":
    """CPU time a request against the size of its content, and the same as multiples of the limit server's."""
    loads = [load for key, load in loads_of(result, "http").items() if re.fullmatch(r"post\d+[km]?", key)]
    loads.sort(key=lambda load: load["content"])
    # a straight line over sizes that were left out would say what nobody has measured
    drawn = {
        arm: sum(median(load, arm, "cpu_us") is not None for load in loads) * 2 > len(loads) for arm in arms_of(loads)
    }
    arms = [arm for arm in drawn if drawn[arm]]
    others = [name(arm) for arm in drawn if not drawn[arm]]
    costs = lines_of({arm: [(load["content"], median(load, arm, "cpu_us")) for load in loads] for arm in arms})
    ratios = lines_of({arm: [(load["content"], ratio(load, arm, "limit")) for load in loads] for arm in arms})
    if "echoserver" not in costs:
        return None
    panels: list[Panel] = [("CPU time a request", costs, 270.0, decades, whole_duration)]
    if "echoserver" in ratios:
        panels.append(("As a multiple of the limit server's", ratios, 230.0, multiples, multiple))

    top, gap = 92.0, 68
    sheet = Sheet(
        860, top + sum(height + gap for _, _, height, *_ in panels) - gap + 26,
        "What does a request cost as its content grows?",
        "Server CPU time of a POST whose content is echoed; medians. All scales are logarithmic.",
        note=f"Measured at few of these sizes, and not drawn: {', '.join(others)}." if others else "",
        description="CPU time of echoserver. " + "; ".join(f"{size(x)}: {duration(y)}" for x, y in costs["echoserver"]),
    )  # fmt: skip
    for title, lines, height, values, text in panels:
        axes = sheet.axes(86, top, 720, top + height)
        found = [value for points in lines.values() for _, value in points]
        low, high = min(found) / 1.1, max(found) * 1.1
        axes.set(xscale="log", yscale="log", xlim=(loads[0]["content"], loads[-1]["content"]), ylim=(low, high))
        ticks(axes.xaxis, sorted({load["content"] for load in loads}), size)
        ticks(axes.yaxis, values(low, high), text)
        sheet.text((20, top - 14), title, weight="bold")
        named_lines(sheet, axes, lines)
        top += height + gap
    return sheet


def memory(result: Result) -> "Sheet | None":
    """Resident memory against idle connections."""
    load: Load = next(iter(loads_of(result, "memory").values()), {"arms": {}})
    mib = 1 << 20
    lines = lines_of({arm: [(x, y / mib) for x, y in connections_of(load, arm)] for arm in arms_of([load])})
    if "echoserver" not in lines:
        return None
    adds = {arm: f"{figure((bytes_a_connection(load, arm) or 0) / 1024, 2)} KiB" for arm in lines}
    most = max(x for points in lines.values() for x, _ in points)
    high = max(y for points in lines.values() for _, y in points) * 1.02

    sheet = Sheet(
        860, 478, "How much memory do idle connections take?",
        "Resident memory of all of a server's processes against idle HTTP keep-alive connections; medians.",
        description=f"Memory of echoserver; a connection adds {adds['echoserver']}. "
        + "; ".join(f"{x:,} connections: {figure(y)} MiB" for x, y in lines["echoserver"]),
    )  # fmt: skip
    axes = sheet.axes(86, 92, 650, 430)
    axes.set(xlim=(0, most), ylim=(0, high))
    ticks(axes.xaxis, evenly(most), "{:,.0f}".format)
    ticks(axes.yaxis, evenly(high), lambda value: f"{value:,g} MiB" if value else "0")
    sheet.text((368, 466), "idle connections", MUTED, align="center")
    sheet.text((777, 78), "each adds", MUTED)
    named_lines(sheet, axes, lines, adds)
    return sheet


def latency(result: Result) -> "Sheet | None":
    """Percentiles of latency at a fixed rate."""
    load: Load = next(iter(loads_of(result, "rate").values()), {"arms": {}})
    which = percentiles_of(load)
    lines = lines_of(
        {arm: [(x, median(load, arm, "latency_us", each)) for x, each in enumerate(which)] for arm in arms_of([load])}
    )
    if "echoserver" not in lines:
        return None
    offered = load["offered_rate"]
    short = [f"{name(arm)} ({figure(rate)} a second)" for arm, rate in fell_short(load).items()]
    names = ["longest" if each == "max" else f"{each} %" for each in which]
    found = [value for points in lines.values() for _, value in points]
    low, high = min(found) / 1.15, max(found) * 1.1

    sheet = Sheet(
        860, 478, f"How long does an answer take at {offered:,.0f} requests a second?",
        "Latency from when a request was due to its answer, on a logarithmic scale; medians of the rounds, and the "
        "longest of all.",
        note=f"Could not keep up, so that their lines say how long a queue grew: {', '.join(short)}." if short else "",
        description="Latency of echoserver. "
        + "; ".join(f"{names[int(x)]}: {duration(y)}" for x, y in lines["echoserver"]),
    )  # fmt: skip
    axes = sheet.axes(86, 92, 650, 430)
    axes.set(yscale="log", xlim=(0, len(which) - 1), ylim=(low, high))
    ticks(axes.xaxis, range(len(which)), lambda number: names[int(number)])
    ticks(axes.yaxis, decades(low, high), whole_duration)
    sheet.text((368, 466), "so many of the requests were answered within", MUTED, align="center")
    named_lines(sheet, axes, lines)
    return sheet


PICTURES: dict[str, Callable[[Result], "Sheet | None"]] = {
    "cpu": cpu, "content": content, "memory": memory, "latency": latency,
}  # fmt: skip


# --- what they are drawn with ---------------------------------------------------------------------------------------

BREAK = (math.nan, math.nan)
"""Between the points of a line: what is after it is not joined to what is before."""


def lines_of(points: Mapping[str, Sequence[tuple[float, float | None]]]) -> Lines:
    """The lines that can be drawn: two figures or more, above nothing, since most scales are logarithmic."""
    found = {arm: [(x, y) for x, y in line if y] for arm, line in points.items()}
    return {arm: line for arm, line in found.items() if len(line) > 1}


def plot(axes: Axes, points: Sequence[Point], colour: Colour, **how: Any) -> None:
    """A line or points, without the outlines and caps that would make them look larger than they are."""
    across, up = [x for x, _ in points], [y for _, y in points]
    axes.plot(across, up, color=colour.light, solid_capstyle="butt", markeredgewidth=0, clip_on=False, **how)


def named_lines(sheet: "Sheet", axes: Axes, lines: Lines, figures: Mapping[str, str] | None = None) -> None:
    """A line an arm, named at its end; names that would overlap are moved apart."""
    for arm, points in lines.items():
        colour, shape, dashes = mark(arm)
        if arm == "echoserver":  # broad and below the others, so that both can be seen where they lie together
            plot(axes, points, colour, linewidth=4, marker=shape, markersize=9, zorder=2)
        else:
            plot(axes, points, colour, linewidth=1.3, linestyle=dashes, marker=shape, markersize=6, zorder=3)
    ends = sorted(((sheet.at(axes, *points[-1]), arm) for arm, points in lines.items()), key=lambda end: end[0][1])
    top, bottom = (sheet.at(axes, 1, y)[1] for y in reversed(axes.get_ylim()))
    places = apart([y for (_, y), _ in ends], [16.0] * len(ends), top - 8, max(bottom + 8, top + 16.0 * len(ends)))
    right = max(x for (x, _), _ in ends)
    for ((x, y), arm), place in zip(ends, places, strict=True):
        colour = mark(arm).colour
        ends_early = x < right - 1  # dots, lest it be taken for more of the line
        sheet.line([(x + 6, y), (right + 22, place)], colour, alpha=0.5, linestyle=":" if ends_early else "-")
        sheet.text((right + 27, place + 4), name(arm), colour, weight=weight(arm))
        if figures:
            sheet.text((right + 127, place + 4), figures[arm], colour, weight=weight(arm))


def ticks(axis: Axis, values: Iterable[float], text: Callable[[float], str]) -> None:
    """Faint lines and texts at these values and nowhere else."""
    values = list(values)
    axis.set_ticks(values, [text(value) for value in values])
    axis.set_ticks([], minor=True)
    axis.set_tick_params(length=0, labelsize=12, labelcolor=MUTED.light, pad=7)
    axis.grid(color=GRID.light, linewidth=1)


def multiples(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic scale of ratios."""
    coarse = [0.25, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128]
    return [each for each in (coarse if high > 2.5 else [0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2]) if low <= each <= high]


def decades(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic scale of times; in between where there would be few."""
    steps = (1,) if high / low > 500 else (1, 3)
    exact = (step * 10.0**power for power in range(-2, 9) for step in steps)
    return [each for each in exact if low <= each <= high]


def evenly(high: float) -> list[float]:
    """Ticks of a scale that starts at 0."""
    return [float(each) for each in MaxNLocator(5).tick_values(0, high) if 0 <= each <= high]


def multiple(value: float) -> str:
    return f"{value:g}{TIMES}"


def whole_duration(microseconds: float) -> str:
    return duration(microseconds, digits=1)


def text_width(text: str, height: float = 12) -> float:
    """About how wide a text is, in pixels, in the widest of the fonts that it may be shown in."""
    return 0.58 * height * len(text)


def apart(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Places for the centres of labels of these sizes, in this order, that do not overlap and are as near as can be to
    where they are wanted: those that would overlap are moved as one block, centred on what they want."""
    blocks: list[tuple[float, list[int]]] = []

    def start_of(block: list[int]) -> float:
        before = itertools.accumulate((sizes[each] for each in block), initial=0.0)
        starts = [wanted[each] - sizes[each] / 2 - offset for each, offset in zip(block, before, strict=False)]
        return max(low, min(sum(starts) / len(starts), high - sum(sizes[each] for each in block)))

    for index in range(len(wanted)):
        block, start = [index], start_of([index])
        while blocks and blocks[-1][0] + sum(sizes[each] for each in blocks[-1][1]) > start:
            block = blocks.pop()[1] + block
            start = start_of(block)
        blocks.append((start, block))
    places = []
    for start, block in blocks:
        ends = list(itertools.accumulate((sizes[each] for each in block), initial=start))
        places += [end - sizes[each] / 2 for each, end in zip(block, ends[1:], strict=True)]
    return places


class Sheet:
    """A figure laid out in pixels from its upper left corner: title, what is to be known of it, room, notes."""

    def __init__(
        self, width: float, height: float, title: str, subtitle: str, *, note: str = "", description: str
    ) -> None:
        """``height`` is without the notes; ``description`` is for those who can't see the picture."""
        self.title, self.description = title, description
        in_line = int((width - 40) / 6.4)
        notes = textwrap.wrap(note, in_line)
        self.width, self.height = math.ceil(width), math.ceil(height + 16 + 16 * len(notes))
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI)
        FigureCanvasSVG(self.figure)
        self.pixels = Affine2D().scale(1 / self.width, -1 / self.height).translate(0, 1) + self.figure.transFigure
        self.text((20, 30), title, height=18, weight="bold")
        for number, line in enumerate(textwrap.wrap(subtitle, in_line)):
            self.text((20, 51 + 16 * number), line, MUTED)
        for number, line in enumerate(notes):
            self.text((20, height + 16 + 16 * number), line, MUTED)

    def text(
        self,
        at: Point,
        text: str,
        colour: Colour = INK,
        *,
        height: float = 12,
        weight: str = "normal",
        align: str = "left",
    ) -> None:
        self.figure.text(
            *at, text, transform=self.pixels, color=colour.light, fontsize=height, fontweight=weight,
            horizontalalignment=align, verticalalignment="baseline", parse_math=False,
        )  # fmt: skip

    def line(self, points: Sequence[Point], colour: Colour, **how: Any) -> None:
        across, down = zip(*points, strict=True)
        line = Line2D(across, down, transform=self.pixels, color=colour.light, **{"linewidth": 1, **how})
        self.figure.add_artist(line)

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """Axes in this part of the sheet, of which nothing is seen but what is drawn on them."""
        axes = self.figure.add_axes(
            (left / self.width, 1 - bottom / self.height, (right - left) / self.width, (bottom - top) / self.height)
        )
        axes.spines[:].set_visible(False)
        axes.patch.set_visible(False)
        axes.set_axisbelow(True)
        return axes

    def at(self, axes: Axes, x: float, y: float) -> Point:
        """Where a point of the axes is on the sheet."""
        across, up = axes.transData.transform((x, y))
        return float(across), self.height - float(up)

    def svg(self, which: str) -> str:
        self.figure.patch.set_visible(False)
        written = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": which}):
            self.figure.savefig(written, format="svg", metadata={"Date": None})
        return rewritten(written.getvalue().decode(), which, self.title, self.description)


# --- from matplotlib's SVG to ours ----------------------------------------------------------------------------------

DPI = 72  # that of matplotlib's SVG: so a point of its is a pixel of ours
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)
ET.register_namespace("xlink", XLINK)


def rewritten(svg: str, which: str, title: str, description: str) -> str:
    """What is seen of an SVG, flat: texts, paths, and the shapes of points, with classes in place of their styles."""
    found = ET.fromstring(svg)
    _, _, width, height = found.attrib["viewBox"].split()
    root = ET.Element(f"{{{SVG}}}svg", {
        "id": which, "viewBox": f"0 0 {width} {height}", "width": width, "height": height,
        "role": "img", "aria-labelledby": f"{which}-title {which}-description",
    })  # fmt: skip
    ET.SubElement(root, f"{{{SVG}}}title", {"id": f"{which}-title"}).text = title
    ET.SubElement(root, f"{{{SVG}}}desc", {"id": f"{which}-description"}).text = description
    sheet_of_styles = ET.SubElement(root, f"{{{SVG}}}style")
    shapes = ET.SubElement(root, f"{{{SVG}}}defs")
    styles = Styles(which)
    inside = {id(each) for definitions in found.iter(f"{{{SVG}}}defs") for each in definitions}
    ids: dict[str, str] = {}
    for element in found.iter():
        tag = element.tag.rpartition("}")[2]
        if tag not in ("path", "text", "use"):
            continue
        copy = ET.SubElement(shapes if id(element) in inside else root, element.tag)
        copy.text = element.text if tag == "text" else None
        if id(element) in inside:
            copy.set("id", ids.setdefault(element.attrib["id"], f"{which}-{len(ids)}"))
        if tag == "use":
            copy.set(f"{{{XLINK}}}href", "#" + ids[element.attrib[f"{{{XLINK}}}href"].removeprefix("#")])
        for key in ("d", "x", "y"):
            if key in element.attrib:
                copy.set(key, rounded(element.attrib[key]))
        if names := styles.classes(element.attrib.get("style", "")):
            copy.set("class", names)
    sheet_of_styles.text = styles.text()
    return ET.tostring(root, encoding="unicode") + "\n"


class Styles:
    """The classes that stand in for style attributes; those of colours have a dark value too."""

    def __init__(self, which: str) -> None:
        self.scope = f"#{which}"  # several pictures may be in one page
        self.others: dict[str, str] = {}

    def classes(self, style: str) -> str:
        """The names of the classes for a style attribute."""
        names = []
        for part in filter(None, style.split("; ")):
            key, _, value = part.partition(": ")
            colour = next((number for number, each in enumerate(COLOURS) if each.light == value), None)
            if colour is not None:
                names.append(f"{key[0]}{colour}")
            elif key != "font-family":
                names.append(self.others.setdefault(f"{key}:{value}", f"k{len(self.others)}"))
        return " ".join(names)

    def text(self) -> str:
        """The style sheet."""
        kinds = [(number, colour, what) for number, colour in enumerate(COLOURS) for what in ("fill", "stroke")]
        light = self.rules({f".{what[0]}{number}": f"{what}:{colour.light}" for number, colour, what in kinds})
        dark = self.rules({f".{what[0]}{number}": f"{what}:{colour.dark}" for number, colour, what in kinds})
        others = self.rules({f".{short}": rule for rule, short in self.others.items()})
        texts = self.rules({"text": f"font-family:{FONT}"})
        return f"{texts}{others}{light}@media(prefers-color-scheme:dark){{{dark}}}"

    def rules(self, rules: Mapping[str, str]) -> str:
        return "".join(f"{self.scope} {selector}{{{rule}}}" for selector, rule in rules.items())


def rounded(numbers: str) -> str:
    """Coordinates to a tenth of a pixel, which is finer than can be seen."""
    fine = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), numbers)
    return " ".join(fine.split())
