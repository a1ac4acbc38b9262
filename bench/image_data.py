"""Reads the figures of the images, and says them as people read them: what the page and the picture have in common."""

import statistics

from bench import images
from bench.results_data import NAMES, NONE, Result, figure, median

# --- what the JSON says ---------------------------------------------------------------------------------------------


def targets_of(result: Result) -> list[str]:
    """The images, in the order of NAMES."""
    return [each for each in NAMES if each in result["images"]]


def size_of_group(result: Result, target: str, group: str) -> int:
    """Bytes of a group of an image's parts."""
    return sum(result["images"][target]["parts"].get(group, {}).values())


def whole(result: Result, target: str) -> int:
    """Bytes of all of an image's parts."""
    return sum(size_of_group(result, target, group) for group in images.GROUPS)


def start(result: Result, what: str, key: str) -> float | None:
    """The median of what was measured at each start; None where it was not."""
    values = [each for each in result["starts"].get(what, {}).get(key, ()) if each is not None]
    return statistics.median(values) if values else None


def held(result: Result, arm: str, connections: int) -> float | None:
    """Resident bytes at so many idle connections."""
    load = result["loads"].get("idle")
    return median(load, arm, "memory_bytes", str(connections)) if load else None


# --- figures for people ---------------------------------------------------------------------------------------------


def megabytes(value: float | None) -> str:
    """Bytes in millions of them, as engines and registries count."""
    return NONE if value is None else f"{value / 1e6:.2f} MB" if value < 9.995e6 else f"{figure(value / 1e6)} MB"
