"""The sockets that are listened on, and what the kernel made of what was asked for."""

import contextlib
import dataclasses
import errno
import itertools
import os
import socket
import stat

from echoserver.config import memory
from echoserver.config.limits import descriptor_limit
from echoserver.config.options import PROTOCOLS, Config, tcp_faults
from echoserver.config.values import Address, unix_path, unix_sockaddr
from echoserver.observe.logs import reason


class CannotListen(Exception):
    """An address can't be listened on; the message says which, and why. error: the kernel's, where it was that."""

    def __init__(self, message: str, error: OSError | None = None) -> None:
        super().__init__(message)
        self.error = error


_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""An address that this machine has not, or of a kind that its kernel has not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to bind, or that an inherited descriptor is bound to: what socket.bind() takes, or a unix path.

    name: what it was resolved from, where that has several.
    """

    protocol: str
    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int] | str
    inherited: int | None = None
    name: str | None = None

    def __str__(self) -> str:
        if isinstance(self.sockaddr, str):
            return f"{self.protocol} unix:{self.sockaddr}"
        return f"{self.protocol} {Address(self.sockaddr[0], self.sockaddr[1])}"

    @property
    def kind(self) -> socket.SocketKind:
        return socket.SOCK_DGRAM if self.protocol == "udp" else socket.SOCK_STREAM


def endpoints(config: Config) -> list[Endpoint]:
    """What the configuration asks to listen on, names resolved. Raises CannotListen."""
    found: list[Endpoint] = []
    for protocol in PROTOCOLS:
        address: Address | None = getattr(config, protocol)
        if address is None:
            continue
        if address.descriptors:
            for descriptor in address.descriptors:
                for other in found:
                    if other.inherited == descriptor:
                        taken = f"--{other.protocol} has this descriptor already"
                        raise CannotListen(f"cannot listen on {protocol} fd:{descriptor}: {taken}")
                found.append(_inherited(protocol, descriptor))
            continue
        if address.path is not None:
            found.append(Endpoint(protocol, socket.AF_UNIX, address.path))
            continue
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        try:
            # as bytes: Python would encode it with idna, whose tables take 1 MB, and names here are ASCII
            resolved = socket.getaddrinfo(
                (address.host or "").encode(), address.port, type=kind, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise CannotListen(f"cannot listen on {protocol} {address}: {error.strerror or error}") from None
        addresses = dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in resolved)
        name = address.host if len(addresses) > 1 else None
        for family, sockaddr in addresses:
            found.append(Endpoint(protocol, family, sockaddr, name=name))  # type: ignore[arg-type]  # typeshed: also without IPv6
    return found


def bind(endpoint: Endpoint, *, shared: bool = False, reuse: bool = True, mode: int = 0o666) -> socket.socket:
    """A bound socket, not listening yet. Raises CannotListen.

    shared: others of ours are bound to the same address (SO_REUSEPORT). reuse: nobody listens there is enough, there
    may be sockets of old connections (SO_REUSEADDR); but two that do not listen yet may then both be bound. mode: that
    of a unix socket's file.
    """
    try:
        bound = socket.socket(endpoint.family, endpoint.kind)
    except OSError as error:
        raise _cannot_listen(endpoint, error) from None
    try:
        bound.setblocking(False)
        if endpoint.family == socket.AF_UNIX:
            _bind_unix(bound, str(endpoint.sockaddr), mode)
            return bound
        if endpoint.kind == socket.SOCK_STREAM and reuse:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
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
    return CannotListen(f"cannot listen on {endpoint}: {_reason(error)}", error)


def _reason(error: OSError) -> str:
    """Why, in the system's words; where there are too few descriptors, how many there are."""
    if error.errno != errno.EMFILE:
        return reason(error)
    return f"{reason(error)} ({descriptor_limit()} at most, RLIMIT_NOFILE)"


def _bind_unix(bound: socket.socket, path: str, mode: int) -> None:
    """Bind to a path, or to an abstract socket's @name. Raises OSError.

    The file has its mode from its first moment on: what the umask takes away it never had, and a chmod() would be late.
    """
    if not path.startswith("@"):
        _remove_stale(path)
    before = os.umask(0o777 & ~mode)
    try:
        bound.bind(unix_sockaddr(path))
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens on any more. Raises OSError where it is something else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(None, "the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """A socket that a worker serves on. own: no other worker has it, and nobody else keeps it for the next server."""

    endpoint: Endpoint
    socket: socket.socket
    own: bool


class Reservation:
    """Every socket, opened before there are workers: addresses that are taken show now, and port 0 is settled.

    Each worker has sockets of its own on the same addresses (SO_REUSEPORT), or shares one with all others: unix sockets
    and inherited ones, and any where --reuse-port is off. They stay open here as long as the server serves: who waits
    to be accepted by a worker that ends, or dies, waits for the one that replaces it.
    """

    def __init__(self, config: Config) -> None:
        self._workers = config.workers
        self._apart = config.workers > 1 and config.reuse_port
        self.endpoints: list[Endpoint] = []
        self._sockets: list[list[socket.socket]] = []
        self.descriptions: list[str] = []
        self._unix: list[tuple[str, int]] = []
        self._owner = os.getpid()
        self._faults = tcp_faults(config)
        self._unix_mode = config.unix_mode
        limit = config.memory_limit
        self._buffer = None if limit is None else memory.socket_buffer(limit, config.workers)
        ports: dict[str, int] = {}
        try:
            for (_, name), several in itertools.groupby(endpoints(config), lambda each: (each.protocol, each.name)):
                if name is None:
                    for endpoint in several:
                        self._reserve(endpoint, config.backlog, ports)
                else:
                    self._reserve_some(list(several), config.backlog, ports)
        except BaseException:
            self.close()
            raise

    def _reserve_some(self, several: list[Endpoint], backlog: int, ports: dict[str, int]) -> None:
        """The addresses of a name: those that this machine has not are left out, unless it has none of them.

        "localhost" is one that often has ::1 in the hosts file, where the machine, or a container, has no IPv6.
        """
        left_out: list[CannotListen] = []
        for endpoint in several:
            try:
                self._reserve(endpoint, backlog, ports)
            except CannotListen as failure:
                if failure.error is None or failure.error.errno not in _NOT_HERE:
                    raise
                del self._sockets[-1], self.endpoints[-1]
                left_out.append(failure)
                left = f"left out: {endpoint}, an address of {endpoint.name}: {_reason(failure.error)}"
                self.descriptions.append(left)
        if len(left_out) == len(several):
            raise left_out[0]

    def _reserve(self, endpoint: Endpoint, backlog: int, ports: dict[str, int]) -> None:
        if not isinstance(endpoint.sockaddr, str) and not endpoint.sockaddr[1] and endpoint.protocol in ports:
            # a name with several addresses: port 0 is the same one for all of them
            sockaddr = (endpoint.sockaddr[0], ports[endpoint.protocol], *endpoint.sockaddr[2:])
            endpoint = dataclasses.replace(endpoint, sockaddr=sockaddr)
        unix = endpoint.family == socket.AF_UNIX
        sockets: list[socket.socket] = []
        self._sockets.append(sockets)
        self.endpoints.append(endpoint)
        if endpoint.inherited is not None:
            sockets.append(socket.socket(fileno=endpoint.inherited))
            sockets[0].setblocking(False)
        elif self._apart and not unix:
            probe = self._bind_alone(endpoint)
            self.endpoints[-1] = endpoint = dataclasses.replace(endpoint, sockaddr=probe.getsockname())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # that nobody is there is known: now for ours
            with probe:
                for _ in range(self._workers):
                    sockets.append(bind(endpoint, shared=True))
        else:
            sockets.append(bind(endpoint, mode=self._unix_mode))
            if unix:
                self._keep_file(str(endpoint.sockaddr))
            else:
                self.endpoints[-1] = endpoint = dataclasses.replace(endpoint, sockaddr=sockets[0].getsockname())
        if not unix:
            ports[endpoint.protocol] = sockets[0].getsockname()[1]
        if endpoint.kind == socket.SOCK_STREAM:
            for each in sockets:
                if self._buffer is not None and not unix:  # connections have from their listener what it has
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
                    # SO_SNDBUF smaller than a segment has each wait for a delayed ACK (Linux 6.18, loopback)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self._buffer)
                listen(endpoint, each, backlog)
        settings = self._faults if endpoint.protocol in {"tcp", "tls"} else []
        if any(path == endpoint.sockaddr for path, _ in self._unix):
            settings = [*settings, f"mode {self._unix_mode:04o}"]
        settings = settings + _effective(endpoint, sockets[0], backlog, self._workers, len(sockets))
        self.descriptions.append(f"listening: {endpoint}, {', '.join(settings)}")

    def _keep_file(self, path: str) -> None:
        """A unix socket's file is to be removed at the end, unless another one is in its place by then."""
        if not path.startswith("@"):
            self._unix.append((path, os.stat(path).st_ino))

    @staticmethod
    def _bind_alone(endpoint: Endpoint) -> socket.socket:
        """A socket that keeps a port without listening; no other server may have the same one at the same time."""
        if endpoint.kind == socket.SOCK_DGRAM:
            return bind(endpoint)
        try:
            return bind(endpoint, reuse=False)
        except CannotListen:  # a server, or only what is left of old connections? Who listens knows
            probe = bind(endpoint)
            listen(endpoint, probe, 1)
            probe.close()
            return bind(endpoint)

    def of_worker(self, number: int) -> list[Listener]:
        """What a worker serves on, in its own process: the sockets of the other workers are closed there."""
        found = []
        for endpoint, sockets in zip(self.endpoints, self._sockets, strict=True):
            own = number if len(sockets) > 1 else 0
            for other in sockets[:own] + sockets[own + 1 :]:
                other.close()
            alone = self._workers == 1 or len(sockets) > 1
            found.append(Listener(endpoint, sockets[own], alone and endpoint.inherited is None))
        return found

    def close(self) -> None:
        """Close everything, and remove the unix sockets that are ours."""
        for sockets in self._sockets:
            for each in sockets:
                each.close()
        if os.getpid() == self._owner:
            for path, inode in self._unix:
                with contextlib.suppress(OSError):
                    if os.stat(path).st_ino == inode:
                        os.unlink(path)


def _inherited(protocol: str, descriptor: int) -> Endpoint:
    """What an inherited descriptor is bound to. Raises CannotListen where it is no socket for the protocol."""
    where = f"cannot listen on {protocol} fd:{descriptor}"
    try:
        copy = os.dup(descriptor)
    except OSError:
        raise CannotListen(f"{where}: there is no such descriptor") from None
    try:
        given = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise CannotListen(f"{where}: it is not a socket") from None
    with given:
        kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
        if given.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) or given.type != kind:
            raise CannotListen(f"{where}: it is not a {'datagram' if protocol == 'udp' else 'stream'} socket")
        sockaddr = given.getsockname()
        if given.family == socket.AF_UNIX:
            sockaddr = unix_path(sockaddr)
        if given.family == socket.AF_UNIX and protocol == "udp":
            raise CannotListen(f"{where}: it is a unix socket, expected a UDP socket")
        if not sockaddr or (given.family != socket.AF_UNIX and not sockaddr[1]):
            raise CannotListen(f"{where}: it is not bound to an address")
        with contextlib.suppress(OSError):
            given.getpeername()
            raise CannotListen(f"{where}: it is a connection, not a socket that listens")
    return Endpoint(protocol, given.family, sockaddr, descriptor)


def _effective(endpoint: Endpoint, bound: socket.socket, backlog: int, workers: int, sockets: int) -> list[str]:
    """The settings of its sockets that are in effect, in words."""
    settings = []
    if endpoint.inherited is not None:
        settings.append(f"inherited as descriptor {endpoint.inherited}")
    if workers > 1:
        settings.append(f"{sockets} sockets" if sockets > 1 else "one socket for all workers")
    if endpoint.kind == socket.SOCK_STREAM:
        cap = _somaxconn()
        settings.append(
            f"backlog {cap} (net.core.somaxconn; {backlog} asked for)" if cap < backlog else f"backlog {backlog}"
        )
    return [
        *settings,
        f"receive buffer {bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)}",
        f"send buffer {bound.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)}",
    ]


def _somaxconn() -> int:
    """The kernel's cap on a backlog; where it can't be read, none."""
    try:
        with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return 1 << 31
