"""The page at /.echo: where it is, and where it is not. What it does: tests/browser.

Modules: answers.page.built.
"""

import pytest

from echoserver.answers import page as browser
from tests.certificates import Certificates
from tests.servers import HttpClient, Server, request
from tests.websockets import upgrade

GET = request("GET /.echo HTTP/1.1")


def assert_page(client: HttpClient, *fields: str) -> None:
    answer = client.ask(request("GET /.echo HTTP/1.1", *fields))
    assert (answer.status, answer.content) == (200, browser.PAGE)
    assert answer["content-type"] == "text/html; charset=utf-8"
    assert f"Content-Security-Policy: {answer['content-security-policy']}\r\n".encode() == browser.FIELDS
    assert answer["x-served-by"]
    told = client.ask(request("HEAD /.echo HTTP/1.1", *fields))
    assert (told.status, told.content) == (200, b"")
    assert {name for name, _ in told.fields} == {name for name, _ in answer.fields}
    assert told["content-length"] == str(len(browser.PAGE))


def test_the_page(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        for _ in range(3):
            assert_page(client)
        assert_page(client, "Accept: application/json")
        assert client.ask(upgrade(target="/.echo")).content == browser.PAGE
        assert client.ask(request("GET /.echo HTTP/1.1", "Connection: close")).content == browser.PAGE
        assert client.rest() == b""


@pytest.mark.parametrize(
    "data",
    [
        request("GET /.echo/ HTTP/1.1"),
        request("GET /.ECHO HTTP/1.1"),
        request("GET //.echo HTTP/1.1"),
        request("DELETE /.echo HTTP/1.1"),
    ],
)
def test_what_is_not_quite_it_is_echoed(server: Server, data: bytes) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(data).content == data
        assert client.ask(request("POST /.echo HTTP/1.1", "Content-Length: 2", content=b"hi")).content == b"hi"


def test_controls__off_the_page_is_not_there() -> None:
    with Server("--controls", "off") as server, HttpClient(server.connect()) as client:
        assert client.ask(GET).content == GET
        assert client.ask(request("GET /healthz HTTP/1.1")).content == b"ok\n"


def test_it_is_not_among_the_pages_for_administrators() -> None:
    with (
        Server("--admin", "0", "--cors", "*") as server,
        HttpClient(server.connect()) as client, HttpClient(server.connect("admin")) as admin,
    ):  # fmt: skip
        assert_page(client)
        assert client.ask(GET)["access-control-allow-origin"] == "*"
        assert admin.ask(GET).status == 404


def test_it_is_there_over_tls(certificates: Certificates) -> None:
    with Server("--https", "0", *certificates.options) as server:
        context = certificates.trusting()
        with HttpClient(context.wrap_socket(server.connect("https"), server_hostname="127.0.0.1")) as client:
            assert_page(client)
