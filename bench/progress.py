"""Shows a comparison while it goes on: a bar on a terminal, and a table for each load when it is done."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import markup, progress
from rich.console import Console
from rich.table import Table

from bench.compare import LIMIT, NGINX, Watcher
from bench.figures import Arm, Result, Round
from bench.loads import Load


class Progress(Watcher):
    """Use it as a context manager. Where the output is no terminal there is no bar, and the tables are plain text."""

    def __init__(self, loads: Sequence[Load], base: str = LIMIT) -> None:
        """base: the arm that the others' CPU time is divided by; nginx where it does not take part, or else grpc-go."""
        self._base = base
        self._console = Console(highlight=False, width=None if Console().is_terminal else 120)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._loads = self._bar.add_task("loads", total=len(loads))
        self._rounds = self._bar.add_task("", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begins(self, load: Load, names: list[str], rounds: int) -> None:
        self._bar.reset(self._rounds, total=rounds, description=load.name)

    def round(self, load: Load, arm: str, figures: Round | None) -> None:
        figure = f" {figures['cpu_us']:.2f} us" if figures and "cpu_us" in figures else ""
        self._bar.update(self._rounds, advance=1, description=f"{load.name} {arm}{figure}")

    def thrown_away(self, load: Load, arm: str, why: str) -> None:
        self._bar.advance(self._rounds)
        self._console.print(f"[bold red]thrown away[/]: {load.name}: {arm}: {markup.escape(why)}")

    def step(self, what: str, number: int, total: int) -> None:
        self._bar.update(self._rounds, completed=number, total=total, description=what)

    def ends(self, load: Load, result: Result) -> None:
        self._bar.advance(self._loads)
        self._console.print(_memory(load, result) if load.steps else _table(load, result, self._base))


def _table(load: Load, result: Result, base: str) -> Table:
    of_load = result["loads"][load.name]
    taking_part = [name for name, arm in of_load["arms"].items() if "cannot" not in arm]
    base = next((each for each in (base, NGINX, "grpcgo") if each in taking_part), base)
    table = Table(
        title=f"{load.name}: {load.title}", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    table.add_column("")
    # without a fixed rate, latency says how many connections there are
    percentiles = ("50", "99", "99.9", "max") if load.rate else ()
    names = ("requests/s", "CPU us", "from", "to", f"x {base}", "client's ceiling/s")
    for name in (*names, *(f"{each} us" if each == "max" else f"p{each} us" for each in percentiles)):
        table.add_column(name, justify="right")
    for name, arm in of_load["arms"].items():
        table.add_row(name, *_row(arm, percentiles, base))
    if of_load["notes"]:
        table.caption = of_load["notes"]
    return table


def _row(arm: Arm, percentiles: Sequence[str], base: str) -> list[str]:
    median = arm["median"]
    if median is None:
        return ["can't" if "cannot" in arm else "no figure"]
    low, high = arm["spread"]["cpu_us"]
    ratio = arm["ratio"].get(base)
    return [
        f"{median['rate']:,.0f}", f"{median['cpu_us']:.2f}", f"{low:.2f}", f"{high:.2f}",
        f"{ratio:.3f}" if ratio else "",
        f"{median['ceiling']:,.0f}" if "ceiling" in median else "",
        *(f"{median['latency_us'][each]:,.0f}" for each in percentiles),
    ]  # fmt: skip


def _memory(load: Load, result: Result) -> Table:
    table = Table(
        title=f"{load.name}: {load.title}, MiB", title_justify="left", title_style="bold", box=None, pad_edge=False
    )
    table.add_column("")
    for step in load.steps:
        table.add_column(f"{step:,}", justify="right")
    for name, arm in result["loads"][load.name]["arms"].items():
        values = arm["median"]["memory_bytes"].values() if arm["median"] else []
        table.add_row(name, *(f"{each / (1 << 20):.1f}" for each in values))
    return table
