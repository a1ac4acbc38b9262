"""The types of options: text in, value out, or a ConfigError that says what was expected."""

import dataclasses
import os
import re
import socket
from collections.abc import Callable
from typing import NoReturn


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


def auto_or(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        return 0 if text == "auto" else at_least(least)(text)

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


def at_least(least: int) -> Callable[[str], int]:
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


def some_time(text: str) -> float:
    """As duration(), where none would make no sense."""
    value = duration(text)
    if not value:
        raise ConfigError(f"{text!r} is no time: expected a number and a unit, as in 500ms, 10s, 2m")
    return value


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


def count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"{text!r} is not a count: expected a whole number from 1 to {_MOST}")
    return int(text)


def one_of(what: str, *choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigError(f"{text!r} is not {what}: expected {', '.join(choices[:-1])} or {choices[-1]}")
        return text

    return parse


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
