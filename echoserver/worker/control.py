"""Who tells a worker what to do: signals, or its supervisor."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable

from echoserver.observe.logs import log
from echoserver.worker.channel import DRAIN, DRAINED, END, LEAVING, READY, RETIRE
from echoserver.worker.worker import Worker

_ORPHAN = 10.0  # seconds that a worker without a supervisor has to end where there is no drain timeout


def serve_alone(worker: Worker, reload: Callable[[], None], stopping: Callable[[], None]) -> int:
    """Run the only worker, in the main process: signals are its own.

    reload is what SIGHUP does; stopping is called when a drain begins.
    """

    at_once = False

    def on_signal() -> None:
        nonlocal at_once
        if worker.stopping:
            at_once = True
            worker.end_at_once()
        else:
            log.info("draining")
            stopping()
            worker.stop(worker.context.config.drain_delay, worker.context.config.drain_timeout)

    for number in (signal.SIGTERM, signal.SIGINT):
        worker.loop.add_signal_handler(number, on_signal)
    worker.loop.add_signal_handler(signal.SIGHUP, reload)
    if os.getpid() == 1:  # orphans come to us
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them from now on
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    code = worker.run()
    if not code and not at_once:
        log.info(DRAINED)
    return code


def serve_for(supervisor: socket.socket, worker: Worker) -> int:
    """Run one of several workers: it says READY, is told RETIRE, DRAIN or END, and ends when the supervisor is gone.

    It says LEAVING when it accepts nothing any more: it was told to retire, or somebody else has told it to end
    (SIGTERM), and then another one is started at once.
    """
    delay, timeout = worker.context.config.drain_delay, worker.context.config.drain_timeout

    def say_leaving() -> None:
        with contextlib.suppress(OSError):  # the supervisor has gone, which will be heard next
            supervisor.send(LEAVING)

    def told() -> None:
        try:
            what = supervisor.recv(16)
        except ConnectionResetError:  # it has gone without having read READY
            what = b""
        if END in what:
            worker.end_at_once()
        elif DRAIN in what:
            worker.stop(delay, timeout)
        elif RETIRE in what:
            worker.retire()
            worker.loop.call_soon(say_leaving)  # by then its listeners are closed
        else:
            worker.loop.remove_reader(supervisor)
            worker.stop(0.0, timeout or _ORPHAN)

    def leave() -> None:
        say_leaving()
        worker.stop(delay, timeout, alone=True)

    worker.loop.add_reader(supervisor, told)
    worker.loop.add_signal_handler(signal.SIGTERM, leave)
    supervisor.send(READY)
    return worker.run()
