"""The parent of the workers: starts them, replaces them, passes signals on, and waits for what can happen."""

import contextlib
import importlib.util
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from echoserver import __version__
from echoserver.config import memory
from echoserver.config import options as config
from echoserver.observe import logs, metrics
from echoserver.observe.counters import Board
from echoserver.observe.logs import log
from echoserver.sockets import listeners, systemd
from echoserver.wire.request import BROWSER_PAGE
from echoserver.worker import entries, worker

if TYPE_CHECKING:
    import ssl

OK, FAILED, NOT_STARTED = 0, 1, 3

_SHORT_LIFE = 2.0  # seconds: a worker that ends sooner died at its start
_SHORT_LIVES = 5  # so many of them in a row, and none that lived: there is no use in going on
_GRACE = 2.0  # seconds a worker may take to end after its drain timeout


def serve(settings: config.Config, notes: Sequence[str] = ()) -> int:
    """Serve until a signal; returns the exit code. notes: what there is to warn of in how it was started."""
    logs.configure(settings.log_format, settings.log_level)
    for note in notes:
        log.warning("%s", note)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    if settings.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        log.error("--loop uvloop: uvloop is not installed")
        return NOT_STARTED
    limit = settings.memory_limit
    if limit is not None and limit < memory.least(settings.workers):
        log.error(
            "cannot start: %s of memory (the control group's limit) is too little for %s: "
            "expected at least %s%s, or --buffer-total SIZE, which turns this check off",
            memory.said(limit), _workers(settings), memory.said(memory.least(settings.workers)),
            "" if settings.workers == 1 else f", or --workers {memory.workers_within(limit)}",
        )  # fmt: skip
        return NOT_STARTED
    reservation = None
    try:
        contexts = _contexts(settings)
        reservation = listeners.Reservation(settings)
        exposition = metrics.Exposition(_build(settings)) if metrics.available() else None
        entries.websocket_upgrade(settings)
        common = worker.Common(Board(settings.workers), contexts, exposition)
        run = (
            _alone(settings, reservation, common)
            if settings.workers == 1
            else Supervisor(settings, reservation, common).run
        )
    except (listeners.CannotListen, config.CannotLoad) as error:
        log.error("%s", error)
        return NOT_STARTED
    except Exception as error:  # noqa: BLE001 - without memory an import, a codec or a thread may fail as it likes
        log.error("cannot start: %s", logs.reason(error))
        if reservation is not None:
            reservation.close()
        return NOT_STARTED
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - a fault of our own: one line, no traceback
        log.error("failed: %r", error)
        return FAILED
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)  # how it has ended is settled
        reservation.close()


def _contexts(settings: config.Config) -> "dict[str, ssl.SSLContext]":
    """The TLS contexts that are needed. Raises CannotLoad."""
    if settings.https is None and settings.tls is None:
        return {}
    from echoserver.layers import tls_context as tls  # noqa: PLC0415 - it is not needed otherwise

    return tls.contexts(settings)


def _alone(settings: config.Config, reservation: listeners.Reservation, common: worker.Common) -> Callable[[], int]:
    """The only worker, in this process: what serves until a signal, and returns the exit code. Raises as it opens."""
    only = worker.open_worker(settings, reservation, common)

    def reload() -> None:
        if only.stopping:
            return
        systemd.reloading()
        try:
            common.contexts.update(_contexts(settings))
            log.info(
                "reloaded: certificates were read again"
                if common.contexts
                else "reloaded: there are no certificates to read"
            )
        except config.CannotLoad as error:
            log.error("certificates were not reloaded, those in use stay: %s", error)
        systemd.notify("READY=1")

    def run() -> int:
        _announce(settings, reservation)
        return worker.serve_alone(only, reload, lambda: systemd.notify("STOPPING=1"))

    return run


def _build(settings: config.Config) -> dict[str, str]:
    """What is running, by name: echoserver, Python, the event loop and httptools."""
    import httptools  # noqa: PLC0415 - only for its version

    loop = "asyncio"
    if settings.loop != "asyncio" and importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415 - not there on every platform

        loop = f"uvloop {uvloop.__version__}"  # type: ignore[attr-defined]  # it is there
    return {
        "version": __version__, "python": f"{sys.implementation.name} {sys.version.split()[0]}",
        "loop": loop, "httptools": httptools.__version__,
    }  # fmt: skip


def _announce(settings: config.Config, reservation: listeners.Reservation) -> None:
    """The start-up lines: versions, limits, each listener, and that all is ready."""
    build = _build(settings)
    connections = config.connection_limit(settings)
    log.info(
        "%s on %s, %s, httptools %s; %s%s, at most %d connections (%d descriptors%s) each",
        build["version"], build["python"], build["loop"], build["httptools"],
        _workers(settings), _affinity(settings),
        connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        f"; {settings.max_connections} asked for" if settings.max_connections > connections else "",
    )  # fmt: skip
    extras = {"metrics": metrics.available(), "websocket": importlib.util.find_spec("websockets") is not None}
    page = _page(settings, reservation.endpoints)
    log.info(
        "extras: %s%s", ", ".join(name for name, there in extras.items() if there) or "none",
        f"; page for browsers: {page}" if page else "",
    )  # fmt: skip
    limit = settings.memory_limit
    log.info(
        "memory: at most %s are kept for a connection, %s for all of a worker%s",
        memory.said(settings.buffer_limit), memory.said(settings.buffer_total),
        "" if limit is None else f", of {memory.said(limit)} (the control group's limit)",
    )  # fmt: skip
    for line in reservation.descriptions:
        log.info("%s", line)
    log.info("ready")
    systemd.notify("READY=1")


def _page(settings: config.Config, endpoints: Sequence[listeners.Endpoint]) -> str | None:
    """The URL of the page for browsers, where one can be opened."""
    if not settings.controls or settings.proxy_protocol:
        return None
    for each in endpoints:
        if each.protocol in {"http", "https"} and not isinstance(each.sockaddr, str):
            host, port = each.sockaddr[:2]
            here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            return f"{each.protocol}://{config.Address(here, port)}{BROWSER_PAGE.decode()}"
    return None


def _workers(settings: config.Config) -> str:
    return "1 worker" if settings.workers == 1 else f"{settings.workers} workers"


def _affinity(settings: config.Config) -> str:
    if not settings.cpu_affinity:
        return ""
    return f" on CPU {', '.join(str(cpu) for cpu in worker.cpus(settings.workers))}"


class _Child:
    """A worker's process as its parent sees it: a socket to it, its row of counters, and when it was started."""

    def __init__(  # noqa: PLR0917 - made in one place
        self, pid: int, number: int, row: int, channel: socket.socket, generation: int, replaces: "_Child | None"
    ) -> None:
        self.pid = pid
        self.number = number
        self.row = row
        self.channel = channel
        self.generation = generation  # how many reloads had begun when it was started
        self.replaces = replaces  # the process that is to retire when this one is ready
        self.started = time.monotonic()
        self.ready = self.retiring = False
        self.accepting = True  # until it says that it is leaving


class Supervisor:
    """Starts as many workers as asked for and keeps that number, until a signal. Making one may raise OSError."""

    def __init__(self, settings: config.Config, reservation: listeners.Reservation, common: worker.Common) -> None:
        self._config = settings
        self._reservation = reservation
        self._common = common
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._signals: list[int] = []
        self._announced = self._stopping = self._at_once = self._reloading = self._reload_failed = False
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._short_lives = 0
        self._exit_code = OK
        self._generation = 0
        self._to_replace: list[int] = []  # the numbers of workers that a reload has still to come to

    def run(self) -> int:
        """Supervise until the last worker has ended; returns the exit code."""
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(each, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
        try:
            for number in range(self._config.workers):
                self._start(number)
        except OSError as error:
            log.error("cannot start a worker: %s", logs.reason(error))
            self._give_up()
        while self._children or not self._stopping:
            events = self._selector.select(self._patience())
            with contextlib.suppress(BlockingIOError):
                self._wake_read.recv(4096)
            self._take_signals()  # first: where all processes have got one, a worker that leaves is not to be replaced
            for key, _ in events:
                if key.data is not None:
                    self._hear(key.data)
            self._reap()
            self._keep_time()
        if not self._exit_code and not self._at_once:
            log.info(worker.DRAINED)
        return self._exit_code

    def _on_signal(self, number: int, _: Any) -> None:
        self._signals.append(number)

    # --- processes ---

    def _start(self, number: int, replaces: _Child | None = None) -> bool:
        """Start a process for a worker, unless there is no more use for one. False: it has as many as it may have.

        Raises OSError where the kernel has none to give.
        """
        if self._stopping:
            return True
        row = self._common.board.take(number)
        if row is None:
            return False
        try:
            pid, channel = self._fork(number, row)
        except OSError:
            self._common.board.retire(row)
            raise
        child = self._children[pid] = _Child(pid, number, row, channel, self._generation, replaces)
        self._selector.register(channel, selectors.EVENT_READ, child)
        return True

    def _fork(self, number: int, row: int) -> tuple[int, socket.socket]:
        """A process that serves, and the socket to it."""
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)  # until the worker's loop runs
        try:
            pid = os.fork()
            if not pid:
                os._exit(self._be_worker(number, row, ours, theirs))
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
            theirs.close()
        ours.setblocking(False)
        return pid, ours

    def _be_worker(self, number: int, row: int, ours: socket.socket, theirs: socket.socket) -> int:
        """In the child: serve, and return the exit code."""
        try:
            signal.set_wakeup_fd(-1)
            for each in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all; the supervisor says what to do
                signal.signal(each, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            logs.configure(self._config.log_format, self._config.log_level, number)
            self._selector.close()
            ours.close()
            for sibling in self._children.values():
                sibling.channel.close()
            theirs.setblocking(False)
            opened = worker.open_worker(self._config, self._reservation, self._common, number, row)
            return worker.serve_for(theirs, opened)
        except (OSError, MemoryError) as error:
            log.error("cannot start: %s", logs.reason(error))
            return NOT_STARTED
        except Exception as error:  # noqa: BLE001 - nothing may get past os._exit
            log.error("a worker failed: %r", error)
            return FAILED

    def _reap(self) -> None:
        """Bury the dead: workers, and as process 1 whoever else was left to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(child.channel)
                child.channel.close()
                self._common.board.retire(child.row)
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        if self._stopping:
            if code:
                self._exit_code = self._exit_code or FAILED
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        successor = next((each for each in self._children.values() if each.replaces is child), None)
        if child.retiring or successor is not None:
            if code:
                log.warning("worker %d, which is being replaced, %s", child.pid, how)
            if successor is not None:
                successor.replaces = None
            self._replace_next()
            return
        if child.replaces is not None:
            self._not_reloaded(f"worker {child.pid} {how} at its start, the former one goes on")
            self._to_replace.clear()
            if child.replaces.retiring:  # it does not: somebody has told it to end meanwhile
                self._restart(child.number)
            self._replace_next()
            return
        short = time.monotonic() - child.started < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0
        if not self._announced or self._short_lives >= _SHORT_LIVES:
            log.error("worker %d %s at its start: giving up", child.pid, how)
            self._give_up()
            return
        log.warning("worker %d %s: starting another", child.pid, how)
        self._common.board.count_restart(child.number)
        self._later(0.1 * 2**self._short_lives if self._short_lives > 1 else 0.0, lambda: self._restart(child.number))
        self._replace_next()

    def _restart(self, number: int) -> None:
        try:
            if self._start(number):
                return
        except OSError as error:
            log.error("cannot start another worker: %s", logs.reason(error))
        else:  # so many former processes still serve that there is no room for another: the oldest has to go
            former = [child for child in self._children.values() if child.number == number]
            self._tell(min(former, key=lambda child: child.started), worker.DRAIN)
        self._later(1.0, lambda: self._restart(number))

    def _hear(self, child: _Child) -> None:
        """A worker said that it is ready, or closed its end of the channel: then it is about to end."""
        try:
            said = child.channel.recv(16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(child.channel)
            return
        child.ready = True
        if worker.LEAVING in said:
            self._leaves(child)
        if self._stopping:
            self._tell(child, worker.DRAIN)
        if not self._announced and not self._stopping and all(each.ready for each in self._children.values()):
            self._announced = True
            _announce(self._config, self._reservation)
        if child.replaces is not None and not self._stopping:
            self._tell(child.replaces, worker.RETIRE)
            child.replaces.retiring = True
            child.replaces = None
        self._replace_next()

    def _leaves(self, child: _Child) -> None:
        """Somebody has told a worker to end: another one is to accept at its sockets while it drains."""
        child.accepting = False
        if child.retiring or self._stopping:  # as it was told to
            return
        child.retiring = True
        if any(each.replaces is child for each in self._children.values()):
            return  # a reload has started it already
        log.warning("worker %d was told to end: starting another", child.pid)
        self._restart(child.number)

    @staticmethod
    def _tell(child: _Child, what: bytes) -> None:
        with contextlib.suppress(OSError):  # it has just ended
            child.channel.send(what)

    # --- signals and time ---

    def _take_signals(self) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGCHLD:
                continue
            if number == signal.SIGHUP:
                self._reload()
            elif self._stopping:
                self._at_once = True
                for child in self._children.values():
                    self._tell(child, worker.END)
                self._later(_GRACE, self._kill)
            else:
                log.info("draining")
                systemd.notify("STOPPING=1")
                self._stop()

    # --- a reload ---

    def _reload(self) -> None:
        """Read the certificates again, and replace all workers, one after the other."""
        if self._stopping or not self._announced:
            return
        systemd.reloading()
        try:
            self._common.contexts.update(_contexts(self._config))
        except config.CannotLoad as error:
            log.error("certificates were not reloaded, those in use stay: %s", error)
        self._generation += 1
        self._to_replace = list(range(self._config.workers))
        if not self._reloading:
            self._reloading = True
            log.info("reloading: %d workers are replaced", self._config.workers)
        self._reload_failed = False
        self._replace_next()

    def _replace_next(self) -> None:
        """Go on with a reload, if there is one: start the next successor, unless one that was started is not ready.

        It is over when nobody who comes is accepted by a former process.
        """
        while self._to_replace and not self._stopping:
            if any(child.replaces is not None for child in self._children.values()):
                return
            number = self._to_replace[0]
            serving = [child for child in self._children.values() if child.number == number and not child.retiring]
            # where there is none, the one that comes has what has been read now
            if serving and serving[0].generation != self._generation:
                if not serving[0].ready:
                    return
                self._succeed(serving[0])
            self._to_replace.pop(0)
        pending = (each.replaces is not None or (each.retiring and each.accepting) for each in self._children.values())
        if self._reloading and not any(pending):
            self._reloading = False
            if not self._reload_failed:
                log.info("reloaded")
            systemd.notify("READY=1")

    def _succeed(self, child: _Child) -> None:
        """Start the successor of a worker, which retires when that is ready."""
        try:
            if not self._start(child.number, child):
                self._not_reloaded(f"worker {child.number} has too many former processes that are still serving")
        except OSError as error:
            self._not_reloaded(f"cannot start another worker: {logs.reason(error)}")

    def _not_reloaded(self, why: str) -> None:
        self._reload_failed = True
        log.error("not reloaded: %s", why)

    def _stop(self) -> None:
        """Let all workers drain; the unix sockets that they share go when they stop to accept."""
        self._stopping = True
        for child in self._children.values():
            self._tell(child, worker.DRAIN)
        self._later(self._config.drain_delay, self._reservation.close)
        if self._config.drain_timeout:
            self._later(self._config.drain_delay + self._config.drain_timeout + _GRACE, self._kill)

    def _give_up(self) -> None:
        self._exit_code = NOT_STARTED
        self._stopping = True
        self._kill()

    def _kill(self) -> None:
        self._exit_code = self._exit_code or FAILED
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something in delay seconds."""
        self._timers.append((time.monotonic() + delay, action))

    def _patience(self) -> float | None:
        """Seconds until there is something to do without being woken."""
        return max(0.0, min(when for when, _ in self._timers) - time.monotonic()) if self._timers else None

    def _keep_time(self) -> None:
        now = time.monotonic()
        due = [action for when, action in self._timers if when <= now]
        self._timers = [timer for timer in self._timers if timer[0] > now]
        for action in due:
            action()
