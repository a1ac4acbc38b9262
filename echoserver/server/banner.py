"""The start-up lines: what runs, with which limits, and where it listens."""

import importlib.util
import resource
import sys
from collections.abc import Sequence

from echoserver import __version__
from echoserver.config import limits, memory, values
from echoserver.config import options as config
from echoserver.observe import metrics
from echoserver.observe.logs import log
from echoserver.sockets import listeners, systemd
from echoserver.wire import ordinary
from echoserver.wire.request import BROWSER_PAGE
from echoserver.worker import process


def build(settings: config.Config) -> dict[str, str]:
    """What is running, by name: echoserver, Python, the event loop, httptools, and whether compiled.c was compiled."""
    import httptools  # noqa: PLC0415 - only for its version

    loop = "asyncio"
    if settings.loop != "asyncio" and importlib.util.find_spec("uvloop"):
        import uvloop  # noqa: PLC0415 - not there on every platform

        loop = f"uvloop {uvloop.__version__}"  # type: ignore[attr-defined]  # it is there
    return {
        "version": __version__, "python": f"{sys.implementation.name} {sys.version.split()[0]}",
        "loop": loop, "httptools": httptools.__version__, "compiled": "yes" if ordinary.scan_in_c else "no",
    }  # fmt: skip


def announce(settings: config.Config, reservation: listeners.Reservation) -> None:
    """The start-up lines: versions, limits, each listener, and that all is ready."""
    built = build(settings)
    connections = limits.connection_limit(settings.max_connections)
    log.info(
        "%s on %s, %s, httptools %s; %s%s, at most %d connections (%d descriptors%s) each",
        built["version"], built["python"], built["loop"], built["httptools"],
        workers(settings), _affinity(settings),
        connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        f"; {settings.max_connections} asked for" if settings.max_connections > connections else "",
    )  # fmt: skip
    extras = {
        "compiled": built["compiled"] == "yes", "metrics": metrics.available(),
        "websocket": importlib.util.find_spec("websockets") is not None,
    }  # fmt: skip
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
            return f"{each.protocol}://{values.Address(here, port)}{BROWSER_PAGE.decode()}"
    return None


def workers(settings: config.Config) -> str:
    return "1 worker" if settings.workers == 1 else f"{settings.workers} workers"


def _affinity(settings: config.Config) -> str:
    if not settings.cpu_affinity:
        return ""
    return f" on CPU {', '.join(str(cpu) for cpu in process.cpus(settings.workers))}"
