"""``python -m bench fairness`` as people run it: what is written and said, and that nothing runs on."""

import shutil
import signal
from pathlib import Path

import pytest

from bench import cli, fairness, figures
from bench.attacks import ATTACKS, QUICK
from tests.bench.commands import bench, interrupt


@pytest.mark.usefixtures("native_client")
def test_when_it_is_quick(tmp_path: Path) -> None:
    output, table = tmp_path / "new" / "fairness.json", tmp_path / "fairness.md"
    done = bench(
        "fairness", "--quick", "--attackers", "2", "--peers", "", "--output", str(output), "--markdown", str(table)
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, written, also = done.stdout.splitlines()
    assert (written, also) == (f"written: {output}", f"written: {table}")
    assert [line.split()[0] for line in lines] == list(QUICK)
    result = figures.load(output)
    assert result["method"]["attackers"] == 2
    assert result["method"]["quick"]
    assert list(result["loads"]) == list(QUICK)
    for name, of_load in result["loads"].items():
        assert of_load["title"] == ATTACKS[name].title
        (taken,) = of_load["arms"]["echoserver"]["rounds"]
        assert set(taken) == {
            "ms", "requests", "due", "grown_bytes", "sent_per_s", "received_per_s", "answered_per_s", "ended", "turn"
        }  # fmt: skip
        assert taken["due"] == 60
        assert taken["requests"] > 0
        assert 0 < taken["ms"]["median"] <= taken["ms"]["p99"] <= taken["ms"]["worst"]
        assert (taken["sent_per_s"] > 0) == (name != "quiet")
    assert table.read_text(encoding="utf-8") == fairness.markdown(result)


@pytest.mark.usefixtures("native_client")
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_over_tls(tmp_path: Path) -> None:
    output = tmp_path / "fairness.json"
    for name in ("tls-records", "tls-keys", "tls-handshakes"):
        for _ in range(10):  # attackers give way: on a busy machine they may get no answer in a round this short
            done = bench("fairness", name, "--quick", "--peers", "", "--output", str(output))
            if f"thrown away: {name}: echoserver: the attackers are answered with b''" not in done.stdout:
                break
        assert (done.returncode, done.stderr) == (0, "")
        assert "ended" not in done.stdout


def test_what_is_thrown_away_is_said(
    native_client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the honest client is refused: its request has no Host."""
    monkeypatch.setattr(fairness, "_REQUEST", b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")
    output = str(tmp_path / "fairness.json")
    assert cli.main(["fairness", "get", "--quick", "--peers", "", "--output", output]) == 1
    out, err = capsys.readouterr()
    why = "client: a status other than 200 after 0 echoes"
    assert out.splitlines()[:2] == [f"thrown away: get: echoserver: {why}", f"get             echoserver {why}"]
    assert err == "bench: echoserver has no figure for get\n"


def test_without_a_compiler(tmp_path: Path) -> None:
    if shutil.which("cc", path="/usr/sbin:/sbin"):
        pytest.skip("the compiler is in /usr/sbin here: it can't be made missing")
    done = bench("fairness", "quiet", path=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (3, "bench: cc is not installed: apt-get install gcc libc6-dev\n")


@pytest.mark.usefixtures("native_client")
def test_interrupted(tmp_path: Path) -> None:
    """Neither the server nor the honest client nor the attackers are left."""
    words = ["fairness", "get", "--seconds", "100", "--peers", "", "--output", str(tmp_path / "result.json")]
    interrupt(signal.SIGINT, *words)
