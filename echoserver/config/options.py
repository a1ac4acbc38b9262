"""What the server can be told: every option once, with its type, its default and what it is for."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

from echoserver.config import limits, memory
from echoserver.config.values import (
    Address,
    ConfigError,
    address,
    at_least,
    auto_or,
    count,
    duration,
    file,
    file_mode,
    hostname,
    inet_address,
    on_or_off,
    one_of,
    origin,
    percent,
    prefix,
    size_or_off,
    some_or_off,
    some_time,
)


def workers(text: str) -> int:
    """A number of processes, or ``auto``: the cgroup's CPU quota, else the CPUs that this process may use.

    But no more than its memory limit has room for.
    """
    if text != "auto":
        try:
            return count(text)
        except ConfigError:
            raise ConfigError(f"{text!r} is not a number of workers: expected a whole number from 1, or auto") from None
    cpus = max(1, int(limits.cgroup_cpus() or len(os.sched_getaffinity(0))))
    limit = memory.limit()
    return cpus if limit is None else min(cpus, memory.workers_within(limit))


def _connections(text: str) -> int:
    return 0 if text == "auto" else count(text)


loop = one_of("an event loop", "auto", "uvloop", "asyncio")


LISTENERS, TLS, FAULTS, CONNECTIONS, MEMORY = "listeners", "tls", "faults", "connections", "memory"
ON_DEMAND = "on demand"
DEADLINES, LOGS, PROCESS = "deadlines", "logs", "process"
LEVELS = ("debug", "info", "warning", "error")
PROTOCOLS = ("http", "https", "tcp", "tls", "udp", "any", "admin")
"""The listeners, each named by its option."""


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One option: ``--name`` and ``ECHOSERVER_NAME``, and the variable that stands in where neither is given."""

    name: str
    default: str
    parse: Callable[[str], Any]
    metavar: str
    group: str
    help: str
    stand_in: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "ECHOSERVER_" + self.name.upper()


def _option(  # noqa: PLR0917 - a table's row
    default: str, parse: Callable[[str], Any], metavar: str, group: str, text: str, stand_in: str | None = None
) -> Any:
    return dataclasses.field(metadata={"option": (default, parse, metavar, group, text, stand_in)})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, checked. Sizes in bytes, durations in seconds, 0 = none."""

    host: str = _option("127.0.0.1", hostname, "HOST", LISTENERS, "the host of every ADDR that is only a port")
    http: Address | None = _option("8080", address, "ADDR", LISTENERS, "HTTP/1.1, HTTP/1.0 and HTTP/2", "PORT")
    https: Address | None = _option("off", address, "ADDR", LISTENERS, "the same over TLS")
    tcp: Address | None = _option("8007", address, "ADDR", LISTENERS, "raw TCP echo (RFC 862)")
    tls: Address | None = _option("off", address, "ADDR", LISTENERS, "the same over TLS")
    udp: Address | None = _option("8007", inet_address, "ADDR", LISTENERS, "UDP echo (RFC 862)")
    any: Address | None = _option(
        "off", address, "ADDR", LISTENERS, "HTTP, HTTPS, TCP and TLS, told apart by a client's first bytes"
    )
    admin: Address | None = _option(
        "off", address, "ADDR", LISTENERS, "serve /healthz, /readyz and /metrics here, and echo these paths elsewhere"
    )
    proxy_protocol: bool = _option(
        "off", on_or_off, "on|off", LISTENERS, "a PROXY preamble (v1 or v2) is required on all but UDP and --admin"
    )
    backlog: int = _option(
        "4096", count, "N", LISTENERS, "connections that may wait to be accepted; the kernel caps it"
    )
    reuse_port: bool = _option(
        "on", on_or_off, "on|off", LISTENERS, "a socket for each worker (SO_REUSEPORT); off: one that all share"
    )
    unix_mode: int = _option(
        "0666", file_mode, "MODE", LISTENERS, "who may connect to a unix socket: the mode of its file"
    )
    tls_cert: str | None = _option("off", file, "FILE", TLS, "the certificate chain (PEM)")
    tls_key: str | None = _option("off", file, "FILE", TLS, "its private key (PEM); off: it is read from --tls-cert")
    tls_client_ca: str | None = _option(
        "off", file, "FILE", TLS, "clients must have a certificate of one of these CAs (PEM)"
    )
    tcp_mode: str = _option(
        "echo",
        one_of("a mode", "echo", "discard", "chargen"),
        "MODE",
        FAULTS,
        "echo, discard (only read, RFC 863) or chargen (only send, RFC 864)",
    )
    tcp_delay: float = _option(
        "off", duration, "TIME", FAULTS, "each byte is echoed this long after it came; chargen: the start is delayed"
    )
    tcp_rate: int = _option(
        "off", some_or_off, "SIZE", FAULTS, "bytes a second that are sent (discard: read) on each connection"
    )
    tcp_close_after: int = _option(
        "off", some_or_off, "SIZE", FAULTS, "a connection is closed when this much has been sent (discard: read)"
    )
    tcp_reset: float = _option(
        "off",
        percent,
        "PERCENT",
        FAULTS,
        "this share of connections is reset where --tcp-close-after would close it, else instead of an answer",
    )
    max_connections: int = _option(
        "auto",
        _connections,
        "N",
        CONNECTIONS,
        "open connections a worker, also those being closed; auto: what descriptors allow",
    )
    max_header: int = _option(
        "64KiB", at_least(256), "SIZE", CONNECTIONS, "the longest HTTP header section; longer ones get 414 or 431"
    )
    max_body: int = _option(
        "off", size_or_off, "SIZE", CONNECTIONS, "the longest HTTP content; longer ones get 413; off: any length"
    )
    max_message: int = _option(
        "16MiB", at_least(1), "SIZE", CONNECTIONS, "the longest WebSocket message; longer ones close with 1009"
    )
    http2: bool = _option(
        "on", on_or_off, "on|off", CONNECTIONS, "HTTP/2: over TLS by ALPN, else where a client begins with it"
    )
    max_streams: int = _option("128", count, "N", CONNECTIONS, "streams that may be open on a connection of HTTP/2")
    buffer_limit: int = _option(
        "auto", auto_or(1 << 16), "SIZE", MEMORY, "the most that is buffered for one connection"
    )
    buffer_total: int = _option(
        "auto",
        auto_or(1 << 16),
        "SIZE",
        MEMORY,
        "the most for all connections of a worker; auto: what the memory limit allows",
    )
    header_timeout: float = _option(
        "10s",
        duration,
        "TIME",
        DEADLINES,
        "for an HTTP header section (then 408), a PROXY preamble, or a TLS handshake",
    )
    detect_timeout: float = _option(
        "1s",
        some_time,
        "TIME",
        DEADLINES,
        "a client of --any of which nothing can be told for this long speaks raw TCP",
    )
    keep_alive_timeout: float = _option(
        "75s", duration, "TIME", DEADLINES, "an idle HTTP connection is closed after this time"
    )
    idle_timeout: float = _option(
        "off",
        duration,
        "TIME",
        DEADLINES,
        "a TCP or WebSocket connection, or HTTP content, that stalls this long is closed",
    )
    ws_ping: float = _option(
        "off",
        duration,
        "TIME",
        DEADLINES,
        "a WebSocket client that sends nothing for this long is pinged, after as long again closed",
    )
    http2_ping: float = _option("off", duration, "TIME", DEADLINES, "the same for a connection of HTTP/2")
    drain_delay: float = _option(
        "0", duration, "TIME", DEADLINES, "after a signal, go on serving this long while /readyz says 503"
    )
    drain_timeout: float = _option(
        "10s", duration, "TIME", DEADLINES, "then finish what is under way, for at most this long; off: no limit"
    )
    controls: bool = _option(
        "on",
        on_or_off,
        "on|off",
        ON_DEMAND,
        "requests may ask for statuses, delays and the like by parameters in their query",
    )
    controls_prefix: str = _option(
        "off",
        prefix,
        "PREFIX",
        ON_DEMAND,
        "what the names of these parameters begin with: echo- makes it ?echo-status=503",
    )
    max_delay: float = _option("60s", duration, "TIME", ON_DEMAND, "the longest delay that a request may ask for")
    max_size: int = _option("1GiB", size_or_off, "SIZE", ON_DEMAND, "the longest content that a request may ask for")
    cors: str | None = _option(
        "off", origin, "ORIGIN", ON_DEMAND, "let pages of this origin, or of any (*), read the answers (CORS)"
    )
    access_log: str = _option(
        "off",
        one_of("a format of the access log", "off", "text", "json"),
        "off|text|json",
        LOGS,
        "a line for each HTTP request, and each TCP and WebSocket connection, to stdout",
    )
    log_format: str = _option(
        "text",
        one_of("a format", "text", "json"),
        "text|json",
        LOGS,
        "the format of the server log on stderr",
    )
    log_level: str = _option(
        "info",
        one_of("a level", *LEVELS),
        "LEVEL",
        LOGS,
        f"the least severe lines that are logged: {', '.join(LEVELS)}",
    )
    workers: int = _option("1", workers, "N", PROCESS, "processes: a number, or auto for one a CPU", "WEB_CONCURRENCY")
    cpu_affinity: bool = _option("off", on_or_off, "on|off", PROCESS, "bind each worker to a CPU of its own")
    served_by: bool = _option(
        "on", on_or_off, "on|off", PROCESS, "name host and worker in HTTP answers: X-Served-By: HOST:WORKER"
    )
    loop: str = _option("auto", loop, "LOOP", PROCESS, "auto, uvloop or asyncio")
    memory_limit: int | None = None
    """The control group's, in bytes, where buffer_total follows from it; else None. No option."""


OPTIONS: tuple[Option, ...] = tuple(
    Option(field.name, *field.metadata["option"]) for field in dataclasses.fields(Config) if "option" in field.metadata
)


def parse(texts: Mapping[str, str]) -> Config:
    """The texts given (option name: text) and the defaults for the rest, as a Config. Raises ConfigError."""
    values: dict[str, Any] = {option.name: option.parse(texts.get(option.name, option.default)) for option in OPTIONS}
    for name in PROTOCOLS:
        given = values[name]
        if given is not None and given.path is None and given.host is None and not given.descriptors:
            values[name] = dataclasses.replace(given, host=values["host"])
    if not any(values[name] for name in PROTOCOLS if name != "admin"):
        raise ConfigError("nothing to serve: --http, --https, --tcp, --tls, --udp and --any are all off")
    taken: dict[Address, str] = {}
    for name in PROTOCOLS:
        where = values[name]
        if where is None or name == "udp" or not (where.port or where.path or where.descriptors):
            continue
        if where in taken:
            raise ConfigError(f"--{taken[where]} and --{name} are both {where}: expected two addresses")
        taken[where] = name
    if (values["https"] or values["tls"]) and not values["tls_cert"]:
        raise ConfigError(
            f"--{'https' if values['https'] else 'tls'} needs a certificate: expected --tls-cert and --tls-key"
        )
    if values["tcp_mode"] == "discard" and values["tcp_delay"]:
        raise ConfigError("--tcp-delay must be off with --tcp-mode discard, which sends nothing")
    limit = None
    if not values["buffer_total"]:
        limit = memory.limit()
        values["buffer_total"] = memory.buffer_total(limit, values["workers"])
    if not values["buffer_limit"]:
        values["buffer_limit"] = memory.buffer_limit(limit, values["buffer_total"])
    if values["buffer_limit"] > values["buffer_total"]:
        raise ConfigError("--buffer-limit is more than --buffer-total: expected at most as much")
    return Config(**values, memory_limit=limit)


def tcp_faults(config: Config) -> list[str]:
    """What --tcp and --tls do besides echoing, or instead, in words; empty where they echo."""
    said = (
        (config.tcp_mode != "echo", config.tcp_mode),
        (config.tcp_delay, f"delay {config.tcp_delay:g} s"),
        (config.tcp_rate, f"rate {config.tcp_rate} bytes/s"),
        (config.tcp_close_after, f"closed after {config.tcp_close_after} bytes"),
        (config.tcp_reset, f"reset {config.tcp_reset:g} %"),
    )
    return [text for wanted, text in said if wanted]
