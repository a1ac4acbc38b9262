"""The servers that are compared: how each is started, what it needs, and what it is not asked."""

import atexit
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from bench.running import Running
from echoserver import __version__

HERE = Path(__file__).parent
PEERS = HERE / "peers"
NATIVE = HERE / "native"

NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_http_echo_module.so")
DEBIAN_GO = Path("/usr/share/gocode/src")
OVER_TLS = ("https", "h2")
DEBIAN_WS = Path("/usr/share/nodejs/ws")


class Missing(Exception):
    """Something that is needed is not there; the message names it and says what to install."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """command: the words that start it on a port of 127.0.0.1 or a unix socket's path (where), speaking tcp, udp, http,
    https, h2c, h2 (which is over TLS), grpc or ws, with a folder for its files; raises Missing. speaks: with the last
    of it the bench asks whether it is installed. version: what it calls itself. cannot: loads, and why not; also some
    of what it does not speak, where people would look for it.
    start: starts it where no command does; it is given the protocol and CPUs, and finds a port for itself."""

    name: str
    speaks: tuple[str, ...]
    command: Callable[[str, str, Path], list[str]]
    version: Callable[[], str]
    unix: bool = False
    cannot: Mapping[str, str] = dataclasses.field(default_factory=dict)
    start: Callable[[str, set[int]], AbstractContextManager[Running]] | None = None


# --- what is built on first use -----------------------------------------------------------------------------------


def _cached(name: str, source: Path, build: Callable[[Path], subprocess.CompletedProcess[str]]) -> str:
    """The path of a program made from a source; it is made where this source was not built before."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "echoserver-bench"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / f"{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if not program.exists():
        fresh = program.with_suffix(f".{os.getpid()}")
        done = build(fresh)
        if done.returncode:
            raise Missing(
                f"{source.name} can't be built: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
            )
        fresh.replace(program)
    return str(program)


def native(name: str) -> str:
    """A limit server or a native client. Raises Missing."""
    compiler = needs("cc", "gcc libc6-dev")
    source = NATIVE / f"{name}.c"

    def build(to: Path) -> subprocess.CompletedProcess[str]:
        return _run([compiler, "-O2", "-o", str(to), str(source)])

    return _cached(name, source, build)


_GO_LIBRARIES = {
    "fasthttp": ("github.com/valyala/fasthttp", "golang-github-valyala-fasthttp-dev"),
    "gorilla": ("github.com/gorilla/websocket", "golang-github-gorilla-websocket-dev"),
    "grpc": ("google.golang.org/grpc", "golang-google-grpc-dev"),
    "http2": ("golang.org/x/net/http2", "golang-golang-x-net-dev"),
}


def _go(name: str) -> str:
    compiler = needs("go", "golang-go")
    library, package = _GO_LIBRARIES.get(name, ("", ""))
    if not (DEBIAN_GO / library).exists():
        raise Missing(f"{library.rpartition('/')[2]} is not installed: apt-get install {package}")
    source = PEERS / f"{name}.go"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}

    def build(to: Path) -> subprocess.CompletedProcess[str]:
        return _run([compiler, "build", "-o", str(to), str(source)], environment)

    return _cached(name, source, build)


@functools.cache
def certificate() -> tuple[str, str]:
    """The paths of a certificate and its key, made once a run. Raises Missing."""
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_certificate(Path(folder))


def make_certificate(folder: Path) -> tuple[str, str]:
    """A certificate of ECDSA on P-256, signed by itself, for nobody looks at it; and its key. Raises Missing."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    words = [needs("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    done = _run([*words, "-nodes", "-subj", "/CN=localhost", "-days", "1", "-keyout", key, "-out", cert])
    if done.returncode:
        raise Missing(f"openssl makes no certificate: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return cert, key


def _run(words: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def needs(program: str, package: str) -> str:
    """The path of a program. Raises Missing."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return found


def needs_module(name: str, extra: str) -> None:
    """Raises Missing where it can't be imported."""
    if importlib.util.find_spec(name) is None:
        raise Missing(f"{name} is not installed: pip install '.[{extra}]'")


def _first_version(*words: str) -> str:
    done = _run(list(words))
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


# --- the commands -------------------------------------------------------------------------------------------------


def _limit(where: str, protocol: str, folder: Path) -> list[str]:
    return [native("limit_h2"), where] if protocol == "h2c" else [native("limit"), where, protocol]


def echoserver(where: str, protocol: str, folder: Path, *, workers: int = 1) -> list[str]:
    """One or more workers with default options, serving one protocol."""
    address = f"unix:{where}" if where.startswith("/") else f"127.0.0.1:{where}"
    words = [sys.executable, "-m", "echoserver", *listeners(protocol, address), "--workers", str(workers)]
    if protocol in OVER_TLS:
        cert, key = certificate()
        words += ["--tls-cert", cert, "--tls-key", key]
    return words


def listeners(protocol: str, address: str) -> list[str]:
    """echoserver's options for one listener, and no other."""
    on = {"ws": "http", "h2c": "http", "grpc": "http", "h2": "https"}.get(protocol, protocol)
    off = [each for each in ("http", "tcp", "udp") if each != on]  # the others are off by default
    return [f"--{on}", address, *(word for each in off for word in (f"--{each}", "off"))]


_NGINX_HEAD = "location /head { echo -n $echo_client_request_headers; }"


def _nginx_named(place: str, *names: str) -> str:
    """A location that answers with the fields of these names, whether they are there or not."""
    fields = "".join(f"{name}: $http_{name.replace('-', '_')}\\r\\n" for name in ("host", *names))
    return f'location {place} {{ echo -n "$request\\r\\n{fields}"; }}'


_NGINX_HEAD_H2 = "\n".join([
    _nginx_named("= /head", "user-agent"),
    _nginx_named(
        "/head/", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "traceparent", "user-agent",
        "accept", "accept-encoding", "accept-language", "cookie", "authorization", "referer",
    ),
])  # fmt: skip
"""Over HTTP/2 the echo module knows no header section: the fields that the loads may have are named instead, those of
h2get, which are fewer, by themselves."""


def nginx(where: str, protocol: str, folder: Path, *, workers: int = 1) -> list[str]:
    """One or more workers; over TLS 1.3 too, which before 1.23.4 has to be asked for. Raises Missing."""
    program = needs("nginx", "nginx-light libnginx-mod-http-echo")
    if not NGINX_MODULE.exists():
        raise Missing("nginx's echo module is not installed: apt-get install libnginx-mod-http-echo")
    file = folder / "nginx.conf"
    values = {"FOLDER": str(folder), "PORT": where, "WORKERS": str(workers), "TLS;": "", "HEAD": _NGINX_HEAD}
    if protocol in ("h2c", "h2"):
        values["PORT"] += " http2"
        values["HEAD"] = _NGINX_HEAD_H2
    if protocol in OVER_TLS:
        cert, key = certificate()
        values["PORT"] += " ssl"
        values["TLS;"] = f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
    text = (PEERS / "nginx.conf").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, value)
    file.write_text(text, encoding="utf-8")
    return [program, "-c", str(file), "-e", str(folder / "error.log")]


def _go_server(name: str, where: str, protocol: str, folder: Path) -> list[str]:
    return [_go(name), where, *(certificate() if protocol in OVER_TLS else ())]


def _go_net(where: str, protocol: str, folder: Path) -> list[str]:
    return [_go(protocol), where]


def _node(where: str, protocol: str, folder: Path) -> list[str]:
    file = "http2" if protocol in ("h2c", "h2") else protocol
    tls = certificate() if protocol in OVER_TLS else ()
    return [needs("node", "nodejs"), str(PEERS / f"{file}.mjs"), where, *tls]


def _node_ws(where: str, protocol: str, folder: Path) -> list[str]:
    program = needs("node", "nodejs")
    if not DEBIAN_WS.exists():
        raise Missing("ws is not installed: apt-get install node-ws")
    return [program, str(PEERS / "ws.mjs"), where, str(DEBIAN_WS)]


def _asyncio(where: str, protocol: str, folder: Path) -> list[str]:
    return [sys.executable, str(PEERS / f"asyncio_{protocol}.py"), where]


def _python(file: str, extra: str, where: str, protocol: str, folder: Path) -> list[str]:
    needs_module(file.partition("_")[0], extra)
    return [sys.executable, str(PEERS / file), where]


def _grpcio(where: str, protocol: str, folder: Path) -> list[str]:
    needs_module("grpc", "bench")
    return [sys.executable, str(PEERS / "grpcio_app.py"), where]


def _uvicorn(where: str, protocol: str, folder: Path) -> list[str]:
    needs_module("uvicorn", "bench")
    return [sys.executable, "-m", "uvicorn", "--app-dir", str(PEERS), "--no-access-log", "--log-level", "error",
            "--timeout-keep-alive", "75", "--backlog", "4096", "--port", where, "uvicorn_app:app"]  # fmt: skip


def _hypercorn(where: str, protocol: str, folder: Path) -> list[str]:
    needs_module("hypercorn", "bench")
    tls: list[str] = []
    if protocol == "h2":
        cert, key = certificate()
        tls = ["--certfile", cert, "--keyfile", key]
    return [sys.executable, "-m", "hypercorn", "--worker-class", "uvloop", "--log-level", "error", "--backlog", "4096",
            "--keep-alive", "75", *tls, "--bind", f"127.0.0.1:{where}",
            "bench.peers.uvicorn_app:app"]  # fmt: skip


def _nghttpd(where: str, protocol: str, folder: Path) -> list[str]:
    program = needs("nghttpd", "nghttp2-server")
    if protocol == "h2c":
        return [program, "--no-tls", "--address=127.0.0.1", "--echo-upload", where]
    cert, key = certificate()
    return [program, "--address=127.0.0.1", "--echo-upload", where, key, cert]


def _granian(where: str, protocol: str, folder: Path) -> list[str]:
    needs_module("granian", "bench")
    http2: list[str] = []
    if protocol in ("h2c", "h2"):
        http2 = ["--http", "2"]
    if protocol == "h2":
        cert, key = certificate()
        http2 += ["--ssl-certificate", cert, "--ssl-keyfile", key]
    return [sys.executable, "-m", "granian", "--working-dir", str(PEERS), "--interface", "rsgi", "--loop", "uvloop",
            "--no-access-log", "--log-level", "error", "--backlog", "4096", "--backpressure", "16384", "--port", where,
            *http2, "granian_app:app"]  # fmt: skip


def _socat(where: str, protocol: str, folder: Path) -> list[str]:
    listen = f"UNIX-LISTEN:{where}" if where.startswith("/") else f"TCP-LISTEN:{where},bind=127.0.0.1,reuseaddr,nodelay"
    return [needs("socat", "socat"), f"{listen},fork,backlog=4096", "PIPE"]


def _go_version(name: str) -> str:
    """Its Debian package's, and Go's."""
    done = _run(["dpkg-query", "-W", "-f", "${Version}", _GO_LIBRARIES[name][1]])
    return f"{done.stdout.strip() or 'unknown'}, go {_first_version(needs('go', 'golang-go'), 'version')}"


def _package(name: str) -> Callable[[], str]:
    return functools.partial(importlib.metadata.version, name)


def _program(*words: str) -> Callable[[], str]:
    return lambda: _first_version(needs(words[0], words[0]), *words[1:])


def _no_grpc(why: str) -> dict[str, str]:
    return dict.fromkeys(("grpc64", "grpc64x10", "grpc64x100"), why)


_ARMS = (
    Arm("limit", ("udp", "tcp", "h2c", "http", "ws"), _limit, lambda: "bench/native/limit.c, limit_h2.c", unix=True),
    Arm("echoserver", ("udp", "https", "tcp", "h2", "grpc", "h2c", "http", "ws"), echoserver, lambda: __version__,
        unix=True),
    Arm("nginx", ("https", "h2", "h2c", "http"), nginx, _program("nginx", "-v"),
        cannot=_no_grpc("nginx can only pass gRPC on")),
    Arm("fasthttp", ("https", "http"), functools.partial(_go_server, "fasthttp"),
        functools.partial(_go_version, "fasthttp")),
    Arm("nethttp", ("https", "http"), functools.partial(_go_server, "nethttp"), _program("go", "version")),
    Arm("bjoern", ("http",), functools.partial(_python, "bjoern_app.py", "bjoern"), _package("bjoern"),
        cannot={"pipe16": "bjoern answers only the first of several requests that come at once"}),
    Arm("gohttp2", ("h2", "h2c"), functools.partial(_go_server, "http2"), functools.partial(_go_version, "http2"),
        cannot=_no_grpc("Go's x/net/http2 has no gRPC")),
    Arm("nghttpd", ("h2", "h2c"), _nghttpd, _program("nghttpd", "--version"),
        cannot={**dict.fromkeys(("h2get", "h2mix", "h2mixindexed"), "nghttpd answers a GET with a file"),
                **_no_grpc("nghttpd sends no grpc-status")}),
    Arm("granian", ("h2", "h2c", "http"), _granian, _package("granian"),
        cannot=_no_grpc("Granian has no gRPC")),
    Arm("uvicorn", ("http",), _uvicorn, _package("uvicorn")),
    Arm("hypercorn", ("h2", "h2c"), _hypercorn, _package("hypercorn"),
        cannot=_no_grpc("Hypercorn has no gRPC")),
    Arm("node", ("udp", "tcp", "h2", "h2c", "http"), _node, _program("node", "--version"), unix=True,
        cannot=_no_grpc("Node.js has no gRPC")),
    Arm("grpcgo", ("grpc",), functools.partial(_go_server, "grpc"), functools.partial(_go_version, "grpc")),
    Arm("grpcio", ("grpc",), _grpcio, _package("grpcio")),
    Arm("go", ("udp", "tcp"), _go_net, _program("go", "version"), unix=True),
    Arm("asyncio", ("udp", "tcp"), _asyncio, lambda: sys.version.split()[0], unix=True),
    Arm("picows", ("ws",), functools.partial(_python, "picows_ws.py", "bench"), _package("picows")),
    Arm("websockets", ("ws",), functools.partial(_python, "websockets_ws.py", "bench"), _package("websockets")),
    Arm("gorilla", ("ws",), functools.partial(_go_server, "gorilla"), functools.partial(_go_version, "gorilla")),
    Arm("nodews", ("ws",), _node_ws, lambda: json.loads((DEBIAN_WS / "package.json").read_bytes())["version"]),
    Arm("socat", ("tcp",), _socat, _program("socat", "-V"), unix=True),
)  # fmt: skip

ARMS = {each.name: each for each in _ARMS}
