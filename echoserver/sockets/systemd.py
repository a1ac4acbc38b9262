"""What a service manager hands over and is told: sockets (sd_listen_fds(3)) and states (sd_notify(3))."""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from echoserver.config.options import PROTOCOLS
from echoserver.config.values import ConfigError, unix_sockaddr

_FIRST = 3  # SD_LISTEN_FDS_START
_PATIENCE = 0.5  # seconds that a manager has to make room for a state: nothing is served meanwhile


def passed(environment: Mapping[str, str]) -> dict[str, str]:
    """The listeners' options, as texts, that sockets passed by the manager stand for; empty where none are.

    A socket serves the protocol that it is named for (FileDescriptorName=, LISTEN_FDNAMES). Of those with another name
    a datagram socket serves UDP, the first stream socket HTTP and a second one raw TCP. Listeners that no socket was
    passed for are off. Raises ConfigError.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    try:
        count = int(environment.get("LISTEN_FDS", ""))
    except ValueError:
        raise ConfigError(f"LISTEN_FDS: {environment.get('LISTEN_FDS', '')!r} is not a number") from None
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    unnamed = []
    for number in range(count):
        name = names[number] if number < len(names) else ""
        if name in PROTOCOLS:
            found.setdefault(name, []).append(_FIRST + number)
        else:
            unnamed.append(_FIRST + number)
    free = [name for name in ("http", "tcp") if name not in found]
    for descriptor in unnamed:
        name = "udp" if _is_datagram(descriptor) else free.pop(0) if free else ""
        if not name:
            raise ConfigError(
                f"LISTEN_FDS: descriptor {descriptor} has no name that says what it is for: "
                f"expected FileDescriptorName= to be one of {', '.join(PROTOCOLS)}"
            )
        found.setdefault(name, []).append(descriptor)
    given = {name: f"fd:{','.join(map(str, descriptors))}" for name, descriptors in found.items()}
    return dict.fromkeys(PROTOCOLS, "off") | given if given else {}


def _is_datagram(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as given:
            return given.type == socket.SOCK_DGRAM
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: descriptor {descriptor}: {(error.strerror or str(error)).lower()}") from None


def notify(*states: str) -> None:
    """Tell the manager a state, such as READY=1, where there is one that wants to know (NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.settimeout(_PATIENCE)
        manager.connect(unix_sockaddr(address))
        manager.send("\n".join(states).encode())


def reloading() -> None:
    """Tell the manager that a reload has begun; READY=1 says that it is done (Type=notify-reload)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
