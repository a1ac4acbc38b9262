"""Draws the figures of the images: how small each is, and what it costs, for light and dark pages."""

import itertools
import textwrap
from collections.abc import Sequence

from bench.image_data import megabytes, size_of_group, targets_of, whole
from bench.images import OUTSIDE
from bench.pictures import (
    BEYOND,
    BREAK,
    EXTRA,
    GRID,
    IN_C,
    IN_GO,
    IN_JAVASCRIPT,
    IN_PYTHON,
    INK,
    LIMIT,
    MUTED,
    OWN,
    TIMES,
    Drawn,
    Mark,
    Sheet,
    apart,
    drawn,
    evenly,
    multiple,
    multiples,
    plot,
    text_width,
    ticks,
)
from bench.results_data import Load, Result, loads_of, name, ratio, ratios_of_rounds, times

GROUPS = {
    "ours": OWN, "httptools": IN_JAVASCRIPT, "uvloop": IN_PYTHON, "extras": EXTRA, "TLS": IN_C,
    "standard library": LIMIT, "interpreter": IN_GO, "rest": INK, "base": GRID,
}  # fmt: skip
"""From left to right, what is ours first: so that it can be seen beside a base that is beyond the scale."""
MARKS = {
    "slim": Mark(IN_PYTHON, "s"), "alpine": Mark(IN_GO, "^"), "scratch": Mark(OWN, "o"),
    "minimal": Mark(IN_JAVASCRIPT, "D"), "limit": Mark(LIMIT, "v"),
}  # fmt: skip
IN_GO_ELSEWHERE = {"Go, 52 lines, on alpine": 17.4e6, "Go, 52 lines, on scratch": 8.95e6}
"""An echo server in Go, in bytes as they were given when these images were asked for: not measured here."""

TOP, LEFT, RIGHT, ROW = 128.0, 190.0, 640.0, 34.0


def draw(result: Result) -> list[Drawn]:
    """The picture, where there are images."""
    return drawn({"images": picture}, result)


def picture(result: Result) -> Sheet | None:
    if not result["images"]:
        return None
    targets = targets_of(result)
    loads = [
        load for load in loads_of(result, "tcp", "http").values()
        if any(ratio(load, target, OUTSIDE) for target in targets)
    ]  # fmt: skip
    bars = [*targets, *IN_GO_ELSEWHERE]
    middle = TOP + ROW * len(bars) + 96
    bottom = middle + 2 * ROW * len(loads) if loads else TOP + ROW * len(bars)
    sizes = {target: megabytes(whole(result, target)) for target in targets}
    sheet = Sheet(
        860, bottom + 32, "How small is each image, and what does it cost?",
        "Size, uncompressed, part by part; what it is when it is sent beside it.",
        note="Hollow: an echo server of 52 lines in Go, sizes as given when these images were asked for, not measured "
        f"here. {BEYOND}: beyond the scale. An ubuntu image alone is 88.2 MB, as given.",
        description="Sizes of the echoserver images. " + "; ".join(f"{each}: {text}" for each, text in sizes.items()),
    )  # fmt: skip
    draw_sizes(sheet, result, targets, bars)
    if loads:
        draw_costs(sheet, loads, targets, middle)
    return sheet


def draw_sizes(sheet: Sheet, result: Result, targets: Sequence[str], bars: Sequence[str]) -> None:
    """A bar an image, in its parts."""
    most = max([*IN_GO_ELSEWHERE.values(), *(size for each in targets if (size := whole(result, each)) < 40e6)])
    high = most * 1.1 / 1e6
    axes = sheet.axes(LEFT, TOP, RIGHT, TOP + ROW * len(bars))
    axes.set(xlim=(0, high), ylim=(len(bars) - 0.5, -0.5))
    ticks(axes.xaxis, evenly(high), lambda value: f"{value:g} MB" if value else "0")
    axes.set_yticks([])
    for number, bar in enumerate(bars):
        y = TOP + ROW * (number + 0.5) + 4
        if bar in IN_GO_ELSEWHERE:
            given = IN_GO_ELSEWHERE[bar]
            axes.barh(number, given / 1e6, 0.5, facecolor="none", edgecolor=MUTED.light)
            sheet.text((20, y), bar, MUTED)
            sheet.text((RIGHT + 10, y), megabytes(given), MUTED)
            continue
        at = 0.0
        for group, colour in GROUPS.items():
            width = min(size_of_group(result, bar, group) / 1e6, high - at)
            if width > 0:
                axes.barh(number, width, 0.62, at, facecolor=colour.light, edgecolor="none")
            at += max(0.0, width)
        image = result["images"][bar]
        beyond = f" {BEYOND}" if whole(result, bar) / 1e6 > high else ""
        sheet.text((20, y), bar, weight="bold")
        sheet.text((RIGHT + 10, y), megabytes(whole(result, bar)) + beyond, weight="bold")
        sheet.text((sheet.width - 20, y), f"{megabytes(image['compressed'])} sent", MUTED, align="right")
    used = [group for group in GROUPS if any(size_of_group(result, target, group) for target in targets)]
    widths = [text_width(group) + 34 for group in used]
    places = [20 + width for width in itertools.accumulate([float(each) for each in widths[:-1]], initial=0.0)]
    for group, place in zip(used, places, strict=True):
        sheet.line([(place, 92), (place + 16, 92)], GROUPS[group], solid_capstyle="butt", linewidth=8)
        sheet.text((place + 21, 96), group, MUTED if group in ("base", "rest") else GROUPS[group])


def draw_costs(sheet: Sheet, loads: Sequence[Load], targets: Sequence[str], top: float) -> None:
    """A row a load: CPU time of each image, as a multiple of the same server's in no container."""
    arms = [*targets, *(["limit"] if any(ratio(load, "limit", OUTSIDE) for load in loads) else [])]
    height = 2 * ROW
    axes = sheet.axes(LEFT, top, RIGHT, top + height * len(loads))
    points = {
        arm: [(value, number) for number, load in enumerate(loads) if (value := ratio(load, arm, OUTSIDE))]
        for arm in arms
    }
    rounds = {(arm, number): ratios_of_rounds(load, arm, OUTSIDE) for arm in arms for number, load in enumerate(loads)}
    found = [1.0, *(value for values in rounds.values() for value in values)]
    low, high = min(found) / 1.04, max(found) * 1.04
    axes.set(xlim=(low, high), ylim=(len(loads) - 0.5, -0.5))
    ticks(axes.xaxis, multiples(low, high), multiple)
    axes.set_yticks([])
    axes.axvline(1, color=MUTED.light, linewidth=1.5)
    sheet.text((20, top - 54), "CPU time a request, over that of the same server in no container", weight="bold")
    for index, arm in enumerate(arms):
        colour, shape, _ = MARKS[arm]
        lane = (index - (len(arms) - 1) / 2) * 0.8 / len(arms)
        ranges = [
            point
            for _, number in points[arm]
            if (values := rounds[arm, number])
            for point in ((min(values), number + lane), (max(values), number + lane), BREAK)
        ]
        plot(axes, ranges, colour, linewidth=1.5)
        plot(axes, [(x, y + lane) for x, y in points[arm]], colour, linewidth=0, marker=shape, markersize=8)
    uppermost = {
        arm: (points[arm][0][0], (index - (len(arms) - 1) / 2) * 0.8 / len(arms))
        for index, arm in enumerate(arms) if points[arm]
    }  # fmt: skip
    shown = sorted(uppermost, key=lambda arm: uppermost[arm])
    wanted = [sheet.at(axes, *uppermost[arm])[0] for arm in shown]
    places = apart(wanted, [text_width(name(arm)) + 18 for arm in shown], LEFT - 40, RIGHT + 40)
    for arm, place in zip(shown, places, strict=True):
        x, y = sheet.at(axes, *uppermost[arm])
        sheet.text((place, top - 26), name(arm), MARKS[arm].colour, align="center")
        sheet.line([(place, top - 21), (x, y - 6)], MARKS[arm].colour, alpha=0.6)
    for number, load in enumerate(loads):
        centre = top + height * (number + 0.5) + 4
        lines = textwrap.wrap(load["title"], 24)
        for index, line in enumerate(lines):
            sheet.text((20, centre + 16 * (index - (len(lines) - 1) / 2)), line)
        for index, arm in enumerate(targets):
            down = centre + 15 * (index - (len(targets) - 1) / 2)
            said = f"{times(ratio(load, arm, OUTSIDE))}{TIMES}"
            sheet.text((RIGHT + 80, down), name(arm), MARKS[arm].colour)
            sheet.text((sheet.width - 20, down), said, MARKS[arm].colour, align="right", weight="bold")
