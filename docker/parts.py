"""Says what the bytes of the static executable are: parts.py SYMBOLS STRIPPED MODULES LIBRARY...

SYMBOLS is the executable as it was linked, STRIPPED the one that goes into the image, MODULES what freeze.py wrote
(modules.json); LIBRARY are the object files and archives that it was linked from. Each byte of a symbol belongs to what
defines the symbol. The linker's map would not tell, for of what was compiled with -flto it knows no object file; so
symbols are looked up by their names, those of static functions and data with lto-dump where there is one. Names that
several files have go to the one whose symbols lie next to them, for what is of one file is laid out together; so do
strings, which have no names. The deflated modules are divided in the proportions of what they were before. The parts'
sum is the file's size.
"""

import bisect
import collections
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

CPYTHON = "CPython: core and built-in types"
COMPILER = "CPython: parser, AST and compiler"
UNICODE = "CPython: Unicode tables"
IMPORTLIB = "CPython: importlib, frozen"
C_MODULES = "standard library: modules in C"
UVLOOP, LIBUV, HTTPTOOLS = "uvloop: in Cython", "uvloop: libuv", "httptools: with llhttp"
WEBSOCKETS = "websockets: in C"
OPENSSL, MUSL, ZLIB = "OpenSSL", "musl", "zlib"
OURS = "echoserver: main() and the table of modules"
MODULES = {
    "echoserver": "echoserver: modules, deflated",
    "httptools": "httptools: modules, deflated",
    "prometheus_client": "prometheus_client: modules, deflated",
    "websockets": "websockets: modules, deflated",
    "uvloop": "uvloop: modules, deflated",
    "": "standard library: modules, deflated",
}
REST = "headers, alignment, and what is not attributed"
PARTS = (
    CPYTHON, COMPILER, UNICODE, IMPORTLIB, C_MODULES, MODULES[""], UVLOOP, LIBUV, MODULES["uvloop"], HTTPTOOLS,
    MODULES["httptools"], MODULES["prometheus_client"], WEBSOCKETS,
    MODULES["websockets"], OPENSSL, MUSL, ZLIB, OURS, MODULES["echoserver"], REST,
)  # fmt: skip

_ARCHIVES = {
    "libssl": OPENSSL, "libcrypto": OPENSSL, "libz": ZLIB, "libc": MUSL, "libm": MUSL, "libgcc": MUSL, "crt": MUSL,
}  # fmt: skip
_OBJECTS = {
    "uvloop": UVLOOP, "uv": LIBUV, "httptools": HTTPTOOLS, "llhttp": HTTPTOOLS, "http": HTTPTOOLS,
    "websockets": WEBSOCKETS,
}  # fmt: skip
_COMPILER = {  # of CPython 3.13's Python/; and all of Parser/
    "Python-ast", "Python-tokenize", "asdl", "assemble", "ast", "ast_opt", "ast_unparse", "codegen", "compile",
    "flowgraph", "future", "instruction_sequence", "symtable",
}  # fmt: skip
_CORE_IN_MODULES = {"config", "gcmodule", "getbuildinfo", "getpath", "main"}
_LINKED_WITH = {  # main.c, tables.c and modules.c are compiled when all is linked: there is no object file of them
    **dict.fromkeys(("main", "inflate_modules", "start_python", "modules_frozen", "_PyImport_Inittab"), OURS),
    "_Py_M__importlib__bootstrap": IMPORTLIB, "_Py_M__importlib__bootstrap_external": IMPORTLIB,
}  # fmt: skip
# what GCC appends to the name of what it has made of a function, and of a static variable in one
_SUFFIX = re.compile(r"(\.(lto_priv|part|constprop|isra|cold|localalias|\d+)(\.\d+)*)+$")


class Symbol(NamedTuple):
    """code: a function; otherwise it is data."""

    address: int
    size: int
    code: bool
    name: str


class Section(NamedTuple):
    """A section whose bytes are in the file and in memory."""

    name: str
    address: int
    size: int


Owners = dict[tuple[bool, str], set[str]]
"""The parts that define a name: of functions (True), of data (False)."""


def main(symbols: str, stripped: str, modules: str, *libraries: str) -> None:
    """Write the parts as JSON to the standard output."""
    block = json.loads(Path(modules).read_text(encoding="utf-8"))
    found = _symbols(Path(symbols), block["deflated"])
    owners = _attributed(found, _owners(map(Path, libraries)))
    parts = dict.fromkeys(PARTS, 0)
    for section in _sections(Path(stripped)):
        for symbol, before, size in _pieces(found, section):
            if symbol.name == "modules_deflated":
                for part, share in _shares(block["modules"], size).items():
                    parts[part] += share
            else:
                parts[owners[symbol]] += size
            # strings, and constants of assembler code, have no names: they lie among what has some, of the same file
            nameless, previous = before
            parts[owners[symbol] if previous and owners[previous] == owners[symbol] else REST] += nameless
    whole = Path(stripped).stat().st_size
    parts[REST] += whole - sum(parts.values())
    json.dump({"size": whole, "parts": parts}, sys.stdout, indent=1)
    print()


def _shares(modules: dict[str, int], size: int) -> dict[str, int]:
    """The deflated block's bytes, divided by what each package's modules were before; the sum is size."""
    marshalled: collections.Counter[str] = collections.Counter()
    for name, bytes_of_it in modules.items():
        package = name.partition(".")[0]
        marshalled[MODULES[package if package in MODULES else ""]] += bytes_of_it
    total = sum(marshalled.values())
    shares = {part: size * bytes_of_it // total for part, bytes_of_it in marshalled.items()}
    shares[MODULES[""]] += size - sum(shares.values())
    return shares


# --- the executable -------------------------------------------------------------------------------------------------


def _sections(file: Path) -> list[Section]:
    """Those that are loaded, but not those that are only zeros."""
    data = file.read_bytes()
    if data[:5] != b"\x7fELF\x02" or data[5] != 1:
        raise SystemExit(f"{file} is no 64-bit little-endian ELF file")
    (at,) = struct.unpack_from("<Q", data, 0x28)
    width, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, at + width * number) for number in range(count)]
    strings = headers[names][4]
    return [
        Section(data[strings + name : data.index(b"\0", strings + name)].decode(), address, size)
        for name, kind, flags, address, _, size in headers
        if flags & 2 and kind != 8  # SHF_ALLOC, SHT_NOBITS
    ]


def _symbols(file: Path, deflated: int) -> list[Symbol]:
    """Those that have a size, by address."""
    found = []
    for line in _said("nm", "-S", "--defined-only", str(file)):
        address, *size, kind, name = line.split()
        if name == "modules_deflated":  # of a .incbin, which has a size for the assembler only
            size = [f"{deflated:x}"]
        if size:
            found.append(Symbol(int(address, 16), int(size[0], 16), kind in "tTwWiI", name))
    return sorted(found)


def _pieces(symbols: list[Symbol], section: Section) -> Iterator[tuple[Symbol, tuple[int, Symbol | None], int]]:
    """Each symbol in a section; the bytes without a name before it, and the symbol before these; its own bytes, without
    those that it shares with what is before it (aliases)."""
    at, previous = section.address, None
    for symbol in symbols:
        begin, end = max(symbol.address, at), symbol.address + symbol.size
        if section.address <= symbol.address < section.address + section.size and end > begin:
            yield symbol, (begin - at, previous), end - begin
            at, previous = end, symbol


def _attributed(symbols: list[Symbol], owners: Owners) -> dict[Symbol, str]:
    """What each belongs to. Of several that have its name, it is the one whose symbols are nearest."""
    candidates = [_candidates(symbol, owners) for symbol in symbols]
    sure = [number for number, each in enumerate(candidates) if len(each) == 1]
    parts = {}
    for number, (symbol, some) in enumerate(zip(symbols, candidates, strict=True)):
        place = bisect.bisect_left(sure, number)
        near = sorted(sure[max(0, place - 50) : place + 50], key=lambda other, number=number: abs(other - number))  # type: ignore[misc]
        neighbours = (part for other in near for part in candidates[other] if part in some)
        parts[symbol] = next(neighbours, min(some, default=REST))
    return parts


def _candidates(symbol: Symbol, owners: Owners) -> set[str]:
    base = _SUFFIX.sub("", symbol.name)
    if base in _LINKED_WITH:
        return {_LINKED_WITH[base]}
    without_lto = re.sub(r"\.(lto_priv|part|constprop|isra|cold|localalias)(\.\d+)?", "", symbol.name)
    found = (owners.get((symbol.code, name)) for name in (symbol.name, without_lto, base))
    return next(filter(None, found), set())


# --- what it was linked from ----------------------------------------------------------------------------------------


def _owners(libraries: Iterable[Path]) -> Owners:
    owners: Owners = collections.defaultdict(set)
    for library in libraries:
        part_of = _classifier(library)
        for member, code, name in _defined(library):
            part = part_of(member)
            owners[code, name].add(part)
            owners[code, _SUFFIX.sub("", name)].add(part)
    return dict(owners)


def _defined(library: Path) -> Iterator[tuple[str, bool, str]]:
    """What a library's files define: the file, whether it is a function, its name."""
    with tempfile.TemporaryDirectory() as folder:
        files = [library]
        if library.suffix == ".a":
            _said("ar", "x", str(library.resolve()), folder=folder)
            files = sorted(Path(folder).iterdir())
        plain = [file for file in files if not _is_lto(file)]
        with_plugin = [file for file in files if _is_lto(file)]
        for line in _said("nm", "-A", "--defined-only", *map(str, plain)) if plain else ():
            where, _, rest = line.partition(": ") if ": " in line else line.partition(":")
            *_, kind, name = rest.split()
            yield Path(where.partition(":")[0]).stem, kind in "tTwWiI", name
        for file in with_plugin:
            if shutil.which("lto-dump"):
                rows = (line.split() for line in _said("lto-dump", "-list", "-defined-only", str(file)))
                yield from ((file.stem, row[0] == "function", row[-1]) for row in rows if len(row) == 4)
            for line in _said("gcc-nm", "--defined-only", str(file)):
                *_, kind, name = line.split()
                yield file.stem, kind in "tTwWiI", name


def _is_lto(file: Path) -> bool:
    return b".gnu.lto_" in file.read_bytes()


def _classifier(library: Path) -> Callable[[str], str]:
    """What tells the part of a library's file by its name."""
    if library.suffix == ".o":
        return lambda member: _OBJECTS.get(re.split("[_-]", member)[0], MUSL)
    if not library.name.startswith("libpython"):
        return lambda _: _ARCHIVES.get(library.stem, REST)
    folders = {file.stem: file.relative_to(library.parent).parts[0] for file in library.parent.rglob("*.o")}

    def part_of(member: str) -> str:
        folder = folders.get(member, "")
        if member.startswith("unicode") and folder in ("Objects", "Modules") and member != "unicodeobject":
            return UNICODE
        if folder == "Parser" or member in _COMPILER:
            return COMPILER
        return C_MODULES if folder == "Modules" and member not in _CORE_IN_MODULES else CPYTHON

    return part_of


def _said(*words: str, folder: str | None = None) -> list[str]:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


if __name__ == "__main__":
    main(*sys.argv[1:])
