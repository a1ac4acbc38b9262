"""Finds the modules that the server needs, by running it: console trace.py NAMES [MODULE ...]

Adds to the file NAMES, one a line, the names of all modules that are imported, or asked for in vain: by the command
line, by servers that are started, used and ended in the ways below, by every import statement in the package's files,
wherever it stands, and by the MODULEs. To be run by the very Python that will hold the modules. What it imports for
itself does not count.
"""

import os
import sys

_names = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
_extra = sys.argv[2:]


def main():
    for words, code in (
        (["--help"], 0), (["--version"], 0), (["--http", "x y"], 2), (["--nothing"], 2), (["healthcheck", "x"], 1),
        (["healthcheck", "http://localhost:9/"], 1), (["--host", "192.0.2.1"], 3), (["--host", "nowhere.invalid"], 3),
    ):  # fmt: skip
        _end(_watched(_command, *words), code)
    _serve([], _use)
    _serve(["--loop=asyncio", "--access-log=json", "--log-format=json", "--log-level=debug"], _use)
    _serve([f"--tcp=unix:/tmp/trace-{os.getpid()}", "--workers=2"], _use_and_kill)
    read, write = os.pipe()
    wanted = _child(lambda: os.write(write, " ".join(_wanted()).encode()) and 0)
    _end(_watched(lambda: _import(*os.read(read, 1 << 16).decode().split())), 0)
    _end(wanted, 0)


# --- processes: this one forks them and imports nothing, so that each begins with nothing ---


def _child(work, *given):
    """Do work in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        code = work(*given)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else print(error.code, file=sys.stderr) or 1
    os._exit(code or 0)


def _watched(work, *given):
    """The same; what it imports is written down."""

    def watch():
        os.write(_names, "".join(f"{name}\n" for name in list(sys.modules)).encode())
        sys.addaudithook(lambda event, given: event == "import" and os.write(_names, f"{given[0]}\n".encode()))
        return work(*given)

    return _child(watch)


def _end(pid, expected):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != expected:
        sys.exit(f"trace.py: exit code {code}, not {expected}")


def _command(*words):
    from echoserver import cli

    return cli.main(list(words))


def _serve(options, use):
    """Run a server from its start to its end, and use it in between."""
    read, write = os.pipe()

    def serve():
        os.dup2(write, 2)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        return _command("--http=0", "--tcp=0", "--udp=0", *options)

    server = _watched(serve)
    client = _child(_client, use, server, read, write)
    os.close(write)
    os.close(read)
    _end(client, 0)
    _end(server, 0)


def _client(use, server, read, write):
    import re

    os.close(write)
    said = ""
    with open(read) as lines:
        for line in lines:
            said += line
            if "ready" in line:
                break
        else:
            sys.exit(f"trace.py: no server: {said}")
        use(server, {protocol: int(port) for protocol, port in re.findall(r"(http|tcp|udp) \S+:(\d+)", said)})
        os.kill(server, 15)


# --- what a server is used for ---


def _use(pid, ports):
    """Every way through the protocols that has a file or a branch of its own."""
    import socket

    http, ask = ports["http"], _ask
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    for size in (3, 300_000, 40 << 20):
        ask(http, size, post % size + bytes(size))
    ask(http, 0, b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3, b"GET / HTTP/1.0\r\n\r\n")
    for path in (b"healthz", b"readyz", b"metrics"):
        ask(http, b"HTTP/1.1 ", b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % path)
    for line in (b"TRACE / HTTP/1.1", b"HEAD / HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET / HTTP/3.0", b"x", b"G\0"):
        ask(http, b"HTTP/1.1 ", line + b"\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
    chunks = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    ask(http, b"HTTP/1.1 100 ", chunks, None, b"3\r\nabc\r\n", b"0\r\n\r\n")
    ask(http, b"HTTP/1.1 ", chunks, b"zz\r\n")
    ask(http, b"HTTP/1.1 400 ", post % 1000, b"x")
    for query in (b"echo=json", b"delay=1ms-2ms:50&size=9&chunked", b"rate=9999&header=A:b", b"status=no"):
        ask(http, b"HTTP/1.1 ", b"GET /?%b HTTP/1.1\r\nHost: a\r\n\r\n" % query)
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: %d\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    compressed = b"\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0"  # RFC 7692 section 7.2.3.1
    text, close = b"\x81\x82\0\0\0\0\xc3\xa9", b"\x88\x82\0\0\0\0\x03\xe8"
    for frames in (text + compressed + close, b"\x81\x81\0\0\0\0\xff", b"\x01\x80\0\0\0\0" + close):
        ask(http, b"HTTP/1.1 ", upgrade % 13, frames)
    ask(http, b"HTTP/1.1 ", upgrade % 12)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    ask(http, b"\0\0", preface + b"\0\0\6\1\5\0\0\0\1\x82\x86\x84\x41\1a")
    if "tcp" in ports:
        for size in (5, 5 << 20):
            ask(ports["tcp"], size, bytes(size))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.settimeout(20)
        datagram.sendto(b"x", ("127.0.0.1", ports["udp"]))
        datagram.recv(10)
    idle = socket.create_connection(("127.0.0.1", http))  # still there when the drain begins
    idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    idle.recv(1000)


def _use_and_kill(pid, ports):
    """The same, and a worker dies and is replaced."""
    import time

    _use(pid, ports)
    workers = _children(pid)
    os.kill(int(workers[0]), 9)
    until = time.monotonic() + 20
    while workers[0] in _children(pid) or len(_children(pid)) < len(workers):
        if time.monotonic() > until:
            sys.exit("trace.py: a worker that died was not replaced")
    _use(pid, ports)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def _ask(port, expected, *parts):
    """Send parts, each on its own, and read to the end: so many bytes at least, or some that begin so.

    None among the parts: an answer to those before it is awaited.
    """
    import socket
    import threading
    import time

    answered = threading.Event()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:

        def send():
            for part in parts:
                if part is None:
                    answered.wait(60)
                else:
                    client.sendall(part)
                    time.sleep(0.02)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        answer = bytearray()
        while got := client.recv(1 << 20):
            answer += got
            answered.set()
        sender.join()
    if not (len(answer) >= expected if isinstance(expected, int) else answer.startswith(expected)):
        sys.exit(f"trace.py: {bytes(answer[:80])} where {expected} was expected")


# --- what the package's files name ---


def _wanted():
    """The MODULEs, the package's modules, and what they import; also names within modules."""
    import ast
    import importlib.util
    import pathlib

    at_once = ast.Import, ast.ImportFrom, ast.Try  # where a module's own imports stand
    folder = next(each for each in map(pathlib.Path, sys.path) if (each / "echoserver").is_dir())
    wanted = set(_extra)
    missing = {name for name in ("prometheus_client", "websockets") if importlib.util.find_spec(name) is None}
    for path in folder.glob("echoserver/**/*.py"):
        if path.name == "__main__.py":  # a command: the executable has a main of its own
            continue
        tree, module = ast.parse(path.read_text()), ".".join(path.relative_to(folder).with_suffix("").parts)
        first = (node for each in tree.body if isinstance(each, at_once) for node in ast.walk(each))
        if any(name.partition(".")[0] in missing for node in first for name in _named(node)):
            missing.add(module)  # it can't be imported without
        wanted.add(module.removesuffix(".__init__"))
        for node in ast.walk(tree):
            wanted.update(_named(node))
    return sorted(each for each in wanted if not any(f"{each}.".startswith(f"{name}.") for name in missing))


def _named(node):
    import ast

    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return []


def _import(*names):
    for name in names:
        try:
            __import__(name)
        except ImportError:  # a name within a module, not a module
            module, _, last = name.rpartition(".")
            if not hasattr(sys.modules.get(module), last):
                raise
    return 0


main()
