"""What the server can be told: every option once, with its type, its default and what it is for."""

import dataclasses
import os
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from echoserver.config import memory


class ConfigError(ValueError):
    """A value that can't be used; the message says what was wrong and what was expected."""


class CannotLoad(Exception):
    """A file that an option names can't be used; the message says which, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a listener is bound: HOST and PORT, or a unix socket's path. No host: ``--host`` says which.

    A path that begins with @ is the name of an abstract unix socket, which is no file (unix(7)).
    Or the descriptors of sockets that were inherited, bound already.
    """

    host: str | None = None
    port: int = 0
    path: str | None = None
    descriptors: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.descriptors:
            return f"fd:{','.join(map(str, self.descriptors))}"
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


def unix_sockaddr(path: str) -> str:
    """What socket.bind() and connect() take for a unix socket's path, or for the @name of an abstract one."""
    return f"\0{path[1:]}" if path.startswith("@") else path


def unix_path(sockaddr: str | bytes) -> str:
    """The path, or the @name, that a socket's own address stands for; empty where it has none."""
    path = os.fsdecode(sockaddr)
    return f"@{path[1:]}" if path.startswith("\0") else path


# --- the types of the options: text in, value out, ConfigError with what was expected -----------------------------


def port(text: str) -> int:
    """A port number; 0 stands for a free one."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ConfigError(f"{text!r} is not a port: expected a number from 0 to 65535")
    return int(text)


def address(text: str) -> Address | None:
    """``PORT``, ``HOST:PORT``, ``[V6]:PORT``, ``unix:/path``, ``unix:@name``, ``fd:N`` (``fd:N,M``), ``off`` (None)."""
    expected = "expected PORT, HOST:PORT, [V6]:PORT, unix:/path, unix:@name, fd:N or off"
    if text == "off":
        return None
    if text.startswith("fd:"):
        if not re.fullmatch(r"fd:[0-9]{1,7}(,[0-9]{1,7})*", text):
            raise ConfigError(f"{text!r} is not an address: expected the number of an inherited descriptor, as in fd:3")
        return Address(descriptors=tuple(map(int, text.removeprefix("fd:").split(","))))
    if text.startswith("unix:"):
        return unix_address(text)
    if "://" in text:
        return _without_scheme(text, expected)
    if ":" not in text:
        if not text.isascii() or not text.isdigit():
            raise ConfigError(f"{text!r} is not an address: {expected}")
        return Address(port=port(text))
    host, _, number = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{text!r} is not an address: expected brackets around an IPv6 address, as in [::1]:8080")
    if not host:
        raise ConfigError(f"{text!r} is not an address: {expected}")
    return Address(hostname(host), port(number))


def unix_address(text: str) -> Address:
    """``unix:/path``, or ``unix:@name`` for an abstract socket."""
    path = text.removeprefix("unix:")
    if not path.removeprefix("@") or "\0" in path or len(os.fsencode(path)) > 107 + path.startswith("@"):
        raise ConfigError(f"{text!r} is not an address: expected a path, or a name after @, of 1 to 107 bytes")
    return Address(path=path)


def _without_scheme(text: str, expected: str) -> NoReturn:
    """What is wrong with a URL where an address is wanted: the address in it is what was meant, if there is one."""
    rest = text.partition("://")[2].partition("/")[0]
    try:
        meant = address(rest)
    except ConfigError:
        meant = None
    if meant is not None and meant.host is not None:
        expected = f"expected no scheme, as in {meant}"
    raise ConfigError(f"{text!r} is not an address: {expected}")


def inet_address(text: str) -> Address | None:
    """As address(), without unix sockets: UDP has none here."""
    if text.startswith("unix:"):
        raise ConfigError(f"{text!r} is not an address for UDP: expected PORT, HOST:PORT, [V6]:PORT, fd:N or off")
    return address(text)


def hostname(text: str) -> str:
    """A name or an address to bind; brackets around an IPv6 address are taken off."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    labels = host.removesuffix(".").split(".")  # of at most 63 octets (RFC 1035, 2.3.4), and none is empty
    if not re.fullmatch(r"[0-9A-Za-z_.:%-]{1,253}", host) or not all(0 < len(label) < 64 for label in labels):
        raise ConfigError(f"{text!r} is not a host: expected a name, an IPv4 or an IPv6 address")
    return host


_SIZE = re.compile(r"(\d{1,15})\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def size(text: str) -> int:
    """Bytes: ``1000``, ``64KiB``, ``1MiB``, ``2GB``."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{text!r} is not a size: expected bytes or a unit, as in 1000, 64KiB, 16MiB, 1GB")
    return int(found[1]) * _UNITS[(found[2] or "").lower()]


def _auto_or(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return 0 if text == "auto" else _at_least(least)(text)

    return parse


def size_or_off(text: str) -> int:
    """As size(); ``off`` is 0."""
    return 0 if text == "off" else size(text)


def some_or_off(text: str) -> int:
    """As size_or_off(), where 0 bytes would make no sense."""
    value = size_or_off(text)
    if not value and text != "off":
        raise ConfigError(f"{text!r} is too small: expected at least 1 byte, or off")
    return value


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = size(text)
        if value < least:
            raise ConfigError(f"{text!r} is too small: expected at least {least} bytes")
        return value

    return parse


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def duration(text: str) -> float:
    """Seconds: ``500ms``, ``10s``, ``2m``; ``0`` or ``off`` is 0.0, which means none."""
    found = _DURATION.fullmatch(text.strip())
    if text != "off" and not found:
        raise ConfigError(f"{text!r} is not a duration: expected a number and a unit, as in 500ms, 10s, 2m, or off")
    return float(found[1]) * _SECONDS[found[2]] if found else 0.0


_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?)\s*%?", re.ASCII)


def percent(text: str) -> float:
    """A share from 0.0 to 100.0: ``25``, ``0.1%``, ``on`` (all) or ``off`` (none)."""
    if text in ("on", "off"):
        return 100.0 if text == "on" else 0.0
    found = _PERCENT.fullmatch(text.strip())
    if not found or float(found[1]) > 100:
        raise ConfigError(f"{text!r} is not a share: expected a number from 0 to 100, as in 25, 0.1%, or on or off")
    return float(found[1])


_MOST = 1 << 30


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"{text!r} is not a count: expected a whole number from 1 to {_MOST}")
    return int(text)


def workers(text: str) -> int:
    """A number of processes, or ``auto``: the cgroup's CPU quota, else the CPUs that this process may use.

    But no more than its memory limit has room for.
    """
    if text != "auto":
        try:
            return _count(text)
        except ConfigError:
            raise ConfigError(f"{text!r} is not a number of workers: expected a whole number from 1, or auto") from None
    cpus = max(1, int(_cgroup_cpus() or len(os.sched_getaffinity(0))))
    limit = memory.limit()
    return cpus if limit is None else min(cpus, memory.workers_within(limit))


def _cgroup_cpus() -> float | None:
    """The CPU quota of this process's cgroup in CPUs (v2: cpu.max, v1: cpu.cfs_quota_us), None without one."""
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        try:
            with (
                open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", encoding="ascii") as first,
                open("/sys/fs/cgroup/cpu/cpu.cfs_period_us", encoding="ascii") as second,
            ):
                quota, period = first.read().strip(), second.read().strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _connections(text: str) -> int:
    return 0 if text == "auto" else _count(text)


def _one_of(what: str, *choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"{text!r} is not {what}: expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return parse


loop = _one_of("an event loop", "auto", "uvloop", "asyncio")


def on_or_off(text: str) -> bool:
    """``on`` or ``off``."""
    if text not in ("on", "off"):
        raise ConfigError(f"{text!r} is not a switch: expected on or off")
    return text == "on"


def file_mode(text: str) -> int:
    """The permissions of a file in octal, as chmod takes them: ``0660``."""
    if not re.fullmatch(r"0?[0-7]{3}", text, re.ASCII):
        raise ConfigError(f"{text!r} is not a file's mode: expected three octal digits, as in 0660")
    return int(text, 8)


def file(text: str) -> str | None:
    """The path of a file, which need not be there yet, or ``off`` (None)."""
    if not text or "\0" in text:
        raise ConfigError(f"{text!r} is not the path of a file: expected a path, or off")
    return None if text == "off" else text


def prefix(text: str) -> str:
    """What names in a query begin with, or ``off`` (nothing): as they stand there, without an escape."""
    if not re.fullmatch(r"[0-9A-Za-z._~-]{1,32}", text):
        raise ConfigError(
            f"{text!r} is not a prefix: expected 1 to 32 letters, digits, - . _ or ~, as in echo-, or off"
        )
    return "" if text == "off" else text


_ORIGIN = re.compile(r"([a-z][a-z0-9+.\-]*)://([^/?#@\\]+?)(?::([0-9]{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)


def origin(text: str) -> str | None:
    """``*`` for any, an origin as browsers send it (RFC 6454; Fetch, "serializing a request origin"), ``off`` (None).

    A browser's is in lower case, has no path and not the scheme's own port; names that are not ASCII are in punycode.
    ``null`` is that of files and of sandboxed pages.
    """
    if text == "off":
        return None
    if text in ("*", "null") or _is_origin(text):
        return text
    scheme, _, rest = text.partition("://")
    meant = f"{scheme}://{re.split('[/?#]', rest.rpartition('@')[2], maxsplit=1)[0]}".lower()
    meant = meant.removesuffix(f":{_DEFAULT_PORTS.get(scheme.lower())}")
    if _is_origin(meant):
        raise ConfigError(f"{text!r} is not an origin: expected it as browsers send it, {meant}")
    if not text.isascii():
        raise ConfigError(
            f"{text!r} is not an origin: expected the host in punycode, as in https://xn--bcher-kva.example"
        )
    if "*" in text:
        raise ConfigError(f"{text!r} is not an origin: expected one, SCHEME://HOST or SCHEME://HOST:PORT, or * for any")
    raise ConfigError(f"{text!r} is not an origin: expected SCHEME://HOST or SCHEME://HOST:PORT, null, * or off")


def _is_origin(text: str) -> bool:
    """Whether a browser could send this in the field Origin."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    scheme, host, number = found.groups()
    if number is not None and (
        number != str(int(number)) or int(number) > 65535 or number == _DEFAULT_PORTS.get(scheme)
    ):
        return False
    if host.startswith("["):
        return host.endswith("]") and host == host.lower() and _packed(socket.AF_INET6, host[1:-1]) is not None
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():  # an IPv4 address then, which browsers write in full
        return _packed(socket.AF_INET, host) is not None
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _packed(family: int, host: str) -> bytes | None:
    try:
        return socket.inet_pton(family, host)
    except (OSError, ValueError):
        return None


# --- the options themselves ---------------------------------------------------------------------------------------

LISTENERS, TLS, FAULTS, CONNECTIONS, MEMORY = "listeners", "tls", "faults", "connections", "memory"
ON_DEMAND = "on demand"
DEADLINES, LOGS, PROCESS = "deadlines", "logs", "process"
LEVELS = ("debug", "info", "warning", "error")
PROTOCOLS = ("http", "https", "tcp", "tls", "udp", "admin")
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
    http: Address | None = _option("8080", address, "ADDR", LISTENERS, "HTTP/1.1 and HTTP/1.0", "PORT")
    https: Address | None = _option("off", address, "ADDR", LISTENERS, "the same over TLS")
    tcp: Address | None = _option("8007", address, "ADDR", LISTENERS, "raw TCP echo (RFC 862)")
    tls: Address | None = _option("off", address, "ADDR", LISTENERS, "the same over TLS")
    udp: Address | None = _option("8007", inet_address, "ADDR", LISTENERS, "UDP echo (RFC 862)")
    admin: Address | None = _option(
        "off", address, "ADDR", LISTENERS, "serve /healthz, /readyz and /metrics here, and echo these paths elsewhere"
    )
    proxy_protocol: bool = _option(
        "off", on_or_off, "on|off", LISTENERS, "a PROXY preamble (v1 or v2) is required on all but UDP and --admin"
    )
    backlog: int = _option(
        "4096", _count, "N", LISTENERS, "connections that may wait to be accepted; the kernel caps it"
    )
    reuse_port: bool = _option(
        "on", on_or_off, "on|off", LISTENERS, "a socket for each worker (SO_REUSEPORT); off: one that all share"
    )
    unix_mode: int = _option(
        "0666", file_mode, "MODE", LISTENERS, "who may connect to a unix socket: the mode of its file"
    )
    tls_cert: str | None = _option("off", file, "FILE", TLS, "the certificate, and those up to its CA's, as PEM")
    tls_key: str | None = _option("off", file, "FILE", TLS, "its private key as PEM; off: it is in --tls-cert")
    tls_client_ca: str | None = _option(
        "off", file, "FILE", TLS, "clients must have a certificate of one of these CAs (PEM)"
    )
    tcp_mode: str = _option(
        "echo",
        _one_of("a mode", "echo", "discard", "chargen"),
        "MODE",
        FAULTS,
        "echo, discard (only read, RFC 863) or chargen (only send, RFC 864)",
    )
    tcp_delay: float = _option(
        "off", duration, "TIME", FAULTS, "each byte is sent back this long after it came; chargen: begins this late"
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
        "auto", _connections, "N", CONNECTIONS, "open connections a worker; auto: what its descriptor limit allows"
    )
    max_header: int = _option(
        "64KiB", _at_least(256), "SIZE", CONNECTIONS, "the longest HTTP header section; longer ones get 414 or 431"
    )
    max_body: int = _option(
        "off", size_or_off, "SIZE", CONNECTIONS, "the longest HTTP content; longer ones get 413; off: any length"
    )
    max_message: int = _option(
        "16MiB", _at_least(1), "SIZE", CONNECTIONS, "the longest WebSocket message; longer ones close with 1009"
    )
    buffer_limit: int = _option(
        "auto", _auto_or(1 << 16), "SIZE", MEMORY, "what is kept for one connection that does not read its echo"
    )
    buffer_total: int = _option(
        "auto",
        _auto_or(1 << 16),
        "SIZE",
        MEMORY,
        "the same for all connections of a worker; auto: what the memory limit allows",
    )
    header_timeout: float = _option(
        "10s",
        duration,
        "TIME",
        DEADLINES,
        "for an HTTP header section (then 408), a PROXY preamble, or a TLS handshake",
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
        _one_of("a format of the access log", "off", "text", "json"),
        "off|text|json",
        LOGS,
        "a line for each HTTP request, and each TCP and WebSocket connection, to stdout",
    )
    log_format: str = _option(
        "text",
        _one_of("a format", "text", "json"),
        "text|json",
        LOGS,
        "what the server's own lines on stderr look like",
    )
    log_level: str = _option(
        "info",
        _one_of("a level", *LEVELS),
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
        raise ConfigError("nothing to serve: --http, --https, --tcp, --tls and --udp are all off")
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


RESERVE = 128
"""Descriptors of a worker that are no connections: listeners, the loop's own, those being refused."""


def descriptor_limit() -> int:
    """RLIMIT_NOFILE, the soft limit raised to the hard one first."""
    import resource  # noqa: PLC0415 - not there on Windows, where a health check can be made

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def connection_limit(config: Config) -> int:
    """``--max-connections``, but no more than the descriptor limit leaves for connections."""
    most = max(1, descriptor_limit() - RESERVE)
    return min(config.max_connections or most, most)
