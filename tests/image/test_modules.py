"""What is inside the static executable, asked from inside: the same modules, linked with a main() that runs a file."""

import ast
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import echoserver
from bench.engines import Container, Engine
from tests.image.conftest import built
from tests.image.containers import Variant
from tests.servers import PATIENCE, read_exactly, wait_for

PACKAGE = Path(echoserver.__file__).parent


@pytest.fixture(scope="module")
def console(engine: Engine) -> Variant:
    return built(engine, "console")


def run(console: Variant, folder: Path, program: str, *words: str) -> Container:
    """Run a program with these modules and no others."""
    (folder / "program.py").write_text(program)
    folder.chmod(0o755)
    return console.run("/given/program.py", *words, mounts={folder: "/given"})


def imported() -> list[str]:
    """Whatever an import statement in the package's files names, wherever it stands; not in commands, of which none is
    in the executable: main.c takes the place of the one."""
    names = set()
    for path in PACKAGE.glob("**/*.py"):
        if path.name == "__main__.py":
            continue
        names.add(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {each.name for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.module
                names.add(node.module)
    return sorted(names)


def test_all_that_the_server_imports_is_there(console: Variant, tmp_path: Path) -> None:
    names = imported()
    assert {"echoserver.worker", "argparse", "uvloop", "httptools"} < set(names)
    program = "import sys\nfor name in sys.argv[1:]:\n    __import__(name)\nprint(len(sys.argv) - 1, sys.path)\n"
    with run(console, tmp_path, program, *names, "ssl") as container:
        assert container.wait() == 0, container.said()
        assert container.said().splitlines() == [f"{len(names) + 1} []"]


def test_what_is_not_there_is_missed(console: Variant, tmp_path: Path) -> None:
    with run(console, tmp_path, "import sqlite3") as container:
        assert container.wait() == 1
        assert "ModuleNotFoundError: No module named 'sqlite3'" in container.said()


TLS_ECHO = """
import asyncio, ssl, uvloop

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("/given/certificate", "/given/key")
    context.load_verify_locations("/given/certificate")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    print(json_of(port=port, version=ssl.OPENSSL_VERSION, loop=type(asyncio.get_running_loop()).__module__), flush=True)
    await asyncio.Event().wait()

def json_of(**facts):
    return repr(facts).replace("'", '"')  # json is none of the server's modules

uvloop.run(main())
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for localhost, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", folder / "key", "-out", folder / "certificate"],
        check=True, capture_output=True,
    )  # fmt: skip
    (folder / "key").chmod(0o644)  # the server is another user
    return folder


@pytest.fixture(scope="module")
def tls_server(console: Variant, certificate: Path) -> Iterator[dict[str, object]]:
    with run(console, certificate, TLS_ECHO) as container:
        wait_for(lambda: container.said().endswith("}\n"), "the server's line")
        yield json.loads(container.said())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("with_certificate", [False, True], ids=["anonymous client", "client certificate"])
def test_tls_through_uvloop(
    tls_server: dict[str, object], certificate: Path, version: ssl.TLSVersion, with_certificate: bool
) -> None:
    assert str(tls_server["version"]).startswith("OpenSSL 3.")
    assert str(tls_server["loop"]).startswith("uvloop")
    context = ssl.create_default_context(cafile=certificate / "certificate")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["http/1.1"])
    if with_certificate:
        context.load_cert_chain(certificate / "certificate", certificate / "key")
    content = bytes(range(256)) * 64
    with (
        socket.create_connection(("127.0.0.1", int(str(tls_server["port"]))), PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as client,
    ):
        assert client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        assert client.selected_alpn_protocol() == "http/1.1"
        for _ in range(2):
            client.sendall(content)
            assert read_exactly(client, len(content)) == content


def test_tls_that_is_too_old(tls_server: dict[str, object], certificate: Path) -> None:
    context = ssl.create_default_context(cafile=certificate / "certificate")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", int(str(tls_server["port"]))), PATIENCE) as connection,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(connection, server_hostname="localhost")
