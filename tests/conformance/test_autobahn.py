"""What the Autobahn test suite says of WebSocket: its fuzzing client, case by case."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server

SECTIONS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close",
    "9": "limits",
    "10": "auto-fragmentation",
    "12": "compression",
    "13": "compression parameters",
}
"""All that it has (autobahntestsuite 25.10.1); 8 and 11 were never written."""

ON_BOTH_LOOPS = [each for each in SECTIONS if each not in {"12", "13"}]
"""Compression is what takes long: a quarter of an hour, the others half a minute. It knows nothing of loops."""

CONFORMS = {"OK", "NON-STRICT", "INFORMATIONAL"}


def verdicts(wstest: str, url: str, cases: str, folder: Path) -> dict[str, dict[str, Any]]:
    """What it says of each case, by its number. Its own pages are left in the folder."""
    specification = {
        "outdir": str(folder), "servers": [{"agent": "echoserver", "url": url}],
        "cases": [cases], "exclude-cases": [], "exclude-agent-cases": {},
    }  # fmt: skip
    (folder / "fuzzingclient.json").write_text(json.dumps(specification), encoding="utf-8")
    done = subprocess.run(
        [wstest, "-m", "fuzzingclient", "-s", "fuzzingclient.json"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    report = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = report["echoserver"]
    assert f"Ok, will run {len(found)} test cases" in done.stdout, f"it has given up after {len(found)} cases"
    return found


@pytest.mark.parametrize(
    ("server", "section"),
    [*(("uvloop", each) for each in SECTIONS), *(("asyncio", each) for each in ON_BOTH_LOOPS)],
    indirect=["server"],
    ids=lambda each: SECTIONS.get(each, each),
)
def test_each_case(server: Server, wstest: str, section: str, tmp_path: Path) -> None:
    found = verdicts(wstest, f"ws://127.0.0.1:{server.http}/", f"{section}.*", tmp_path)
    assert found
    bad = [
        f"{case}: {verdict['behavior']}, close {verdict['behaviorClose']}"
        for case, verdict in found.items()
        if not {verdict["behavior"], verdict["behaviorClose"]} <= CONFORMS
    ]
    assert not bad, f"{len(bad)} of {len(found)} cases: {'; '.join(sorted(bad))} (see {tmp_path}/index.html)"
