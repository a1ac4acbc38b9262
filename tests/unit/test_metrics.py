"""The page for a scraper, read back with the library's own parser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from echoserver.observe import counters, metrics
from echoserver.observe.counters import COUNTERS, LAG_BOUNDS, SIZE, STREAMS, Counter, WorkerCounts, index
from echoserver.observe.metrics import Exposition
from tests.programs import missing

NOT_INSTALLED = "prometheus_client is not installed: pip install '.[metrics]'"
prometheus_client = pytest.importorskip("prometheus_client", reason=NOT_INSTALLED)
parser = pytest.importorskip("prometheus_client.parser", reason=NOT_INSTALLED)

BUILD = {"version": "1.2.3", "python": '3.11 "quoted" \\ and\nbroken'}
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(page: bytes) -> Samples:
    samples: Samples = {}
    for family in parser.text_string_to_metric_families(page.decode()):
        assert family.documentation
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in samples, "a series is there twice"
            samples[key] = sample.value
    return samples


def render(*workers: WorkerCounts) -> Samples:
    return read(Exposition(BUILD).render(workers))


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def worker(number: int = 0, counts: list[int] | None = None, pids: tuple[int, ...] = ()) -> WorkerCounts:
    return WorkerCounts(number, pids, [0] * SIZE if counts is None else counts)


def different() -> list[int]:
    """Counters no two of which are the same."""
    return list(range(1, SIZE + 1))


@pytest.fixture
def newcomer() -> Iterator[int]:
    """A process that is younger than this one."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process.pid


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_the_content_type_is_the_librarys() -> None:
    encoder, content_type = prometheus_client.exposition.choose_encoder("")
    assert encoder is prometheus_client.generate_latest
    assert content_type.encode() == metrics.CONTENT_TYPE


def test_it_is_available_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metrics.available()
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert not metrics.available()


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; from echoserver.observe import metrics; metrics.available();"
        "print('prometheus_client' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_each_counter_is_there_for_each_worker() -> None:
    samples = render(worker(0, different()), worker(1, [1000 * each for each in different()]))
    for counter in COUNTERS:
        for each in counter.values:
            key = {counter.label: each} if counter.label else {}
            place = index(counter.name, each) + 1
            for number, expected in (("0", place), ("1", 1000 * place)):
                name = f"echoserver_{counter.name}_total"
                if counter.help and counter.name != "connections_closed":
                    assert value(samples, name, worker=number, **key) == expected
                else:
                    assert not any(name == there for there, _ in samples)


def test_a_new_counter_appears_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "COUNTERS", (*COUNTERS, Counter("moons", "Moons.", "planet", ("mars",))))
    monkeypatch.setitem(counters._INDEX, ("moons", "mars"), SIZE)
    assert value(render(worker(3, [*[0] * SIZE, 2])), "echoserver_moons_total", worker="3", planet="mars") == 2


def test_open_connections_are_those_not_closed() -> None:
    counts = [0] * SIZE
    for opened, protocol in enumerate(STREAMS, 10):
        counts[index("connections_opened", protocol)] = opened
        counts[index("connections_closed", protocol)] = 9
    samples = render(worker(0, counts))
    for expected, protocol in enumerate(STREAMS, 1):
        assert value(samples, "echoserver_connections_open", worker="0", protocol=protocol) == expected


def test_there_are_never_less_than_no_connections() -> None:
    counts = [0] * SIZE
    counts[index("connections_closed", "tcp")] = 1
    assert value(render(worker(0, counts)), "echoserver_connections_open", worker="0", protocol="tcp") == 0


def test_the_lag_is_a_histogram() -> None:
    counts = [0] * SIZE
    bounds = (*map(str, LAG_BOUNDS), "+Inf")
    for number, bound in enumerate(bounds, 1):
        counts[index("event_loop_lag", bound)] = number
    counts[index("event_loop_lag_microseconds")] = 2_500_000
    samples = render(worker(0, counts))
    name = "echoserver_event_loop_lag_seconds"
    cumulative = [value(samples, f"{name}_bucket", worker="0", le=bound) for bound in bounds]
    assert cumulative == [number * (number + 1) / 2 for number in range(1, len(bounds) + 1)]
    assert value(samples, f"{name}_count", worker="0") == cumulative[-1]
    assert value(samples, f"{name}_sum", worker="0") == 2.5


def test_what_runs() -> None:
    samples = render(worker(0, pids=(os.getpid(),)), worker(1, pids=(os.getpid(), os.getppid())), worker(2))
    assert value(samples, "echoserver_build_info", **BUILD) == 1
    assert value(samples, "echoserver_workers") == 3
    assert [value(samples, "echoserver_processes", worker=each) for each in "012"] == [1, 2, 0]


def test_a_page_is_about_what_it_was_given() -> None:
    exposition = Exposition(BUILD)
    assert value(read(exposition.render([worker()])), "echoserver_workers") == 1
    assert value(read(exposition.render([worker(), worker(1)])), "echoserver_workers") == 2


def test_the_newest_process_speaks_for_its_worker(newcomer: int) -> None:
    old, new, both, turned = (
        worker(number, pids=pids)
        for number, pids in enumerate(
            [(os.getpid(),), (newcomer,), (os.getpid(), newcomer), (newcomer, os.getpid())],
        )
    )
    samples = render(old, new, both, turned)
    started = [value(samples, "process_start_time_seconds", worker=each) for each in "0123"]
    assert started[0] < started[1]
    assert started[1:] == [started[1]] * 3


def test_processes_have_the_usual_metrics() -> None:
    samples = render(worker(7, pids=(os.getpid(),)))
    there = {name: labels for name, labels in samples if name.startswith("process_")}
    assert there == dict.fromkeys(PROCESS, frozenset({("worker", "7")}))
    assert value(samples, "process_resident_memory_bytes", worker="7") > 1_000_000
    assert value(samples, "process_cpu_seconds_total", worker="7") > 0


def test_a_process_that_has_gone_says_nothing(gone: int) -> None:
    samples = render(worker(0, pids=(gone,)), worker(1, pids=(gone, os.getpid())))
    told = {number for name, labels in samples if name.startswith("process_") for _, number in labels}
    assert told == {"1"}
    assert value(samples, "echoserver_processes", worker="0") == 1


def test_nothing_else_is_there() -> None:
    names = {name for name, _ in render(worker(0, different(), (os.getpid(),)))}
    assert {name for name in names if not name.startswith("echoserver_")} == PROCESS
    assert not any(name.endswith("_created") for name in names)


def test_promtool_has_nothing_to_say() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip(missing("promtool"))
    page = Exposition(BUILD).render([worker(number, different(), (os.getpid(),)) for number in range(3)])
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
