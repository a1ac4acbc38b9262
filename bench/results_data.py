"""Reads the figures of a comparison, and says them as people read them: what pages and pictures have in common."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from bench import figures

Result = Mapping[str, Any]
Load = Mapping[str, Any]

NAMES = {
    "echoserver": "echoserver",
    "echoserver-2": "echoserver, 2 workers",
    "outside": "no container",
    "slim": "slim",
    "alpine": "alpine",
    "scratch": "scratch",
    "minimal": "minimal",
    "limit": "limit server",
    "nginx": "nginx",
    "nginx-2": "nginx, 2 workers",
    "fasthttp": "Go fasthttp",
    "nethttp": "Go net/http",
    "gohttp2": "Go x/net/http2",
    "nghttpd": "nghttpd",
    "grpcgo": "grpc-go",
    "grpcio": "grpcio",
    "bjoern": "bjoern",
    "granian": "Granian",
    "uvicorn": "Uvicorn",
    "hypercorn": "Hypercorn",
    "node": "Node.js",
    "go": "Go net",
    "socat": "socat",
    "asyncio": "asyncio",
    "picows": "picows",
    "websockets": "websockets",
    "gorilla": "Go gorilla",
    "nodews": "Node.js ws",
}
"""The arms in the order in which they are shown, with their names for people."""

GROUPS = {
    "mix": "Requests that differ", "tcp": "TCP", "udp": "UDP", "http": "HTTP", "tls": "TLS", "h2": "HTTP/2",
    "grpc": "gRPC", "ws": "WebSocket",
}  # fmt: skip
"""The groups of loads that go as fast as they can, as they are shown, with their headings."""


# --- what the JSON says ---------------------------------------------------------------------------------------------


def name(arm: str) -> str:
    """An arm's name for people."""
    return NAMES.get(arm, arm)


def loads_of(result: Result, *groups: str) -> dict[str, Load]:
    """The loads of these groups, by key."""
    return {key: load for key, load in result["loads"].items() if load["group"] in groups}


def arms_of(loads: Iterable[Load]) -> list[str]:
    """The arms that took part in any of the loads, in the order of NAMES, unknown ones last."""
    found = {arm for load in loads for arm in load["arms"]}
    return [arm for arm in NAMES if arm in found] + sorted(found - set(NAMES))


def median(load: Load, arm: str, *path: str) -> float | None:
    """A figure of an arm's median, None where there is none: ``median(load, "nginx", "latency_us", "99")``."""
    value: Any = load["arms"].get(arm, {}).get("median")
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def ratio(load: Load, arm: str, other: str) -> float | None:
    """An arm's CPU time over another's: the median of the ratios of the same rounds, None where there is none."""
    value: float | None = load["arms"].get(arm, {}).get("ratio", {}).get(other)
    return 1.0 if arm == other and median(load, arm, "cpu_us") else value


def ratios_of_rounds(load: Load, arm: str, other: str) -> list[float]:
    """An arm's CPU time over another's in each round that was good for both."""
    arms = load["arms"]
    return figures.ratios(arms[arm], arms[other]) if arm in arms and other in arms else []


def connections_of(load: Load, arm: str) -> list[tuple[int, float]]:
    """What an arm holds at how many idle connections, in bytes: few connections first."""
    arm_median = load["arms"].get(arm, {}).get("median") or {}
    return sorted((int(count), held) for count, held in arm_median.get("memory_bytes", {}).items() if held is not None)


def bytes_a_connection(load: Load, arm: str) -> float | None:
    """What an idle connection adds: the slope from the least to the most connections that were held."""
    held = connections_of(load, arm)
    return (held[-1][1] - held[0][1]) / (held[-1][0] - held[0][0]) if len(held) > 1 else None


def percentiles_of(load: Load) -> list[str]:
    """The percentiles that a load has figures for, in their order; the longest of all ("max") is the last."""
    found = {each for arm in load["arms"] for each in median_keys(load, arm, "latency_us")}
    return sorted(found, key=lambda each: math.inf if each == "max" else float(each))


def median_keys(load: Load, arm: str, key: str) -> list[str]:
    """The keys of a part of an arm's median that have a figure."""
    part = (load["arms"][arm].get("median") or {}).get(key) or {}
    return [each for each, value in part.items() if value is not None]


def thrown_away(load: Load, arm: str) -> list[str]:
    """Why an arm's rounds were thrown away, a reason a round."""
    return [each["thrown_away"] for each in load["arms"].get(arm, {}).get("rounds", ()) if "thrown_away" in each]


def fell_short(load: Load) -> dict[str, float]:
    """The arms that answered less than 99 % of the rate that was offered, with what they answered a second."""
    rates = {arm: median(load, arm, "rate") for arm in arms_of([load])}
    return {arm: rate for arm, rate in rates.items() if rate is not None and rate < 0.99 * load["offered_rate"]}


# --- figures for people ---------------------------------------------------------------------------------------------

NONE = "-"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits, whole thousands apart: 0.93, 27.4, 1,090, 145,000."""
    if value is None:
        return NONE
    if not value:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    value = round(value, places)  # which may have one digit more: 9.996 is 10.00
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}"


def times(value: float | None) -> str:
    """A ratio: two places below 10, which is what there is to know of it."""
    return NONE if value is None else f"{value:.2f}" if value < 9.995 else figure(value)


def percent(part: float) -> str:
    return f"{part * 100:.0f} %"


def size(value: float) -> str:
    """Bytes, in the largest unit that they fill."""
    for unit, symbol in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if value >= unit:
            return f"{value / unit:.3g} {symbol}"
    return f"{value:.0f} B"


def mebibytes(value: float | None) -> str:
    return NONE if value is None else f"{figure(value / (1 << 20))} MiB"


def duration(microseconds: float | None, digits: int = 3) -> str:
    """Microseconds, in the unit that suits them."""
    if microseconds is None:
        return NONE
    for unit, symbol in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= unit:
            return f"{figure(microseconds / unit, digits)} {symbol}"
    return f"{figure(microseconds, digits)} µs"
