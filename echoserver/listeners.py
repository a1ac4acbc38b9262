"""The sockets that are listened on, and what the kernel made of what was asked for."""

import contextlib
import dataclasses
import os
import socket
import stat

from echoserver.config import Address, Config


class CannotListen(Exception):
    """An address can't be listened on; the message says which, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to bind: protocol is http, tcp or udp; sockaddr is what socket.bind() takes."""

    protocol: str
    family: socket.AddressFamily
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | str

    def __str__(self) -> str:
        if isinstance(self.sockaddr, str):
            return f"{self.protocol} unix:{self.sockaddr}"
        return f"{self.protocol} {Address(self.sockaddr[0], self.sockaddr[1])}"

    @property
    def kind(self) -> socket.SocketKind:
        return socket.SOCK_DGRAM if self.protocol == "udp" else socket.SOCK_STREAM


def endpoints(config: Config) -> list[Endpoint]:
    """What the configuration asks to listen on, names resolved. Raises CannotListen."""
    found = []
    for protocol in ("http", "tcp", "udp"):
        address: Address | None = getattr(config, protocol)
        if address is None:
            continue
        if address.path is not None:
            found.append(Endpoint(protocol, socket.AF_UNIX, address.path))
            continue
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        try:
            resolved = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise CannotListen(f"cannot listen on {protocol} {address}: {error.strerror or error}") from None
        for family, _, _, _, sockaddr in resolved:
            endpoint = Endpoint(protocol, family, sockaddr)  # type: ignore[arg-type]  # typeshed: also without IPv6
            if endpoint not in found:
                found.append(endpoint)
    return found


def bind(endpoint: Endpoint, *, shared: bool = False, reuse: bool = True) -> socket.socket:
    """A bound socket, not listening yet. Raises CannotListen.

    shared: others of ours are bound to the same address (SO_REUSEPORT). reuse: nobody listens there is enough, there
    may be sockets of old connections (SO_REUSEADDR); but two that do not listen yet may then both be bound.
    """
    bound = socket.socket(endpoint.family, endpoint.kind)
    try:
        bound.setblocking(False)
        if endpoint.family == socket.AF_UNIX:
            _remove_stale(str(endpoint.sockaddr))
        elif endpoint.kind == socket.SOCK_STREAM and reuse:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and endpoint.family != socket.AF_UNIX:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.family == socket.AF_INET6:  # "::" stands for all addresses, of both families
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, endpoint.sockaddr[0] != "::")
        bound.bind(endpoint.sockaddr)
    except OSError as error:
        bound.close()
        raise _cannot_listen(endpoint, error) from None
    return bound


def listen(endpoint: Endpoint, bound: socket.socket, backlog: int) -> None:
    """Begin to listen on a stream socket. Raises CannotListen: uvloop (0.23.0) would say nothing."""
    try:
        bound.listen(backlog)
    except OSError as error:
        bound.close()
        raise _cannot_listen(endpoint, error) from None


def _cannot_listen(endpoint: Endpoint, error: OSError) -> CannotListen:
    return CannotListen(f"cannot listen on {endpoint}: {(error.strerror or str(error)).lower()}")


def _remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens on any more. Raises OSError where it is something else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(None, "the file exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


class Reservation:
    """Every endpoint bound once, before there are workers: addresses that are taken show now, and port 0 is settled.

    With several workers each binds sockets of its own to the same addresses; what is held here only keeps the ports.
    One worker takes these very sockets. A unix socket can't be bound twice: all workers accept from this one.
    """

    def __init__(self, config: Config) -> None:
        self.shared = config.workers > 1
        self.endpoints: list[Endpoint] = []
        self.sockets: list[socket.socket] = []
        self.descriptions: list[str] = []
        self._unix: list[tuple[str, int]] = []
        self._owner = os.getpid()
        ports: dict[str, int] = {}
        try:
            for endpoint in endpoints(config):
                self._reserve(endpoint, config.backlog, ports)
        except CannotListen:
            self.close()
            raise

    def _reserve(self, endpoint: Endpoint, backlog: int, ports: dict[str, int]) -> None:
        if not isinstance(endpoint.sockaddr, str) and not endpoint.sockaddr[1] and endpoint.protocol in ports:
            # a name with several addresses: port 0 is the same one for all of them
            sockaddr = (endpoint.sockaddr[0], ports[endpoint.protocol], *endpoint.sockaddr[2:])
            endpoint = dataclasses.replace(endpoint, sockaddr=sockaddr)
        stream, unix = endpoint.kind == socket.SOCK_STREAM, endpoint.family == socket.AF_UNIX
        bound = self._bind_alone(endpoint) if stream and self.shared and not unix else bind(endpoint)
        self.sockets.append(bound)
        if stream and (unix or not self.shared):
            listen(endpoint, bound, backlog)
        if unix:
            path = str(endpoint.sockaddr)
            self._unix.append((path, os.stat(path).st_ino))
        else:
            endpoint = dataclasses.replace(endpoint, sockaddr=bound.getsockname())
            ports[endpoint.protocol] = bound.getsockname()[1]
            if self.shared:  # that the address is free is known: others may bind it from now on
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.endpoints.append(endpoint)
        self.descriptions.append(_describe(endpoint, bound, backlog))

    @staticmethod
    def _bind_alone(endpoint: Endpoint) -> socket.socket:
        """A socket that keeps a port without listening; no other server may have the same one at the same time."""
        try:
            return bind(endpoint, reuse=False)
        except CannotListen:  # a server, or only what is left of old connections? Who listens knows
            probe = bind(endpoint)
            listen(endpoint, probe, 1)
            probe.close()
            return bind(endpoint)

    def for_worker(self) -> list[socket.socket]:
        """The sockets, in the order of endpoints, that the worker in this process serves on. Raises CannotListen."""
        if not self.shared:
            return self.sockets
        sockets = []
        for endpoint, held in zip(self.endpoints, self.sockets, strict=True):
            if endpoint.family == socket.AF_UNIX:
                sockets.append(held)
            else:
                sockets.append(bind(endpoint, shared=True))
                held.close()  # this process's copy: datagrams would be delivered to it
        return sockets

    def release(self, kind: socket.SocketKind) -> None:
        """Close what is held of a kind (datagrams would be delivered to it) once workers are bound to it."""
        for endpoint, held in zip(self.endpoints, self.sockets, strict=True):
            if self.shared and endpoint.kind == kind and endpoint.family != socket.AF_UNIX:
                held.close()

    def close(self) -> None:
        """Close everything, and remove the unix sockets that are ours."""
        for held in self.sockets:
            held.close()
        if os.getpid() == self._owner:
            for path, inode in self._unix:
                with contextlib.suppress(OSError):
                    if os.stat(path).st_ino == inode:
                        os.unlink(path)


def _describe(endpoint: Endpoint, bound: socket.socket, backlog: int) -> str:
    """The start-up line: protocol, address, and the settings in effect."""
    settings = []
    if endpoint.kind == socket.SOCK_STREAM:
        cap = _somaxconn()
        settings.append(
            f"backlog {cap} (net.core.somaxconn; {backlog} asked for)" if cap < backlog else f"backlog {backlog}"
        )
    settings += [
        f"receive buffer {bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)}",
        f"send buffer {bound.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)}",
    ]
    return f"listening: {endpoint}, {', '.join(settings)}"


def _somaxconn() -> int:
    """The kernel's cap on a backlog; where it can't be read, none."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 1 << 31
