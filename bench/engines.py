"""Container engines: builds images, runs containers, and tells what is in them, with docker, podman, or buildah."""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.arms import Missing, needs

ROOT = Path(__file__).parents[1]
TARGETS = ("slim", "alpine", "scratch", "minimal")
ENGINES = ("docker", "podman", "buildah")


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Extract an archive. Python before 3.11.4 has no filters; what engines write is trusted all the same."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, filter="data")
    else:
        archive.extractall(folder)


class EngineFailed(Exception):
    """A command of the engine failed; the message is its last line, output is all that it wrote."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """digest: of the uncompressed tar; size, compressed: bytes, the latter with gzip's default level."""

    digest: str
    size: int
    compressed: int


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """size: bytes uncompressed, as the engine lists it; config: the OCI configuration's "config"."""

    name: str
    size: int
    config: Mapping[str, Any]
    layers: Sequence[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Restrictions:
    """How a container is run. memory: bytes; cpus: those it may use; mounts: host folder to folder in the container."""

    read_only: bool = False
    drop_all: bool = False
    memory: int = 0
    user: str = ""
    cpus: frozenset[int] = frozenset()
    mounts: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    hosts: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def words(self) -> list[str]:
        """The engine's options."""
        words = ["--network=host", "--no-healthcheck"]  # another Python every ten seconds, in its memory and time
        words += ["--read-only"] * self.read_only
        words += ["--cap-drop=ALL", "--security-opt=no-new-privileges"] * self.drop_all
        words += [f"--memory={self.memory}", f"--memory-swap={self.memory}"] * bool(self.memory)
        words += [f"--user={self.user}"] * bool(self.user)
        words += [f"--cpuset-cpus={','.join(map(str, sorted(self.cpus)))}"] * bool(self.cpus)
        words += [f"--volume={host}:{inside}" for host, inside in self.mounts.items()]
        words += [f"--env={name}={value}" for name, value in self.environment.items()]
        words += [f"--add-host={name}:{address}" for name, address in self.hosts.items()]
        return words


EVERYTHING_DROPPED = Restrictions(read_only=True, drop_all=True)


class Engine:
    """docker, or podman, whose command lines are the same where it matters."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the engine. Raises EngineFailed."""
        done = subprocess.run([self.name, *words], capture_output=True, text=True, check=False)
        if check and done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise EngineFailed(f"{self.name} {words[0]}: {lines[-1]}", done.stdout + done.stderr)
        return done

    def version(self) -> str:
        return self("--version").stdout.strip()

    def build(
        self, target: str, tag: str, arguments: Mapping[str, str], context: Path = ROOT, *, cache: bool = True
    ) -> None:
        """Build a target of the Dockerfile; what was built before with the same input is kept. Raises EngineFailed."""
        words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        # podman and buildah: the OCI format has no HEALTHCHECK, and layers are not cached unless asked for
        words += ["--format=docker", "--layers"] * (self.name != "docker")
        words += ["--no-cache"] * (not cache)
        self("build", f"--target={target}", f"--tag={tag}", *words, str(context))

    def image(self, name: str) -> Image:
        """What the engine says of an image. Raises EngineFailed."""
        (found,) = json.loads(self("image", "inspect", name).stdout)
        config = {"Healthcheck": found.get("Healthcheck"), **found["Config"]}  # podman has it beside the others
        return Image(name, found["Size"], config, found["RootFS"]["Layers"])

    @contextlib.contextmanager
    def exported(self, name: str) -> Iterator[Path]:
        """A folder with the image as docker save writes it. Raises EngineFailed."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "image.tar"
            self._save(name, file)
            with tarfile.open(file) as archive:
                unpack(archive, Path(folder) / "image")
            yield Path(folder) / "image"

    def _save(self, name: str, file: Path) -> None:
        words = ["--format=docker-archive"] * (self.name == "podman")
        self("save", *words, f"--output={file}", name)

    def run(self, image: str, *words: str, restrictions: Restrictions = EVERYTHING_DROPPED) -> "Container":
        """Start a container. Raises EngineFailed."""
        began = time.monotonic()
        identity = self("run", "--detach", *restrictions.words(), image, *words).stdout.strip()
        return Container(self, identity, began)


class Container:
    """A container from its start to its removal; use it as a context manager.

    began: time.monotonic() before its start.
    """

    def __init__(self, engine: Engine, identity: str, began: float) -> None:
        self.engine = engine
        self.identity = identity
        self.began = began

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine("rm", "--force", self.identity, check=False)

    def state(self) -> Mapping[str, Any]:
        (found,) = json.loads(self.engine("inspect", self.identity).stdout)
        state: Mapping[str, Any] = found["State"]
        return state

    def pid(self) -> int:
        """Its first process, as the host numbers it."""
        return int(self.state()["Pid"])

    def said(self) -> str:
        """What it has written so far."""
        done = self.engine("logs", self.identity)
        return done.stdout + done.stderr

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it; its exit code is not looked at."""
        return self.engine("exec", self.identity, *words, check=False)

    def kill(self, signal: str) -> None:
        self.engine("kill", f"--signal={signal}", self.identity)

    def stop(self, timeout: int = 10) -> float:
        """Stop it: its STOPSIGNAL, and after timeout seconds SIGKILL. Returns how many seconds that took."""
        began = time.monotonic()
        self.engine("stop", f"--time={timeout}", self.identity)
        return time.monotonic() - began

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        return int(self.engine("wait", self.identity).stdout)


class Buildah(Engine):
    """buildah and runc, where neither docker nor podman works: an image is mounted, and run as a bundle."""

    def __init__(self) -> None:
        super().__init__("buildah")

    def inspect(self, name: str) -> tuple[Mapping[str, Any], Sequence[str]]:
        """An image's configuration and its layers. Raises EngineFailed."""
        found = json.loads(self("inspect", "--type=image", name).stdout)["Docker"]
        return found["config"], found["rootfs"]["diff_ids"]

    def image(self, name: str) -> Image:
        config, layers = self.inspect(name)
        with self.exported(name) as folder:
            size = sum(file.stat().st_size for file in folder.rglob("*.tar") if not file.is_symlink())
        return Image(name, size, config, layers)

    def _save(self, name: str, file: Path) -> None:
        self("push", name, f"docker-archive:{file}:{name}")

    def run(self, image: str, *words: str, restrictions: Restrictions = EVERYTHING_DROPPED) -> Container:
        return _RuncContainer(self, image, words, restrictions)


class _RuncContainer(Container):
    """A container whose "runc run" is a process of ours: later nobody could tell its exit code."""

    def __init__(self, engine: Buildah, image: str, words: Sequence[str], restrictions: Restrictions) -> None:
        began = time.monotonic()
        super().__init__(engine, engine("from", "--pull-never", image).stdout.strip(), began)
        self._config, _ = engine.inspect(image)
        self._bundle = tempfile.TemporaryDirectory()
        self._log = Path(self._bundle.name) / "log"
        root = Path(engine("mount", self.identity).stdout.strip())
        _runc("spec", f"--bundle={self._bundle.name}")
        config = Path(self._bundle.name) / "config.json"
        spec = _restricted(json.loads(config.read_text(encoding="utf-8")), self._config, restrictions)
        spec["process"]["args"] = [*self._config["Entrypoint"], *(words or self._config.get("Cmd") or ())]
        spec["root"]["path"] = str(root)
        config.write_text(json.dumps(spec), encoding="utf-8")
        hosts = [Path("/etc/hosts").read_text(encoding="utf-8")]
        hosts += [f"{address} {name}\n" for name, address in restrictions.hosts.items()]
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/hosts").write_text("".join(hosts), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [needs("runc", "runc"), "run", f"--bundle={self._bundle.name}", self.identity],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        while not self.state()["Pid"] and self._process.poll() is None:
            time.sleep(0.01)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _runc("delete", "--force", self.identity)
        self._process.wait()
        self.engine("rm", self.identity)
        self._bundle.cleanup()

    def state(self) -> Mapping[str, Any]:
        found = _runc("state", self.identity).stdout
        code = self._process.poll()
        pid = json.loads(found)["pid"] if found and code is None else 0
        # SIGKILL, and nobody asks for it here but the kernel that has no memory left
        return {"Running": code is None, "Pid": pid, "ExitCode": code or 0, "OOMKilled": code == 128 + signal.SIGKILL}

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        return _runc("exec", self.identity, *words)

    def kill(self, signal: str) -> None:
        _runc("kill", self.identity, signal)

    def stop(self, timeout: int = 10) -> float:
        began = time.monotonic()
        self.kill(self._config["StopSignal"])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill("KILL")
            self._process.wait()
        return time.monotonic() - began

    def wait(self) -> int:
        return self._process.wait()


def _runc(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([needs("runc", "runc"), *words], capture_output=True, text=True, check=False)


def _restricted(spec: dict[str, Any], config: Mapping[str, Any], asked: Restrictions) -> dict[str, Any]:
    """What "runc spec" has written, with an image's user and environment and with what docker would restrict."""
    process, linux = spec["process"], spec["linux"]
    uid, gid = (asked.user or config["User"]).split(":")
    process["terminal"] = False
    process["user"] = {"uid": int(uid), "gid": int(gid)}
    process["env"] = [*config["Env"], *(f"{name}={value}" for name, value in asked.environment.items())]
    process["rlimits"] = []  # runc's own
    process["noNewPrivileges"] = asked.drop_all
    if asked.drop_all:
        process["capabilities"] = {}
    spec["root"]["readonly"] = asked.read_only
    spec["mounts"] += [
        {"destination": inside, "type": "bind", "source": str(host), "options": ["bind", "rw"]}
        for host, inside in asked.mounts.items()
    ]
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
    if asked.memory:
        linux["resources"]["memory"] = {"limit": asked.memory, "swap": asked.memory}
    if asked.cpus:
        linux["resources"]["cpu"] = {"cpus": ",".join(map(str, sorted(asked.cpus)))}
    return spec


def find() -> Engine:
    """The first engine that works here, or the one that ECHOSERVER_ENGINE names. Raises Missing: why none does."""
    asked = os.environ.get("ECHOSERVER_ENGINE", "")
    if asked and asked not in ENGINES:
        raise Missing(f"ECHOSERVER_ENGINE: {asked!r} is none of {', '.join(ENGINES)}")
    reasons = []
    for name in [asked] if asked else ENGINES:
        if not shutil.which(name):
            reasons.append(f"{name} is not installed")
            continue
        done = subprocess.run([name, "info"], capture_output=True, text=True, check=False)
        if done.returncode:
            reasons.append(f"{name}: {(done.stderr.strip().splitlines() or ['it does not work'])[-1]}")
        elif name != "buildah":
            return Engine(name)
        elif os.geteuid():
            reasons.append("buildah: only root may mount what it has built")
        else:
            needs("runc", "runc")
            return Buildah()
    raise Missing("; ".join(reasons))


def build_arguments() -> dict[str, str]:
    """The build arguments that ECHOSERVER_BUILD_ARGS names: NAME=VALUE, as a shell would split them."""
    return dict(each.split("=", 1) for each in shlex.split(os.environ.get("ECHOSERVER_BUILD_ARGS", "")))
