"""Puts the bench's loads on an instrumented server, one after the other: train.py EXECUTABLE [SECONDS]

The profile is of the mix that the server is judged by, not of one benchmark.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import clients
from bench.loads import LOADS

_SKIPPED = {"idle10k", "memory", "workers2", "latency", "mixrate"}  # nothing that the others do not do

_SPOKEN = ("tcp", "udp", "http", "ws")
"""What needs neither a certificate nor a client besides wrk and our own."""


def main(executable: str, seconds: str = "2") -> None:
    with tempfile.TemporaryDirectory() as folder:
        _train([executable, "--tcp=0", "--http=0", "--udp=0"], Path(folder), seconds, unix=False)
        _train([executable, f"--tcp=unix:{folder}/socket", "--http=0", "--udp=0"], Path(folder), seconds, unix=True)


def _train(words: list[str], folder: Path, seconds: str, *, unix: bool) -> None:
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server, contextlib.ExitStack() as ending:
        ending.callback(server.kill)  # else what fails here would wait for the server
        assert server.stderr is not None
        where = {"unix": str(folder / "socket")}
        for line in server.stderr:
            if found := re.search(r"listening: (http|tcp|udp) \S+:(\d+),", line):
                where[found[1]] = found[2]
            if line.endswith("ready\n"):
                break
        for load in LOADS.values():
            if load.name in _SKIPPED or load.unix != unix or load.protocol not in _SPOKEN:
                continue
            file = folder / clients.file_name(load)
            file.write_bytes(clients.to_send(load))
            at = where["unix" if unix else "http" if load.protocol == "ws" else load.protocol]
            if load.native:
                run, given = clients.native_words(load, at, file), f"{seconds}\n"
            else:
                script = str(Path(clients.__file__).parent / "load" / "request.lua")
                run = ["wrk", *clients.wrk_words(load), f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{at}"]
                run, given = [*run, "--", str(file)], ""
            said = subprocess.run(run, input=given, check=True, capture_output=True, text=True).stdout
            print(f"{load.name}: {said.strip().splitlines()[-1][:60]}", flush=True)
        server.send_signal(signal.SIGTERM)
        if code := server.wait():
            sys.exit(f"train.py: the server ended with {code}")


os.environ.pop("ECHOSERVER_HTTP", None)
main(*sys.argv[1:])
