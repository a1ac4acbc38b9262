"""The parent of the workers: starts them, replaces them, passes signals on, and waits for what can happen."""

import contextlib
import gc
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from echoserver.config import options as config
from echoserver.config import values
from echoserver.exit_codes import FAILED, NOT_STARTED, OK
from echoserver.observe import logs
from echoserver.observe.logs import log
from echoserver.server.banner import announce
from echoserver.server.certificates import contexts
from echoserver.sockets import listeners, systemd
from echoserver.worker import channel, control, process
from echoserver.worker.shared import Shared

_SHORT_LIFE = 2.0  # seconds: a worker that ends sooner died at its start
_SHORT_LIVES = 5  # so many of them in a row, and none that lived: there is no use in going on
_GRACE = 2.0  # seconds a worker may take to end after its drain timeout


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

    def __init__(self, settings: config.Config, reservation: listeners.Reservation, shared: Shared) -> None:
        self._config = settings
        self._reservation = reservation
        self._shared = shared
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, channel.SIGNALS)
        gc.collect()
        gc.freeze()  # else each worker's collector would write to all that workers have in common, and so copy it
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
            log.info(channel.DRAINED)
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
        row = self._shared.board.take(number)
        if row is None:
            return False
        try:
            pid, channel = self._fork(number, row)
        except OSError:
            self._shared.board.retire(row)
            raise
        child = self._children[pid] = _Child(pid, number, row, channel, self._generation, replaces)
        self._selector.register(channel, selectors.EVENT_READ, child)
        return True

    def _fork(self, number: int, row: int) -> tuple[int, socket.socket]:
        """A process that serves, and the socket to it."""
        ours, theirs = socket.socketpair()
        signal.pthread_sigmask(signal.SIG_BLOCK, channel.SIGNALS)  # until the worker's loop runs
        try:
            pid = os.fork()
            if not pid:
                os._exit(self._be_worker(number, row, ours, theirs))
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, channel.SIGNALS)
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
            opened = process.open_worker(self._config, self._reservation, self._shared, number, row)
            return control.serve_for(theirs, opened)
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
                self._shared.board.retire(child.row)
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
        self._shared.board.count_restart(child.number)
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
            self._tell(min(former, key=lambda child: child.started), channel.DRAIN)
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
        if channel.LEAVING in said:
            self._leaves(child)
        if self._stopping:
            self._tell(child, channel.DRAIN)
        if not self._announced and not self._stopping and all(each.ready for each in self._children.values()):
            self._announced = True
            announce(self._config, self._reservation)
        if child.replaces is not None and not self._stopping:
            self._tell(child.replaces, channel.RETIRE)
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
                    self._tell(child, channel.END)
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
            self._shared.contexts.update(contexts(self._config))
        except values.CannotLoad as error:
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
            self._tell(child, channel.DRAIN)
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
