"""The parent of the workers: starts them, replaces them, passes signals on, and waits for what can happen."""

import contextlib
import importlib.util
import logging
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from echoserver import __version__, config, listeners, worker

log = logging.getLogger("echoserver")

OK, FAILED, NOT_STARTED = 0, 1, 3

_SHORT_LIFE = 2.0  # seconds: a worker that ends sooner died at its start
_SHORT_LIVES = 5  # so many of them in a row, and none that lived: there is no use in going on
_GRACE = 2.0  # seconds a worker may take to end after its drain timeout


def serve(settings: config.Config) -> int:
    """Serve until a signal; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="echoserver: %(message)s")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    logging.raiseExceptions = False  # a stderr that is gone is no reason to stop
    if settings.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        log.error("--loop uvloop: uvloop is not installed")
        return NOT_STARTED
    try:
        reservation = listeners.Reservation(settings)
    except listeners.CannotListen as error:
        log.error("%s", error)
        return NOT_STARTED
    try:
        if settings.workers == 1:
            return _serve_alone(settings, reservation)
        return Supervisor(settings, reservation).run()
    except Exception as error:  # noqa: BLE001 - a fault of our own: one line, no traceback
        log.error("failed: %r", error)
        return FAILED
    finally:
        reservation.close()


def _serve_alone(settings: config.Config, reservation: listeners.Reservation) -> int:
    try:
        only = worker.open_worker(settings, reservation.endpoints, reservation.for_worker())
    except OSError as error:
        log.error("cannot start: %s", error.strerror or error)
        return NOT_STARTED
    _announce(settings, reservation)
    return worker.serve_alone(only)


def _announce(settings: config.Config, reservation: listeners.Reservation) -> None:
    """The start-up lines: versions, limits, each listener, and that all is ready."""
    import httptools  # noqa: PLC0415 - only for its version

    loop_name = "asyncio"
    if settings.loop != "asyncio" and importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415 - not there on every platform

        loop_name = f"uvloop {uvloop.__version__}"  # type: ignore[attr-defined]  # it is there
    processes = "1 worker" if settings.workers == 1 else f"{settings.workers} workers"
    log.info(
        "%s on %s %s, %s, httptools %s; %s, at most %d connections (%d descriptors) each",
        __version__, sys.implementation.name, sys.version.split()[0], loop_name, httptools.__version__, processes,
        config.connection_limit(settings), resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )  # fmt: skip
    for line in reservation.descriptions:
        log.info("%s", line)
    log.info("ready")


class _Child:
    """A worker's process as its parent sees it: a socket to it, and when it was started."""

    def __init__(self, pid: int, channel: socket.socket, now: float) -> None:
        self.pid = pid
        self.channel = channel
        self.started = now
        self.ready = False


class Supervisor:
    """Starts as many workers as asked for and keeps that number, until a signal."""

    def __init__(self, settings: config.Config, reservation: listeners.Reservation) -> None:
        self._config = settings
        self._reservation = reservation
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._announced = self._stopping = False
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._short_lives = 0
        self._exit_code = OK

    def run(self) -> int:
        """Supervise until the last worker has ended; returns the exit code."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        self._selector.register(wake_read, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
        for _ in range(self._config.workers):
            self._start()
        while self._children or not self._stopping:
            for key, _ in self._selector.select(self._patience()):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        wake_read.recv(4096)
                else:
                    self._hear(key.data)
            self._take_signals()
            self._reap()
            self._keep_time()
        return self._exit_code

    def _on_signal(self, number: int, _: Any) -> None:
        self._signals.append(number)

    # --- processes ---

    def _start(self) -> None:
        """Start a worker, unless there is no more use for one."""
        if self._stopping:
            return
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)  # until the worker's loop runs
        pid = os.fork()
        if not pid:
            os._exit(self._be_worker(ours, theirs))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
        theirs.close()
        ours.setblocking(False)
        child = self._children[pid] = _Child(pid, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _be_worker(self, ours: socket.socket, theirs: socket.socket) -> int:
        """In the child: serve, and return the exit code."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the supervisor says what to do
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            ours.close()
            for sibling in self._children.values():
                sibling.channel.close()
            theirs.setblocking(False)
            sockets = self._reservation.for_worker()
            opened = worker.open_worker(self._config, self._reservation.endpoints, sockets)
            return worker.serve_for(theirs, opened)
        except (listeners.CannotListen, OSError) as error:
            log.error("%s", error)
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
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, code: int) -> None:
        if self._stopping:
            if code:
                self._exit_code = self._exit_code or FAILED
            return
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        now = time.monotonic()
        short = now - child.started < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0
        if not self._announced or self._short_lives >= _SHORT_LIVES:
            log.error("worker %d %s at its start: giving up", child.pid, how)
            self._exit_code = NOT_STARTED
            self._stopping = True
            self._kill()
            return
        log.warning("worker %d %s: starting another", child.pid, how)
        self._later(0.1 * 2**self._short_lives if self._short_lives > 1 else 0.0, self._start)

    def _hear(self, child: _Child) -> None:
        """A worker said that it is ready, or closed its end of the channel: then it is about to end."""
        try:
            said = child.channel.recv(16)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(child.channel)
            return
        child.ready = True
        if self._stopping:
            self._tell(child, worker.DRAIN)
        if not self._announced and not self._stopping and all(each.ready for each in self._children.values()):
            self._announced = True
            self._reservation.release(socket.SOCK_DGRAM)
            _announce(self._config, self._reservation)

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
            if self._stopping:
                for child in self._children.values():
                    self._tell(child, worker.END)
                self._later(_GRACE, self._kill)
            else:
                log.info("draining")
                self._stop()

    def _stop(self) -> None:
        """Let all workers drain; the unix sockets that they share go when they stop to accept."""
        self._stopping = True
        for child in self._children.values():
            self._tell(child, worker.DRAIN)
        self._later(self._config.drain_delay, self._reservation.close)
        if self._config.drain_timeout:
            self._later(self._config.drain_delay + self._config.drain_timeout + _GRACE, self._kill)

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
