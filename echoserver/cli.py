"""The command line: arguments and environment to a Config, and the exit codes."""

import argparse
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from echoserver import __version__, end_on_signals
from echoserver.config import options as config
from echoserver.observe import logs
from echoserver.sockets import systemd

_PATIENCE = 3.0  # seconds that a server has to connect, and to answer a health check

OK, FAILED, USAGE, NOT_STARTED = 0, 1, 2, 3

_SERVICE_LINK = re.compile(r"(?:tcp|udp|sctp)://")
_LINK = (
    "; Kubernetes sets variables like this one for each Service (service links): "
    "expected another name for the Service, or enableServiceLinks: false"
)

_LINKED = re.compile(r"_PORT(?:_|$)|_SERVICE_")  # what the names of such variables have in them
_MEANT = {
    "port": "http", "p": "http", "bind": "http", "b": "http", "listen": "http", "address": "http", "w": "workers",
    "processes": "workers", "cert": "tls-cert", "key": "tls-key", "timeout": "idle-timeout",
    "max-clients": "max-connections",
}  # fmt: skip
"""How options of that kind are called elsewhere."""

_GROUPS = {
    config.LISTENERS: "listeners (ADDR: PORT, HOST:PORT, [V6]:PORT, unix:/path, unix:@name, fd:N, off; port 0: any)",
    config.TLS: "TLS 1.2 and 1.3",
    config.FAULTS: "modes and faults of --tcp and --tls (PERCENT: 25, 0.1%, on, off)",
    config.CONNECTIONS: "connections (SIZE: 1000, 64KiB, 1MB)",
    config.MEMORY: "memory",
    config.DEADLINES: "deadlines (TIME: 500ms, 10s, 2m, off)",
    config.ON_DEMAND: "on demand: what requests ask for in their query",
    config.LOGS: "logs",
    config.PROCESS: "processes",
}
_EPILOG = """
Every option can also be set as ECHOSERVER_NAME (--max-body: ECHOSERVER_MAX_BODY); an option beats its variable.
SIGTERM or SIGINT drains: connections finish what is under way. A second one ends at once. SIGHUP reads certificates
again and replaces the workers; nothing is cut. Sockets passed by systemd (LISTEN_FDS) are served by their names.
exit codes: 0 ended by a signal, all served; 1 failed, or connections had to be cut; 2 bad usage; 3 could not start
commands: `echoserver healthcheck [URL]` exits 0 where a server answers 200, else 1 (URL: also unix:/path, unix:@name)
"""


class _Parser(argparse.ArgumentParser):
    """Errors in one line: what was wrong and what was expected."""

    def error(self, message: str) -> NoReturn:
        printable = "".join(each if each.isprintable() else repr(each)[1:-1] for each in message)
        print(f"echoserver: {printable.removeprefix('argument ')}", file=sys.stderr)
        raise SystemExit(USAGE)


def _type(option: config.Option) -> Callable[[str], str]:
    """Checks an option's text where argparse can name the option; the text itself is parsed with all the others."""

    def check(text: str) -> str:
        try:
            option.parse(text)
        except config.ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="echoserver", usage="echoserver [OPTIONS] | echoserver healthcheck [URL]", allow_abbrev=False,
        description="Sends back what it is sent, over TCP, UDP, HTTP, WebSocket and TLS.", epilog=_EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=110),
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"echoserver {__version__}")
    groups = {name: parser.add_argument_group(title) for name, title in _GROUPS.items()}
    for option in config.OPTIONS:
        stand_in = f", or ${option.stand_in}" if option.stand_in else ""
        groups[option.group].add_argument(
            option.flag, type=_type(option), metavar=option.metavar, default=None,
            help=f"{option.help} (default: {option.default}{stand_in})",
        )  # fmt: skip
    return parser


def _meant(name: str) -> str | None:
    """The option that somebody may have meant by a name like its own, or by what others call it; without dashes."""
    import difflib  # noqa: PLC0415 - only where something is wrong

    known = {option.flag.removeprefix("--"): option for option in config.OPTIONS}
    close = difflib.get_close_matches(name, [*known, *(each for each in _MEANT if len(each) > 1)], n=1, cutoff=0.7)
    found = name if name in _MEANT else close[0] if close else None
    return _MEANT.get(found, found) if found else None


def _unrecognized(arguments: list[str]) -> str:
    """What is wrong with arguments that are no options, and what may have been meant."""
    message = f"unrecognized arguments: {' '.join(arguments)}"
    for each in arguments:
        name = each.partition("=")[0]
        if name.startswith("-"):
            meant = _meant(name.lstrip("-") if name.startswith("--") else name[1:2])
            return f"{message}; did you mean --{meant}?" if meant else message
    return message


def ignored(environment: Mapping[str, str]) -> list[str]:
    """What there is to say of variables that look like an option's and are none: they do nothing.

    Kubernetes sets some for a Service that is named echoserver: these are nobody's mistake.
    """
    known = {option.variable for option in config.OPTIONS}
    said = []
    for variable in sorted(environment):
        name = variable.removeprefix("ECHOSERVER_")
        if name == variable or variable in known or not environment[variable]:
            continue
        if _LINKED.search(variable) and not (name == "PORT" and environment[variable].isdigit()):
            continue
        meant = _meant(name.lower().replace("_", "-"))
        if meant:
            known_as = f"ECHOSERVER_{meant.upper().replace('-', '_')}"
            said.append(f"{variable} is ignored, there is no such option: did you mean {known_as}?")
    return said


def _from_environment(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> dict[str, str]:
    texts = {}
    for option in config.OPTIONS:
        for variable in (option.variable, option.stand_in):
            if variable and environment.get(variable):
                try:
                    option.parse(environment[variable])
                except config.ConfigError as error:
                    parser.error(f"{variable}: {error}{_LINK if _SERVICE_LINK.match(environment[variable]) else ''}")
                texts[option.name] = environment[variable]
                break
    return texts


def settings(arguments: list[str], environment: Mapping[str, str]) -> config.Config:
    """The Config that arguments and environment ask for. Ends the program with 2 and one line where they are wrong."""
    parser = _parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unrecognized(unknown))
    given = {name: text for name, text in vars(known).items() if text is not None}
    try:
        return config.parse(systemd.passed(environment) | _from_environment(parser, environment) | given)
    except config.ConfigError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, 1, 3), or raises SystemExit(2) for bad usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["healthcheck"]:
        return healthcheck(arguments[1:], os.environ)
    platform: str = sys.platform
    if platform != "linux" and not {"-h", "--help", "--version"} & set(arguments):
        print(
            f"echoserver: the server runs on Linux only, and this is {platform}: run it in a container; "
            "`healthcheck` works anywhere", file=sys.stderr,
        )  # fmt: skip
        return NOT_STARTED
    asked = settings(arguments, os.environ)
    end_on_signals()
    try:
        from echoserver.server import supervisor  # noqa: PLC0415 - --help and healthcheck need no event loop
    except (ImportError, OSError, MemoryError) as error:  # a package is missing, or there is no memory to map it
        print(f"echoserver: cannot start: {logs.reason(error)}", file=sys.stderr)
        return NOT_STARTED
    return supervisor.serve(asked, ignored(os.environ))


def healthcheck(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Ask a server for /healthz, or the URL given: 0 where it answers 200, else 1 and a line that says why."""
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print("usage: echoserver healthcheck [http[s]://HOST:PORT/PATH | unix:/path | unix:@name]", file=sys.stderr)
        return OK if len(arguments) == 1 else FAILED
    try:
        where, path, secure, preamble = _target(arguments[0] if arguments else None, environment)
    except SystemExit:  # a variable is wrong, which has been said; 2 is reserved where images are checked
        return FAILED
    except config.ConfigError as error:
        print(f"echoserver healthcheck: {error}", file=sys.stderr)
        return FAILED
    host = "localhost" if where.path else str(where)
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    try:
        with _connect(where, preamble=preamble, secure=secure) as connection:
            connection.sendall(request)
            status = _first_line(connection).split()
    except OSError as error:
        print(f"echoserver healthcheck: {where}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    if len(status) < 2 or not status[0].startswith(b"HTTP/1.") or status[1] != b"200":
        answer = b" ".join(status).decode("latin-1") or "no answer"
        print(f"echoserver healthcheck: {where}{path}: {answer}", file=sys.stderr)
        return FAILED
    return OK


def _first_line(connection: socket.socket) -> bytes:
    """The first line of an answer, or as much of it as comes in time."""
    until = time.monotonic() + _PATIENCE
    line = b""
    while b"\n" not in line and len(line) < 256 and (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        part = connection.recv(256)
        if not part:
            break
        line += part
    return line.partition(b"\n")[0]


def _target(url: str | None, environment: Mapping[str, str]) -> tuple[config.Address, str, bool, bool]:
    """Where to ask, for what, whether over TLS and whether behind a PROXY preamble: by the URL given, or by what the
    environment says is served."""
    if url is None:
        parser = _parser()
        said = config.parse(_from_environment(parser, environment))
        where = said.admin or said.http or said.https
        if where is None:
            raise config.ConfigError("--http, --https and --admin are off: expected a URL to check")
        if where is said.https and said.tls_client_ca:
            raise config.ConfigError("--https requires client certificates: expected --admin, or a URL to check")
        if where.descriptors:
            raise config.ConfigError(f"the address of {where} is not known here: expected a URL to check")
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        asked = config.Address(anywhere.get(where.host or "", where.host), where.port, where.path)
        return asked, "/healthz", where is said.https, said.proxy_protocol and where is not said.admin
    if url.startswith("unix:"):
        return config.unix_address(url), "/healthz", False, False
    return _of_url(url)


# RFC 3986, without user information: the path may be empty before a query, the port after its colon
_URL = re.compile(
    r"http(s?)://(\[[^]/]*\]|[^]\[:/?#@]+)(?::([0-9]*))?"
    r"((?:/[!-\"$->@-~]*)?(?:\?[!-\"$-~]*)?)(?:#[!-~]*)?",
    re.IGNORECASE,
)


def _of_url(url: str) -> tuple[config.Address, str, bool, bool]:
    found = _URL.fullmatch(url)
    try:
        if found is None:
            raise config.ConfigError
        secure, host, port, target = found.groups()
        where = config.Address(config.hostname(host), config.port(port or ("443" if secure else "80")))
    except config.ConfigError:
        expected = "expected http://HOST:PORT/PATH, unix:/path or unix:@name"
        if "@" in url.partition("://")[2].partition("/")[0]:
            expected = "expected http://HOST:PORT/PATH without a user: there is no authentication"
        raise config.ConfigError(f"{url!r} is not a URL to check: {expected}") from None
    return where, target if target.startswith("/") else f"/{target}", bool(secure), False


def _connect(where: config.Address, *, preamble: bool, secure: bool) -> socket.socket:
    if where.path is None:
        connection = socket.create_connection((where.host, where.port), timeout=_PATIENCE)
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
    try:
        if where.path is not None:
            connection.connect(config.unix_sockaddr(where.path))
        if preamble:
            connection.sendall(b"PROXY UNKNOWN\r\n")
        return _secured(connection) if secure else connection
    except OSError:
        connection.close()
        raise


def _secured(connection: socket.socket) -> socket.socket:
    """The connection over TLS. Whether the server is healthy is asked here, not whether its certificate is good."""
    import ssl  # noqa: PLC0415 - it is not needed otherwise

    from echoserver.layers import tls_context as tls  # noqa: PLC0415 - likewise

    if not tls.available():
        raise OSError("there is no TLS in this build")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)
