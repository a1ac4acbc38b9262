"""What the features cost that one may do without: the server with each of them, in turn with the same without any."""

import contextlib
import dataclasses
import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

from bench import arms, running
from bench.arms import Arm
from bench.compare import OURS, Method, Watcher, begin, measure
from bench.figures import Result
from bench.loads import Load
from bench.running import Running, Server
from echoserver import __version__

LOADS = ("post64", "get", "getpath", "pipe16", "post1m", "tcp64")

_SPOKEN = arms.ARMS[OURS].speaks
_INTERVAL = 1.0  # seconds between two scrapes
_NO_METRICS = "import sys; sys.modules['prometheus_client'] = None; from echoserver.cli import main; sys.exit(main())"


def compare(
    loads: Sequence[Load], method: Method, watcher: Watcher, keep: Callable[[Result], None] | None = None
) -> Result:
    """These loads on all ways of the server. Raises Missing where a client is."""
    result = begin(loads, method)
    measure(loads, list(ARMS), method, watcher, result, keep=keep)
    return result


def _arm(name: str, *options: str) -> Arm:
    def command(where: str, protocol: str, folder: Path) -> list[str]:
        return [*arms.echoserver(where, protocol, folder), *options]

    return Arm(name, _SPOKEN, command, lambda: __version__)


def _without_metrics(where: str, protocol: str, folder: Path) -> list[str]:
    """As it is where the extra is not installed."""
    python, _, _, *options = arms.echoserver(where, protocol, folder)
    return [python, "-c", _NO_METRICS, *options]


@contextlib.contextmanager
def _scraped(protocol: str, cpus: set[int]) -> Iterator[Running]:
    """The server, and somebody who asks for its metrics once a second."""
    done = threading.Event()
    with running.folder() as name:
        udp = protocol == "udp"
        where, admin = running.free_port(udp=udp), running.free_port()
        words = [*arms.echoserver(where, protocol, Path(name)), "--admin", f"127.0.0.1:{admin}"]
        with (
            Server("scraped", words, where, cpus, Path(name), udp=udp) as server,
            futures.ThreadPoolExecutor(1) as pool,
        ):
            scraping = pool.submit(_scrape, int(admin), done)
            try:
                yield server
            finally:
                done.set()
            scraping.result()  # a figure without its scraper is none


def _scrape(port: int, done: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    while not done.wait(_INTERVAL):
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if b"echoserver_requests_total" not in answer.read():
            raise OSError(f"/metrics: {answer.status}")
    connection.close()


ARMS = (
    _arm(OURS),
    Arm("without metrics", _SPOKEN, _without_metrics, lambda: __version__),
    dataclasses.replace(_arm("scraped each second"), start=_scraped),
    _arm("access log, text", "--access-log", "text"),
    _arm("access log, json", "--access-log", "json"),
    _arm("no X-Served-By", "--served-by", "off"),
)
