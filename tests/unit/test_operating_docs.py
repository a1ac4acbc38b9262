"""What docs/operating.md and deploy/prometheus say is there is what there is."""

import re
import subprocess
from pathlib import Path

from echoserver.observe.counters import COUNTERS
from tests.programs import needs

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
PARTS = {"connections_closed", "event_loop_lag_microseconds"}  # of other metrics


def test_every_metric_is_in_the_table_with_its_labels() -> None:
    rows = dict(re.findall(r"^\| (`echoserver_.*?) \|.*?\|(.*?)\|$", OPERATING, re.MULTILINE))
    said = {name: text for names, text in rows.items() for name in re.findall(r"`(\w+)`", names)}
    for counter in COUNTERS:
        if counter.name in PARTS:
            continue
        if counter.name == "event_loop_lag":
            assert "echoserver_event_loop_lag_seconds" in said
            continue
        text = said[f"echoserver_{counter.name}_total"]
        if counter.name not in {"connections_opened", "received_bytes", "sent_bytes"}:
            assert all(re.search(rf"\b{value}\b", text) for value in counter.values), counter.name


def test_the_alerts_ask_for_metrics_that_there_are() -> None:
    names = {name for counter in COUNTERS for name in (f"echoserver_{counter.name}_total", *counter.values)}
    asked = set(re.findall(r"\b(echoserver_\w+_total)\b", ALERTS.read_text(encoding="utf-8")))
    assert asked
    assert asked <= names
    values = re.findall(r'(?:reason|protocol|outcome)="(\w+)"', ALERTS.read_text(encoding="utf-8"))
    assert set(values) <= names


@needs("promtool")
def test_prometheus_takes_the_alerts() -> None:
    done = subprocess.run(["promtool", "check", "rules", ALERTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
