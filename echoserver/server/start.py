"""The start of a server: checks, listeners, and then one worker here or several under a supervisor."""

import importlib.util
import signal
from collections.abc import Callable, Sequence

from echoserver.config import memory, values
from echoserver.config import options as config
from echoserver.exit_codes import FAILED, NOT_STARTED
from echoserver.observe import logs, metrics
from echoserver.observe.counters import SharedCounters
from echoserver.observe.logs import log
from echoserver.server.banner import announce, build, workers
from echoserver.server.certificates import contexts
from echoserver.server.supervisor import Supervisor
from echoserver.sockets import listeners, systemd
from echoserver.worker import control, entries, process
from echoserver.worker.channel import SIGNALS
from echoserver.worker.shared import Shared


def serve(settings: config.Config, notes: Sequence[str] = ()) -> int:
    """Serve until a signal; returns the exit code. notes: what there is to warn of in how it was started."""
    logs.configure(settings.log_format, settings.log_level)
    for note in notes:
        log.warning("%s", note)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if settings.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        log.error("--loop uvloop: uvloop is not installed")
        return NOT_STARTED
    limit = settings.memory_limit
    if limit is not None and limit < memory.least(settings.workers):
        log.error(
            "cannot start: %s of memory (the control group's limit) is too little for %s: "
            "expected at least %s%s, or --buffer-total SIZE, which turns this check off",
            memory.said(limit), workers(settings), memory.said(memory.least(settings.workers)),
            "" if settings.workers == 1 else f", or --workers {memory.workers_within(limit)}",
        )  # fmt: skip
        return NOT_STARTED
    reservation = None
    try:
        tls = contexts(settings)
        reservation = listeners.Reservation(settings)
        exposition = metrics.Exposition(build(settings)) if metrics.available() else None
        if settings.workers > 1:  # what they have in common is imported before they are forked
            entries.websocket_upgrade(settings)
            entries.http2(settings)
            if exposition is not None:
                exposition.prepare()
        shared = Shared(SharedCounters(settings.workers), tls, exposition)
        run = (
            _alone(settings, reservation, shared)
            if settings.workers == 1
            else Supervisor(settings, reservation, shared).run
        )
    except (listeners.CannotListen, values.CannotLoad) as error:
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
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # how it has ended is settled
        reservation.close()


def _alone(settings: config.Config, reservation: listeners.Reservation, shared: Shared) -> Callable[[], int]:
    """The only worker, in this process: what serves until a signal, and returns the exit code. Raises as it opens."""
    only = process.open_worker(settings, reservation, shared)

    def reload() -> None:
        if only.stopping:
            return
        systemd.reloading()
        try:
            shared.contexts.update(contexts(settings))
            log.info(
                "reloaded: certificates were read again"
                if shared.contexts
                else "reloaded: there are no certificates to read"
            )
        except values.CannotLoad as error:
            log.error("certificates were not reloaded, those in use stay: %s", error)
        systemd.notify("READY=1")

    def run() -> int:
        announce(settings, reservation)
        return control.serve_alone(only, reload, lambda: systemd.notify("STOPPING=1"))

    return run
