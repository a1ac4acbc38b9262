"""What the image tests share: variants of the image, servers in containers, and what is in a layer."""

import dataclasses
import functools
import gzip
import json
import os
import socket
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.engines import Container, Engine, Image, Restrictions
from tests.process.processes import children
from tests.servers import Server, free_ports, wait_for

OURSELVES = "" if os.geteuid() == 0 else f"{os.geteuid()}:{os.getegid()}"
"""The user of a container whose processes and files are to be touched from outside: only root may touch any user's."""

PORTS = ("--http", "0", "--tcp", "0", "--udp", "0")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of the images, and how it is started."""

    engine: Engine
    target: str
    name: str

    @functools.cached_property
    def image(self) -> Image:
        return self.engine.image(self.name)

    @property
    def entrypoint(self) -> list[str]:
        words: list[str] = self.image.config["Entrypoint"]
        return words

    def run(self, *words: str, **restrictions: Any) -> Container:
        """A container with every restriction, and with those given."""
        asked = {"read_only": True, "drop_all": True, **restrictions}
        return self.engine.run(self.name, *words, restrictions=Restrictions(**asked))

    def serve(self, *options: str, **restrictions: Any) -> "Contained":
        """A server on free ports, unless options say where; for use as a context manager."""
        return Contained(self, self.run(*free_ports(options), *options, **restrictions))

    def end(self, *words: str, **restrictions: Any) -> tuple[int, list[str]]:
        """Run what ends by itself: its exit code, and the lines that it has written."""
        with self.run(*words, **restrictions) as container:
            return container.wait(), container.said().splitlines()


class Contained(Server):
    """A server in a container."""

    def __init__(self, variant: Variant, container: Container) -> None:
        self.variant = variant
        self.container = container
        self.lines = []
        self._allow_errors = False

    def __enter__(self) -> Self:
        try:
            wait_for(self._settled, "the line 'ready'")
            assert self.said("ready"), f"the server ended at its start: {self.lines}"
            self.pid = self.container.pid()
        except BaseException:
            self.container.__exit__(None, None, None)
            raise
        return self

    def _settled(self) -> bool:
        running = self.container.state()["Running"]
        self.lines[:] = self.container.said().splitlines()
        return self.said("ready") or not running

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.lines[:] = self.container.said().splitlines()
        finally:
            self.container.__exit__(kind, error, trace)
        if kind is None:
            self.check_lines()

    def wait(self) -> int:
        return self.container.wait()

    def children(self) -> list[int]:
        """As the host numbers them, the dead that nobody has reaped too."""
        return children(self.pid)

    def execute(self, *arguments: str) -> int:
        """Run the image's command again in the container; returns its exit code."""
        return self.container.execute(*self.variant.entrypoint, *arguments).returncode

    def status(self) -> Mapping[str, str]:
        """Of its first process: the fields of /proc/PID/status."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


def reserved_port() -> socket.socket:
    """A socket that keeps a free port of 127.0.0.1: one worker may listen there, and no one gets it by asking for 0."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    return bound


def layers(exported: Path) -> list[Path]:
    """The layers' files of what Engine.exported() gives, in their order."""
    (image,) = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    return [exported / name for name in image["Layers"]]


def layer_size(layer: Path) -> int:
    """Bytes of a layer, uncompressed."""
    with layer.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return layer.stat().st_size
    with gzip.open(layer) as unpacked:
        return unpacked.seek(0, os.SEEK_END)


def members(layer: Path) -> Sequence[tarfile.TarInfo]:
    with tarfile.open(layer) as archive:
        return archive.getmembers()
