"""Compiles what of the server is also there in C when it is installed; where that fails, Python does its work."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

SOURCES = (
    "echoserver/compiled.c",
    *(f"echoserver/{name}.c" for name in ("protocols/udp", "wire/hpack", "wire/huffman", "wire/ordinary")),
)
NAME = "_echoserver.abi3.so"  # the stable interface, of 3.11 as the sources say: one for all versions from there on


class Compile(BuildHookInterface[Any]):
    """Adds the compiled module to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        found = (each for each in sys_tags() if (each.interpreter, each.abi) == ("cp311", "abi3"))
        # not manylinux or musllinux: what is compiled here is for here
        tag = next((each for each in found if each.platform.startswith(("linux_", "macosx_"))), None)
        self._folder = tempfile.TemporaryDirectory()  # goes with the hook
        made = Path(self._folder.name, NAME)
        try:
            if tag is None:
                raise OSError("this Python has no stable interface")
            compile_module([Path(self.root, source) for source in SOURCES], made)
        except OSError as error:
            self.app.display_warning(f"echoserver/compiled.c was not compiled, and Python does its work: {error}")
            return
        build_data.update(pure_python=False, tag=str(tag))
        build_data["force_include_editable" if version == "editable" else "force_include"][str(made)] = NAME


def compile_module(sources: list[Path], to: Path) -> None:
    """Compile a module as this Python's own were. Raises OSError, which says why that failed."""
    named, *flags = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")
    wanted = os.environ.get("CC")
    compilers = [shlex.split(wanted)] if wanted else [[each] for each in (named, "cc") if shutil.which(each)]
    if not compilers:
        raise OSError("there is no C compiler")
    said = f'-DSOURCE="{hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()}"'
    include = f"-I{sysconfig.get_path('include')}"
    words = [*compilers[0], *flags, "-O2", "-fPIC", said, include, *map(str, sources), "-o", str(to)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not to.exists():
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "")
        raise OSError(f"{compilers[0][0]} exited with {done.returncode} {reason}")
