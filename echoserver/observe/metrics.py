"""All workers' counters in, the page for a Prometheus scraper out, by prometheus_client (the extra `metrics`)."""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from echoserver.observe.counters import COUNTERS, LAG_BOUNDS, STREAMS, WorkerCounts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_LAG_CLASSES = (*map(str, LAG_BOUNDS), "+Inf")
_NOT_COUNTERS = {"connections_closed", "event_loop_lag", "event_loop_lag_microseconds"}  # but parts of other metrics


def available() -> bool:
    """Whether prometheus_client is installed."""
    return importlib.util.find_spec("prometheus_client") is not None


class Exposition:
    """The page for a scraper, in the text format 0.0.4.

    What a worker counted has the label worker and outlives its processes. The process_* metrics, named as in every
    client library, are those of each worker's newest process: a replacement is then the counter reset that rate()
    expects, where a sum would fall whenever one of several ends, and a label pid would begin series without end.
    """

    __slots__ = ("_build", "_generate", "_pid", "_process", "_workers")

    def __init__(self, build: Mapping[str, str]) -> None:
        """Take the labels of echoserver_build_info."""
        self._build = dict(build)
        self._workers: Sequence[WorkerCounts] = ()
        self._pid = 0
        self._generate: Callable[[], bytes] | None = None

    def prepare(self) -> Callable[[], bytes]:
        """Import prometheus_client, which takes 3 MB and some 50 ms: before forking, or when a page is first wanted.

        Returns what makes a page.
        """
        if self._generate is not None:
            return self._generate
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest  # noqa: PLC0415

        # made once: it reads /proc/stat for the time of boot, which is long where there are many cores
        self._process = ProcessCollector(pid=lambda: self._pid, registry=None)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        self._generate = functools.partial(generate_latest, registry)
        return self._generate

    def render(self, workers: Sequence[WorkerCounts]) -> bytes:
        """The page about these workers."""
        self._workers = workers
        return self.prepare()()

    def collect(self) -> "Iterator[Metric]":
        """The metrics, as the registry asks for them."""
        yield from _about_the_server(self._build, self._workers)
        yield from _counted(self._workers)
        yield _connections_open(self._workers)
        yield _event_loop_lag(self._workers)
        yield from self._processes()

    def _processes(self) -> "Iterator[Metric]":
        from prometheus_client.core import Metric  # noqa: PLC0415

        families: dict[str, Metric] = {}
        for worker in self._workers:
            for metric in max(map(self._process_metrics, worker.pids), key=_start_time, default=()):
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {"worker": str(worker.worker)}, sample.value)
        yield from families.values()

    def _process_metrics(self, pid: int) -> "Sequence[Metric]":
        """What there is to say of a process; of one that has gone, nothing."""
        self._pid = pid
        return tuple(self._process.collect())


def _start_time(process: "Sequence[Metric]") -> float:
    """When a process began, in seconds since the epoch: ids are given again, and say nothing of age."""
    return next((metric.samples[0].value for metric in process if metric.name == "process_start_time_seconds"), 0)


def _about_the_server(build: Mapping[str, str], workers: Sequence[WorkerCounts]) -> "Iterator[Metric]":
    from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily  # noqa: PLC0415

    yield InfoMetricFamily("echoserver_build", "What is running.", value=dict(build))
    yield GaugeMetricFamily("echoserver_workers", "Workers that share the load.", value=len(workers))
    processes = GaugeMetricFamily(
        "echoserver_processes",
        "Processes of a worker: one serves, any others finish the connections that they have.",
        labels=("worker",),
    )
    for worker in workers:
        processes.add_metric((str(worker.worker),), len(worker.pids))
    yield processes


def _counted(workers: Sequence[WorkerCounts]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    for counter in COUNTERS:
        if counter.name in _NOT_COUNTERS:
            continue
        labels = ("worker", counter.label) if counter.label else ("worker",)
        family = CounterMetricFamily(f"echoserver_{counter.name}", counter.help, labels=labels)
        for worker in workers:
            for value in counter.values:
                # without a label there is one value, empty, and the library takes no more values than there are names
                family.add_metric((str(worker.worker), value), worker[counter.name, value])
        yield family


def _connections_open(workers: Sequence[WorkerCounts]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily("echoserver_connections_open", "Connections now.", labels=("worker", "protocol"))
    for worker in workers:
        for protocol in STREAMS:
            now = worker["connections_opened", protocol] - worker["connections_closed", protocol]
            # a row that was read while its process wrote it may have the newer figure in the second cell only
            family.add_metric((str(worker.worker), protocol), max(0, now))
    return family


def _event_loop_lag(workers: Sequence[WorkerCounts]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    family = HistogramMetricFamily(
        "echoserver_event_loop_lag_seconds", "How late the event loop came to what was due.", labels=("worker",)
    )
    for worker in workers:
        counts = itertools.accumulate(worker["event_loop_lag", bound] for bound in _LAG_CLASSES)
        seconds = worker["event_loop_lag_microseconds", ""] / 1e6
        family.add_metric((str(worker.worker),), list(zip(_LAG_CLASSES, counts, strict=True)), seconds)
    return family
