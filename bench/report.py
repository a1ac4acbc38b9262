"""Makes pages from the figures of a comparison: RESULTS.md, pictures, one HTML page, and the README's table.

Every page is a rendering of the same list of blocks, so that none can say what another does not.
"""

import dataclasses
import html
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bench import figures
from bench.results_data import (
    GROUPS,
    NONE,
    Load,
    Result,
    arms_of,
    bytes_a_connection,
    connections_of,
    duration,
    fell_short,
    figure,
    loads_of,
    mebibytes,
    median,
    name,
    percent,
    percentiles_of,
    ratio,
    size,
    thrown_away,
    times,
)

NOISE = 0.05
"""Ratios move by so much from run to run on shared machines: a smaller difference is called none."""

BOUND = 0.9
"""From this part of the client's ceiling on, a rate says more of the client than of the server."""


# --- the README's table ---------------------------------------------------------------------------------------------

IN_README = (
    "mix", "mixpost", "lengths", "big1500", "cold",
    "tcp64", "tcp4k", "tcp64k", "get", "getpath", "post64", "path", "fields", "browser", "pipe16", "chunked",
    "post64k", "post1m", "close", "one", "udp64", "udp1400", "tls64", "tls64k", "tlsnew", "tlsresume", "ws64", "ws4k",
    "ws1m",
)  # fmt: skip
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


def readme_table(result: Result) -> str:
    """The README's table of CPU time a request, in Markdown, with the lines that mark its place."""
    arms = ("echoserver", "limit", "nginx", "fasthttp")
    head = ["load", *(name(arm) for arm in arms), "echoserver / limit", "echoserver / nginx"]
    rows: list[Sequence[str]] = [
        [
            load["title"],
            *(figure(median(load, arm, "cpu_us")) for arm in arms),
            *(times(ratio(load, "echoserver", other)) for other in ("limit", "nginx")),
        ]
        for key in IN_README
        if (load := result["loads"].get(key))
    ]
    return f"{BEGIN}\n{markdown_table(Table('', head, rows))}\n{END}"


def update_readme(readme: str, result: Result) -> str:
    """The README with the table of these figures between its marks. Raises NoFigures where it has none."""
    return replaced(readme, readme_table(result), (BEGIN, END))


def replaced(readme: str, table: str, marks: tuple[str, str]) -> str:
    """The README with the table, which has the marks, in place of what is between them. Raises NoFigures."""
    begin, end = marks
    if readme.count(begin) != 1 or readme.count(end) != 1 or readme.index(begin) > readme.index(end):
        raise figures.NoFigures(
            f"the README has no place for the figures: expected a line {begin} and after it a line {end}"
        )
    before, rest = readme.split(begin)
    return before + table + rest.split(end)[1]


# --- what the pages are made of -------------------------------------------------------------------------------------


class Code(str):
    """Something to be typed, or shown as it was."""

    __slots__ = ()


class Strong(str):
    """Something not to be overlooked."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    text: str
    loud: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    facts: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Notes:
    notes: Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column is of words, the others are of figures. An aside is folded where a page can."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    aside: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    name: str
    title: str
    svg: str


Block = Heading | Text | Facts | Notes | Table | Picture


def blocks(result: Result, pictures: Sequence[Picture] = ()) -> Iterator[Block]:
    """All that is to be said of a comparison, in order."""
    yield Heading(1, "What echoserver costs, measured")
    yield from machine_and_method(result)
    yield from thrown_away_rounds(result)
    if pictures:
        yield Heading(2, "Pictures")
        yield from pictures
    yield from where_others_need_less(result)
    for group, title in (*GROUPS.items(), ("workers", "Two workers")):
        loads = list(loads_of(result, group).values())
        if loads:
            yield Heading(2, title)
            yield from group_of_loads(loads, result["skipped"])
    for load in loads_of(result, "rate").values():
        yield Heading(2, f"Latency: {load['title']}")
        yield from latency(load, result["skipped"])
    for load in loads_of(result, "memory").values():
        yield Heading(2, f"Memory: {load['title']}")
        yield from memory(load, result["skipped"])


def machine_and_method(result: Result) -> Iterator[Block]:
    machine, method = result["machine"], result["method"]
    if method["quick"]:
        yield Text("A quick run: it shows that the bench works. What the servers cost, a whole run says.", loud=True)
    rounds, starts = f"{method['rounds']} rounds of {method['seconds']:g} s", method["starts"]
    often = f" in each of {starts} starts, since a process's memory never lies the same way twice" if starts > 1 else ""
    yield Text(
        f"All servers of a load are started, then measured in turn, round after round: {rounds}{often}. Some loads may "
        "have been measured earlier or later than others, never some servers of one. "
        "CPU time is the user and system time of the server's processes over the requests that the client counted as "
        "answered right. A figure is the median of the rounds; a ratio is the median of the ratios within the same "
        "round, since the machine itself changes its speed; from run to run it still moves by some "
        f"{percent(NOISE)}. The limit server is a C program on epoll that does next to nothing: what it needs is the "
        "kernel's."
    )
    yield Facts(
        [
            ("made", result["made"].replace("T", " ").replace("Z", " UTC")),
            ("CPU", f"{machine['cpu']}, {machine['cpus']} CPUs"),
            ("memory", size(machine["memory_bytes"])),
            ("system", f"{machine['system']}, Linux {machine['kernel']}"),
            ("server on", cpus(method["server_cpus"])),
            ("client on", cpus(method["client_cpus"])),
            *result["versions"].items(),
        ]
    )
    if result["skipped"]:
        yield Heading(2, "Not measured")
        yield Notes([f"{name(arm)}: {reason}" for arm, reason in result["skipped"].items()])


def cpus(numbers: Sequence[int]) -> str:
    return f"CPU {', '.join(map(str, numbers))}" if numbers else "any CPU"


def thrown_away_rounds(result: Result) -> Iterator[Block]:
    """The rounds that do not count, with all reasons: who leaves out figures has to say so first."""
    taken = [(load, arm) for load in result["loads"].values() for arm in arms_of([load])]
    total = sum(len(load["arms"][arm]["rounds"]) for load, arm in taken)
    reasons = [(load, arm, why) for load, arm in taken if (why := thrown_away(load, arm))]
    yield Heading(2, "Thrown away")
    if not reasons:
        yield Text(f"None of {total:,} rounds was thrown away.")
        return
    lost = sum(len(why) for *_, why in reasons)
    yield Text(f"{lost:,} of {total:,} rounds were thrown away and are in none of the figures.", loud=True)
    yield Table(
        "",
        ["load", "server", "rounds", "why"],
        [
            [
                load["title"],
                name(arm),
                f"{len(why)} of {len(load['arms'][arm]['rounds'])}",
                "; ".join(dict.fromkeys(why)),
            ]
            for load, arm, why in reasons
        ],
    )


def where_others_need_less(result: Result) -> Iterator[Block]:
    """The loads in which a peer is cheaper than echoserver, worst first."""
    compared = [
        (value, load, arm)
        for load in loads_of(result, *GROUPS).values()
        for arm in arms_of([load])
        if arm not in ("echoserver", "limit") and (value := ratio(load, "echoserver", arm)) is not None
    ]
    if not compared:
        return
    dearer = sorted((each for each in compared if more(each[0])), key=lambda each: -each[0])
    cheaper = sum(less(value) for value, *_ in compared)
    yield Heading(2, "Where others need less CPU time")
    yield Text(
        f"In {len(compared)} comparisons of echoserver with a peer under a load, it needs more CPU time than the "
        f"peer in {len(dearer)}, less in {cheaper}, and as much, within {percent(NOISE)}, in "
        f"{len(compared) - len(dearer) - cheaper}."
    )
    if dearer:
        rows = [
            [
                load["title"], name(arm), figure(median(load, "echoserver", "cpu_us")),
                figure(median(load, arm, "cpu_us")), Strong(times(value)),
            ]
            for value, load, arm in dearer
        ]  # fmt: skip
        yield Table("", ["load", "peer", "echoserver, µs", "peer, µs", "echoserver / peer"], rows)


Cell = Callable[[Load, str], str]


def matrix(title: str, loads: Sequence[Load], arms: Sequence[str], cell: Cell, *, aside: bool = False) -> Table:
    """A row a load, a column an arm."""
    rows = [[load["title"], *(cell(load, arm) for arm in arms)] for load in loads]
    return Table(title, ["load", *(name(arm) for arm in arms)], rows, aside)


def group_of_loads(loads: Sequence[Load], skipped: Mapping[str, str]) -> Iterator[Block]:
    """The tables of loads that go as fast as they can."""
    arms = arms_of(loads)
    yield cpu_times(loads, arms)
    yield Notes(
        [
            *missing(loads, arms, skipped),
            *(f"{load['title']}: {load['notes']}" for load in loads if load["notes"]),
        ]
    )
    base, others = "echoserver", [arm for arm in arms if arm != "echoserver"]
    if base in arms and others:
        yield matrix(
            f"echoserver's CPU time over the other's; bold: over {percent(NOISE)} more than a peer", loads, others,
            lambda load, arm: beside(load, base, arm),
        )  # fmt: skip
    yield from spreads_and_rates(loads, arms)
    yield Table(
        "The client", ["load", "ran as", "fastest", "requests a second", "client's ceiling", "of it", ""],
        [client(load) for load in loads], aside=True,
    )  # fmt: skip


def cpu_times(loads: Sequence[Load], arms: Sequence[str]) -> Table:
    return matrix("CPU time a request, µs", loads, arms, lambda load, arm: figure(median(load, arm, "cpu_us")))


def spreads_and_rates(loads: Sequence[Load], arms: Sequence[str]) -> Iterator[Table]:
    """What there is to know of the rounds besides their medians."""
    yield matrix("Spread of the CPU time: least to most of the rounds, µs", loads, arms, spread, aside=True)
    ceiling = f"* the client was at {percent(BOUND)} or more of what it can send"
    yield matrix(f"Requests a second; {ceiling}", loads, arms, rate, aside=True)


def beside(load: Load, arm: str, other: str) -> str:
    """A ratio, not to be overlooked where the other is a peer that needs less."""
    value = ratio(load, arm, other)
    return Strong(times(value)) if other != "limit" and more(value) else times(value)


def more(value: float | None) -> bool:
    """Whether a ratio, as it is shown, says that echoserver needs more than noise explains."""
    return value is not None and round(value, 2) > 1 + NOISE


def less(value: float | None) -> bool:
    """Whether a ratio, as it is shown, says that echoserver needs less than noise explains."""
    return value is not None and round(value, 2) < 1 - NOISE


def spread(load: Load, arm: str) -> str:
    least_and_most = load["arms"].get(arm, {}).get("spread", {}).get("cpu_us")
    return " to ".join(figure(value) for value in least_and_most) if least_and_most else NONE


def rate(load: Load, arm: str) -> str:
    part = part_of_ceiling(load, arm)
    return figure(median(load, arm, "rate")) + ("*" if part is not None and part >= BOUND else "")


def part_of_ceiling(load: Load, arm: str) -> float | None:
    value, ceiling = median(load, arm, "rate"), median(load, arm, "ceiling")
    return value / ceiling if value is not None and ceiling else None


def client(load: Load) -> list[str]:
    """How near the fastest arm came to what the client can do."""
    rates = {arm: value for arm in arms_of([load]) if (value := median(load, arm, "rate")) is not None}
    if not rates:
        return [load["title"], Code(load["client"]), NONE, NONE, NONE, NONE, ""]
    fastest = max(rates, key=lambda arm: rates[arm])
    part = part_of_ceiling(load, fastest)
    return [
        load["title"], Code(load["client"]), name(fastest), figure(rates[fastest]),
        figure(median(load, fastest, "ceiling")), NONE if part is None else percent(part),
        Strong("the client was the bottleneck") if part is not None and part >= BOUND else "",
    ]  # fmt: skip


def missing(loads: Sequence[Load], arms: Sequence[str], skipped: Mapping[str, str]) -> list[str]:
    """Why arms have no CPU time in some of the loads, one line an arm and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for load in loads:
        for arm in arms:
            if median(load, arm, "cpu_us") is None:
                found.setdefault((arm, why_missing(load, arm, skipped)), []).append(load["title"])
    return [f"no figure of {name(arm)}, {'; '.join(titles)}: {why}" for (arm, why), titles in found.items()]


def why_missing(load: Load, arm: str, skipped: Mapping[str, str]) -> str:
    if why := thrown_away(load, arm):
        return "every round was thrown away: " + "; ".join(dict.fromkeys(why))
    cannot: str | None = load["arms"].get(arm, {}).get("cannot")
    return cannot or skipped.get(arm, "not measured")


def latency(load: Load, skipped: Mapping[str, str]) -> Iterator[Block]:
    """The table of a load at a fixed rate."""
    offered = load["offered_rate"]
    yield Text(
        f"{offered:,.0f} requests a second are sent, whether answers come or not; a request's latency counts from when "
        "it was due, so that time spent waiting to be sent is not hidden."
    )
    arms, which = arms_of([load]), percentiles_of(load)
    short = fell_short(load)
    rows = [
        [
            name(arm),
            *(duration(median(load, arm, "latency_us", each)) for each in which),
            (Strong if arm in short else str)(figure(median(load, arm, "rate"))),
            figure(median(load, arm, "cpu_us")),
        ]
        for arm in arms
    ]
    heads = ["longest" if each == "max" else f"{each} % within" for each in which]
    yield Table("", ["server", *heads, "answered a second", "CPU time, µs"], rows)
    yield Notes(
        [
            f"sent by: {load['client']}",
            *([load["notes"]] if load["notes"] else []),
            *missing([load], arms, skipped),
            *(f"{name(arm)} could not keep up: {figure(value)} a second" for arm, value in short.items()),
        ]
    )


def memory(load: Load, skipped: Mapping[str, str]) -> Iterator[Block]:
    """The table of what idle connections take."""
    arms = arms_of([load])
    counts = sorted({count for arm in arms for count, _ in connections_of(load, arm)})
    rows = []
    for arm in arms:
        held = dict(connections_of(load, arm))
        cells = [mebibytes(held.get(count)) for count in counts]
        each = bytes_a_connection(load, arm)
        rows.append([name(arm), *cells, NONE if each is None else f"{figure(each)} B"])
    yield Text("Resident memory of all of a server's processes.")
    yield Table("", ["server", *(f"{count:,} connections" for count in counts), "a connection"], rows)
    absent = [arm for arm in arms if not connections_of(load, arm)]
    yield Notes(
        [
            f"held by: {load['client']}",
            *([load["notes"]] if load["notes"] else []),
            *(f"no figure of {name(arm)}: {why_missing(load, arm, skipped)}" for arm in absent),
        ]
    )


# --- the pages ------------------------------------------------------------------------------------------------------


def write(result: Result, folder: Path) -> list[Path]:
    """Writes RESULTS.md, the pictures that there are figures for, and index.html; returns their paths."""
    from bench import pictures  # noqa: PLC0415 - matplotlib, which only pictures need

    drawn = [Picture(*each) for each in pictures.draw(result)]
    content = list(blocks(result, drawn))
    files = {
        "RESULTS.md": markdown(content),
        **{f"{picture.name}.svg": picture.svg for picture in drawn},
        "index.html": page(content),
    }
    for stale in pictures.PICTURES:
        (folder / f"{stale}.svg").unlink(missing_ok=True)  # of another run, which this page would not speak of
    return written(files, folder)


def written(files: Mapping[str, str], folder: Path) -> list[Path]:
    """The paths of these files, when their texts are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    return [folder / file for file in files]


def markdown(content: Iterable[Block]) -> str:
    """Blocks as GitHub's Markdown."""
    return "\n\n".join(text for block in content if (text := markdown_block(block))) + "\n"


def markdown_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {markdown_text(text)}"
        case Text(text, loud):
            return f"**{markdown_text(text)}**" if loud else markdown_text(text)
        case Facts(facts):
            return markdown_table(Table("", ["", ""], facts))
        case Notes(notes):
            return "\n".join(f"- {markdown_text(note)}" for note in notes)
        case Table(title):
            return (f"### {markdown_text(title)}\n\n" if title else "") + markdown_table(block)
        case Picture(file, title):
            return f"![{markdown_text(title)}]({file}.svg)"


def markdown_table(table: Table) -> str:
    words = words_of(table)
    rule = "".join("---|" if column in words else "---:|" for column in range(len(table.head)))
    rows = ["| " + " | ".join(markdown_text(cell) for cell in row) + " |" for row in (table.head, *table.rows)]
    return "\n".join([rows[0], "|" + rule, *rows[1:]])


def words_of(table: Table) -> set[int]:
    """The columns that are read as words, not compared as figures: the first, and those with no digit in front."""
    columns = range(1, len(table.head))
    return {0} | {column for column in columns if any(not re.match(r"\d|-?$", row[column]) for row in table.rows)}


def markdown_text(text: str) -> str:
    """A text from the JSON on one line of Markdown, in which nothing of it is markup."""
    text_on_a_line = " ".join(text.split())
    if isinstance(text, Code):
        return "`" + text_on_a_line.replace("`", "'").replace("|", r"\|") + "`" if text_on_a_line else ""
    plain = re.sub(r"([\\`*_\[\]<>|&#])", r"\\\1", text_on_a_line)
    plain = re.sub(r"^([-+]|\d+[.)])(?=\s)", r"\\\1", plain)
    return f"**{plain}**" if isinstance(text, Strong) else plain


def page(content: Iterable[Block]) -> str:
    """Blocks as one HTML page that needs no other file."""
    content = list(content)
    title = next(block.text for block in content if isinstance(block, Heading))
    template = string.Template((Path(__file__).parent / "report.html").read_text(encoding="utf-8"))
    body = "\n".join(text for block in content if (text := html_block(block)))
    return template.substitute(title=html.escape(title), body=body)


def html_block(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html_text(text)}</h{level}>"
        case Text(text, loud):
            return f'<p class="loud">{html_text(text)}</p>' if loud else f"<p>{html_text(text)}</p>"
        case Facts(facts):
            pairs = "".join(f"<div><dt>{html_text(what)}</dt><dd>{html_text(fact)}</dd></div>" for what, fact in facts)
            return f"<dl>{pairs}</dl>"
        case Notes(notes):
            return "<ul>" + "".join(f"<li>{html_text(note)}</li>" for note in notes) + "</ul>" if notes else ""
        case Table(title, aside=aside):
            table = f'<div class="wide" tabindex="0">{html_table(block)}</div>'
            if aside:
                return f"<details><summary>{html_text(title)}</summary>{table}</details>"
            return (f"<h3>{html_text(title)}</h3>" if title else "") + table
        case Picture(svg=svg):
            return f'<figure class="wide" tabindex="0">{svg}</figure>'


def html_table(table: Table) -> str:
    words = words_of(table)

    def cells(row: Sequence[str], tag: str) -> str:
        parts = []
        for column, cell in enumerate(row):
            kinds = ["words"] * (column in words) + ["own"] * (table.head[column] == name("echoserver"))
            attribute = f' class="{" ".join(kinds)}"' if kinds else ""
            parts.append(f"<{tag}{attribute}>{html_text(cell)}</{tag}>")
        return f"<tr>{''.join(parts)}</tr>"

    rows = "\n".join(cells(row, "td") for row in table.rows)
    return f"<table><thead>{cells(table.head, 'th')}</thead>\n<tbody>{rows}</tbody></table>"


def html_text(text: str) -> str:
    plain = html.escape(text)
    if isinstance(text, Code):
        return f"<code>{plain}</code>"
    return f"<strong>{plain}</strong>" if isinstance(text, Strong) else plain
