"""The images: how large they are and of what, how they start and stop, and what the same server costs in each."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import gzip
import json
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import arms, compare, engines, figures, loads, running
from bench.arms import Arm
from bench.compare import LIMIT, OURS, Method, Watcher
from bench.engines import Container, Engine, EngineFailed
from bench.figures import Result
from bench.running import Running, ServerFailed

OUTSIDE = "outside"
"""The arm that is the same server with this Python, in no container."""

LOADS = ("tcp64", "post64", "pipe16", "post1m")
CONNECTIONS = 1000
REFERENCE = figures.RESULTS / "images.json"
RUNS = 10
QUICK_RUNS = 2
LEVEL = 6
"""Of gzip: what layers are compressed with on their way to a registry."""

GROUPS = ("base", "interpreter", "standard library", "uvloop", "httptools", "extras", "TLS", "ours", "rest")
"""What the parts of an image come to. base: the distribution; of a static executable, musl and zlib."""

WHOLE = "the executable"
"""The only part of a static executable whose parts are not known."""

_PATIENCE = 20.0  # seconds that a server has for its first answer
_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def measure(
    targets: Sequence[str],
    method: Method,
    runs: int,
    watcher: Watcher,
    *,
    prefix: str = "echoserver",
    take: bool = False,
    keep: Callable[[Result], None] | None = None,
) -> Result:
    """All figures of these images. take: those that are there, tagged PREFIX:TARGET, instead of building them.

    Raises Missing where there is no engine, no limit server or no client, and EngineFailed.
    """
    engine = engines.find()
    chosen = [loads.LOADS[name] for name in LOADS[: 2 if method.quick else None]]
    idle = dataclasses.replace(
        loads.LOADS["memory"], name="idle", title="idle keep-alive connections", steps=(0, CONNECTIONS)
    )
    result = compare.begin([*chosen, idle], method)
    result["method"]["runs"] = runs
    result["versions"]["engine"] = engine.version()
    tags = {target: f"{prefix}:{target}" for target in targets}
    if not take:
        for number, (target, tag) in enumerate([*tags.items(), ("parts", f"{prefix}:parts")]):
            watcher.step(f"builds {target}", number, len(tags) + 1)
            _build(engine, target, tag, result)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = _parts_of_executables(engine, f"{prefix}:parts", result)
        result["images"] = {}
        for number, (target, tag) in enumerate(tags.items()):
            watcher.step(f"looks into {target}", number, len(tags))
            result["images"][target] = look_into(engine, tag, target, parts, folder)
            result["versions"][target] = _version(engine, tag)
            if WHOLE in result["images"][target]["parts"].get("rest", {}):
                result["skipped"].setdefault("parts", f"{prefix}:parts does not know the executable in {tag}")
        result["starts"] = start_ups(engine, tags, runs, folder, watcher)
        if keep is not None:
            keep(result)
        found = [arms.ARMS[LIMIT], dataclasses.replace(arms.ARMS[OURS], name=OUTSIDE)]
        found += [_arm(engine, target, tag) for target, tag in tags.items()]
        compare.measure([*chosen, idle], found, method, watcher, result, keep=keep)
    return result


def _build(engine: Engine, target: str, tag: str, result: Result) -> None:
    """Build a target; the parts of the executables may fail, for all else can do without them."""
    try:
        engine.build(target, tag, engines.build_arguments())
    except EngineFailed as error:
        if target != "parts":
            raise
        result["skipped"]["parts"] = str(error)


# --- what they are made of ------------------------------------------------------------------------------------------


def look_into(engine: Engine, tag: str, target: str, parts: dict[int, dict[str, int]], folder: Path) -> dict[str, Any]:
    """Sizes of an image and of its layers, and its parts: bytes of the uncompressed layers, by group and name.

    parts: those of static executables, by their size. An executable is put into folder, to be started outside too.
    """
    image = engine.image(tag)
    made: collections.Counter[tuple[str, str]] = collections.Counter()
    sizes = []
    with engine.exported(tag) as root:
        (manifest,) = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
        for number, name in enumerate(manifest["Layers"]):
            file = root / name
            last = number + 1 == len(manifest["Layers"])  # each image has one layer of ours, above its base
            sizes.append(_layer(file, base=not last))
            for group, part, size in _parts_of_layer(file, sizes[-1]["size"], parts):
                if target == "alpine" and not last and group != "rest":  # what it has of these is not what runs
                    made["base", "the distribution"] += size
                else:
                    made[group, part] += size
            if last and not (folder / target).exists():
                _take_executable(file, folder / target)
    of_groups = {
        group: dict(sorted((part, size) for (of_group, part), size in made.items() if of_group == group))
        for group in GROUPS
    }
    return {
        "size": image.size,
        "compressed": sum(each["compressed"] for each in sizes),
        "layers": sizes,
        "parts": {group: of_group for group, of_group in of_groups.items() if of_group},
        "executable": (folder / target).exists(),
    }


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tarfile.TarFile]:
    with tarfile.open(file) as archive:  # of either kind: docker may keep layers compressed
        yield archive


def _layer(file: Path, *, base: bool) -> dict[str, Any]:
    """Bytes as it is unpacked and as it is sent."""
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    packer = zlib.compressobj(LEVEL, wbits=31)
    return {"size": len(data), "compressed": len(packer.compress(data)) + len(packer.flush()), "base": base}


_ELF = b"\x7fELF"
_PLACES = (  # the first one that matches a file's path says its group and, with what was matched, its part
    (r"site-packages/(uvloop|httptools)/.*\.so", r"\1", "extension modules"),
    (r"site-packages/(uvloop|httptools)/.*\.pyc", r"\1", "byte code"),
    (r"site-packages/(uvloop|httptools)/", r"\1", "sources"),
    (r"site-packages/(uvloop|httptools)-[^/]*-info/", r"\1", "metadata"),
    (r"site-packages/websockets[/-]", "extras", "websockets"),
    (r"site-packages/prometheus_client[/-]", "extras", "prometheus_client"),
    (r"site-packages/echoserver/.*\.pyc", "ours", "byte code"),
    (r"site-packages/echoserver/", "ours", "sources"),
    (r"site-packages/echoserver-[^/]*-info/", "ours", "metadata"),
    (r"bin/echoserver$", "ours", "the command"),
    (r"site-packages/|usr/local/bin/pip", "base", "pip"),
    (r"lib-dynload/_(ssl|hashlib)\.|/lib(ssl|crypto)\.so", "TLS", "OpenSSL and the modules ssl, hashlib"),
    (r"usr/local/lib/python3\.\d+/.*\.so$", "standard library", "extension modules"),
    (r"usr/local/lib/python3\.\d+/", "standard library", "modules"),
    (r"usr/local/", "interpreter", "CPython"),
    (r"", "base", "the distribution"),
)


def _parts_of_layer(file: Path, whole: int, executables: dict[int, dict[str, int]]) -> Iterator[tuple[str, str, int]]:
    """Group, part and bytes; the sum is the layer's size."""
    rest = whole
    with _opened(file) as archive:
        for member in archive:
            if not member.isfile():
                continue
            rest -= member.size
            if _is_executable(archive, member):
                yield from _parts_of_executable(member.size, executables)
            else:
                group, part = _place(member.name)
                yield group, part, member.size
    yield "rest", "the archives' own headers", rest


def _place(path: str) -> tuple[str, str]:
    for pattern, group, part in _PLACES:
        if found := re.search(pattern, path):
            return found.expand(group), part
    raise AssertionError(path)


_GROUP_OF_PART = {
    "CPython": "interpreter", "standard library": "standard library", "uvloop": "uvloop", "httptools": "httptools",
    "websockets": "extras", "prometheus_client": "extras", "OpenSSL": "TLS", "musl": "base", "zlib": "base",
    "echoserver": "ours",
}  # fmt: skip


def _parts_of_executable(size: int, executables: dict[int, dict[str, int]]) -> Iterator[tuple[str, str, int]]:
    """What docker/parts.py has found in it; all of it is one part where that is not known."""
    for part, size_of_part in executables.get(size, {WHOLE: size}).items():
        if size_of_part:
            group, _, name = part.partition(": ")
            yield _GROUP_OF_PART.get(group, "rest"), name or part, size_of_part


def _is_executable(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    """Whether it is the static executable: slim has a script of that name."""
    if not member.isfile() or Path(member.name).name != "echoserver":
        return False
    content = archive.extractfile(member)
    return content is not None and content.read(len(_ELF)) == _ELF


def _take_executable(layer: Path, to: Path) -> None:
    """Put the layer's static executable, if it has one, there."""
    with _opened(layer) as archive:
        for member in archive:
            if _is_executable(archive, member) and (content := archive.extractfile(member)):
                to.write_bytes(content.read())
                to.chmod(0o755)


def _parts_of_executables(engine: Engine, tag: str, result: Result) -> dict[int, dict[str, int]]:
    """What docker/parts.py has written into an image while the executables were built, by their sizes."""
    found = {}
    try:
        with engine.exported(tag) as root:
            (manifest,) = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
            for layer in manifest["Layers"]:
                with _opened(root / layer) as archive:
                    for member in archive:
                        content = archive.extractfile(member) if member.name.endswith(".json") else None
                        if content:
                            said = json.load(content)
                            found[said["size"]] = said["parts"]
    except EngineFailed as error:
        result["skipped"].setdefault("parts", str(error))
    return found


# --- from a start to its end ----------------------------------------------------------------------------------------


def start_ups(
    engine: Engine, tags: dict[str, str], runs: int, folder: Path, watcher: Watcher
) -> dict[str, dict[str, Any]]:
    """By image, and by what is started without a container (outside; outside TARGET, its executable): lists of seconds.

    answer: from the start to the first answer; version: --version, from the start to its end; stop: from the signal to
    the end, idle. Besides them resident and proportional bytes (None: unknown here) after the first answer.
    """
    commands: dict[str, list[str]] = {OUTSIDE: [sys.executable, "-m", "echoserver"]}
    commands |= {f"{OUTSIDE} {target}": [str(folder / target)] for target in tags if (folder / target).exists()}
    once: dict[str, Callable[[], dict[str, Any]]] = {
        name: functools.partial(_once_outside, words, folder) for name, words in commands.items()
    }
    once |= {target: functools.partial(_once_inside, engine, tag) for target, tag in tags.items()}
    found: dict[str, dict[str, Any]] = {name: collections.defaultdict(list) for name in once}
    for number in range(runs + 1):
        for name, start in once.items():
            watcher.step(f"starts {name}", number, runs + 1)
            figure = start()
            if number:  # the first one has read files that the others find in memory
                for key, value in figure.items():
                    found[name][key].append(value)
    return found


def _words(protocol: str, port: str) -> list[str]:
    """One protocol, and all else as it is by default."""
    return arms.listeners(protocol, f"127.0.0.1:{port}")


def _first_answer(port: str) -> float:
    """time.monotonic() when it came."""
    until = time.monotonic() + _PATIENCE
    it = Running("", port, 0)
    while time.monotonic() < until:
        with contextlib.suppress(OSError), it.connect() as connection:
            connection.sendall(_REQUEST)
            if connection.recv(4096).startswith(b"HTTP/1.1 200"):
                return time.monotonic()
        time.sleep(0.001)
    raise ServerFailed(f"no answer within {_PATIENCE:.0f} s of the start")


def _once_inside(engine: Engine, tag: str) -> dict[str, Any]:
    port = running.free_port()
    with concurrent.futures.ThreadPoolExecutor(1) as waiting:
        answer = waiting.submit(_first_answer, port)
        with engine.run(tag, *_words("http", port)) as container:
            answered = answer.result() - container.began
            memory = _memory(Running(tag, port, container.pid()))
            stopped = container.stop()
    return {"answer": answered, **memory, "stop": stopped, "version": _version_inside(engine, tag)}


def _version_inside(engine: Engine, tag: str) -> float:
    """Mostly what the engine itself needs for a container."""
    began = time.monotonic()
    if isinstance(engine, engines.Buildah):
        with engine.run(tag, "--version") as container:
            container.wait()
            return time.monotonic() - began
    engine("run", "--rm", *engines.EVERYTHING_DROPPED.words(), tag, "--version")
    return time.monotonic() - began


def _once_outside(words: list[str], folder: Path) -> dict[str, Any]:
    port = running.free_port()
    environment = {"PYTHONPATH": str(running.ROOT), "PATH": "/usr/bin:/bin"}
    silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    options: dict[str, Any] = {"cwd": folder, "env": environment, **silent}
    began = time.monotonic()
    with subprocess.Popen([*words, *_words("http", port)], **options) as process:
        try:
            answered = _first_answer(port) - began
            memory = _memory(Running(words[0], port, process.pid))
            signalled = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE)
            stopped = time.monotonic() - signalled
        finally:
            process.kill()
    began = time.monotonic()
    subprocess.run([*words, "--version"], **options, check=True)
    return {"answer": answered, **memory, "stop": stopped, "version": time.monotonic() - began}


def _memory(server: Running) -> dict[str, int | None]:
    return {"resident_bytes": server.resident_bytes(), "proportional_bytes": proportional_bytes(server)}


def proportional_bytes(server: Running) -> int | None:
    """Memory of its processes, what is shared divided by those that share it (Pss); None where we may not read it."""
    total = 0
    for pid in server.family():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            return None
        total += sum(int(each) << 10 for each in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE))
    return total or None


def _version(engine: Engine, tag: str) -> str:
    """What the server in an image says that it is and runs on."""
    with engine.run(tag, *_words("http", "0")) as container:
        _port(container, tag, "http")
        found = re.search(r"^echoserver: (.*? on .*?);", container.said(), re.MULTILINE)
        return found[1] if found else "unknown"


# --- under load -----------------------------------------------------------------------------------------------------


def _arm(engine: Engine, target: str, tag: str) -> Arm:
    def start(protocol: str, cpus: set[int]) -> contextlib.AbstractContextManager[Running]:
        return contained(engine, target, tag, protocol, cpus)

    return Arm(target, ("tcp", "http"), lambda *_: [], lambda: tag, start=start)


@contextlib.contextmanager
def contained(engine: Engine, target: str, tag: str, protocol: str, cpus: set[int]) -> Iterator[Running]:
    """The server in a container that may do nothing but serve, on these CPUs. Raises ServerFailed."""
    restrictions = dataclasses.replace(engines.EVERYTHING_DROPPED, cpus=frozenset(cpus))
    try:
        container = engine.run(tag, *_words(protocol, "0"), restrictions=restrictions)
    except EngineFailed as error:
        raise ServerFailed(f"{target} did not start: {error}") from None
    with container:
        yield Running(target, _port(container, target, protocol), container.pid())


def _port(container: Container, target: str, protocol: str) -> str:
    """Where it listens, as it says itself once it is ready."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        said = container.said()
        found = re.search(rf"listening: {protocol} \S+:(\d+),", said)
        if found and re.search(r"ready$", said, re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise ServerFailed(f"{target} is not ready: {(container.said().strip().splitlines() or ['it said nothing'])[-1]}")
