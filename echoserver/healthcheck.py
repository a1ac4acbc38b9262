"""`echoserver healthcheck`: asks a server whether it is well."""

import re
import socket
import sys
import time
from collections.abc import Mapping

from echoserver import arguments
from echoserver.config import options as config
from echoserver.config import values
from echoserver.exit_codes import FAILED, OK

_PATIENCE = 3.0  # seconds that a server has to connect, and to answer a health check


def healthcheck(given: list[str], environment: Mapping[str, str]) -> int:
    """Ask a server for /healthz, or the URL given: 0 where it answers 200, else 1 and a line that says why."""
    if len(given) > 1 or given[:1] in (["-h"], ["--help"]):
        print("usage: echoserver healthcheck [http[s]://HOST:PORT/PATH | unix:/path | unix:@name]", file=sys.stderr)
        return OK if len(given) == 1 else FAILED
    try:
        where, path, secure, preamble = _target(given[0] if given else None, environment)
    except SystemExit:  # a variable is wrong, which has been said; 2 is reserved where images are checked
        return FAILED
    except values.ConfigError as error:
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


def _target(url: str | None, environment: Mapping[str, str]) -> tuple[values.Address, str, bool, bool]:
    """Where to ask, for what, whether over TLS and whether behind a PROXY preamble: by the URL given, or by what the
    environment says is served."""
    if url is None:
        parser = arguments.make_parser()
        said = config.parse(arguments.from_environment(parser, environment))
        where = said.admin or said.http or said.https or said.any
        if where is None:
            raise values.ConfigError("--http, --https, --any and --admin are off: expected a URL to check")
        if where is said.https and said.tls_client_ca:
            raise values.ConfigError("--https requires client certificates: expected --admin, or a URL to check")
        if where.descriptors:
            raise values.ConfigError(f"the address of {where} is not known here: expected a URL to check")
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        asked = values.Address(anywhere.get(where.host or "", where.host), where.port, where.path)
        return asked, "/healthz", where is said.https, said.proxy_protocol and where is not said.admin
    if url.startswith("unix:"):
        return values.unix_address(url), "/healthz", False, False
    return _of_url(url)


# RFC 3986, without user information: the path may be empty before a query, the port after its colon
_URL = re.compile(
    r"http(s?)://(\[[^]/]*\]|[^]\[:/?#@]+)(?::([0-9]*))?"
    r"((?:/[!-\"$->@-~]*)?(?:\?[!-\"$-~]*)?)(?:#[!-~]*)?",
    re.IGNORECASE,
)


def _of_url(url: str) -> tuple[values.Address, str, bool, bool]:
    found = _URL.fullmatch(url)
    try:
        if found is None:
            raise values.ConfigError
        secure, host, port, target = found.groups()
        where = values.Address(values.hostname(host), values.port(port or ("443" if secure else "80")))
    except values.ConfigError:
        expected = "expected http://HOST:PORT/PATH, unix:/path or unix:@name"
        if "@" in url.partition("://")[2].partition("/")[0]:
            expected = "expected http://HOST:PORT/PATH without a user: there is no authentication"
        raise values.ConfigError(f"{url!r} is not a URL to check: {expected}") from None
    return where, target if target.startswith("/") else f"/{target}", bool(secure), False


def _connect(where: values.Address, *, preamble: bool, secure: bool) -> socket.socket:
    if where.path is None:
        connection = socket.create_connection((where.host, where.port), timeout=_PATIENCE)
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_PATIENCE)
    try:
        if where.path is not None:
            connection.connect(values.unix_sockaddr(where.path))
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
