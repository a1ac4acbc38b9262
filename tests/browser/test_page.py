"""What a person with a browser sees: `/` as text, and the page at /.echo, in headless Chromium."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import pytest

from echoserver.answers.pattern import pattern
from tests.certificates import Certificates
from tests.programs import needs
from tests.servers import PATIENCE, Server, wait_for
from tests.wire.test_metrics import Page, ask

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

webdriver: Any = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[test]'")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = needs("chromium", "chromedriver")

TAB, ENTER = "\ue004", "\ue007"
"""What WebDriver calls these keys."""


class Browser:
    """One for all tests: what a person does on the page, and what is to be seen there."""

    def __init__(self, driver: "Chrome", origin: str = "") -> None:
        self.driver = driver
        self.origin = origin

    def at(self, origin: str) -> Self:
        """The page, newly opened; what was logged before is forgotten."""
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        self.origin = origin
        self.driver.get(f"{origin}/.echo")
        return self

    def element(self, name: str) -> "WebElement":
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        """All text of an element, whether it can be seen or not."""
        return str(self.run("return document.getElementById(arguments[0]).textContent", name))

    def run(self, script: str, *given: object) -> Any:
        return self.driver.execute_script(script, *given)

    def fill(self, **values: str) -> Self:
        """Put text into inputs, as pasting would."""
        self.run(
            "for (const [name, value] of Object.entries(arguments[0])) { const input = document.getElementById(name);"
            "input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})) }",
            values,
        )
        return self

    def click(self, name: str) -> Self:
        """Scroll to it first: WebDriver does not where it is in the window, but behind the bar with the button."""
        self.run("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", name)
        self.element(name).click()
        return self

    def wait(self, condition: Callable[[], object], what: str) -> Self:
        wait_for(condition, what)
        return self

    def send(self, **values: str) -> Self:
        """Fill in a request, send it and wait for the end of its answer."""
        return self.fill(**values).click("send").answered()

    def answered(self) -> Self:
        return self.wait(lambda: self.text("send") == "Send" and self.text("said") != "", "the answer")

    def fields(self) -> dict[str, str]:
        rows = self.run("return Array.from(names.rows, row => Array.from(row.cells, cell => cell.textContent))")
        return dict(rows)

    def dumped(self) -> bytes:
        """The bytes that the hex dump shows; what it says beside them must be the same."""
        return undump(self.text("hex"))

    def took(self) -> float:
        """Milliseconds of all of the exchange."""
        found = re.search(r"([0-9.]+) (m?s) in all", self.text("took"))
        assert found, self.text("took")
        return float(found[1]) * (1 if found[2] == "ms" else 1000)

    def log(self) -> list[tuple[str, str]]:
        """Of each entry its class and its text, but for the time."""
        entries = self.run("return Array.from(log.children, item => [item.className, item.innerText])")
        return [(kind, " ".join(re.sub(r"[0-9:]+\.[0-9]{3}", "", text).split())) for kind, text in entries]

    def open(self, **values: str) -> Self:
        """Connect a WebSocket."""
        self.driver.find_element("css selector", "a[href='#websocket']").click()
        self.wait(lambda: self.element("connect").is_displayed(), "the other part")
        return self.fill(**values).click("connect")

    def opened(self) -> Self:
        return self.wait(lambda: self.element("say").is_enabled(), "the connection")

    def closed(self) -> Self:
        return self.wait(lambda: self.element("connect").is_enabled(), "the connection's end")

    def check(self) -> None:
        """Nothing was complained of, but for statuses, and nothing was asked of anybody else."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        assert [
            each for each in entries if each["source"] != "network" and "WebSocket connection" not in each["message"]
        ] == []
        events = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        urls = {each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"}
        assert not [each for each in urls if not each.startswith((f"{self.origin}/", "data:", "about:"))]
        assert f"{self.origin}/.echo" in urls


def undump(text: str) -> bytes:
    found = b""
    for line in text.splitlines():
        place, hexes, shown = re.fullmatch(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} )+) *(.*)", line).groups()  # type: ignore[union-attr]
        assert int(place, 16) == len(found)
        row = bytes.fromhex(hexes)
        assert shown == "".join(chr(byte) if 31 < byte < 127 else "." for byte in row).lstrip()
        found += row
    return found


@pytest.fixture(scope="module")
def driver(echo: Server) -> "Iterator[Chrome]":
    """It ends before the server does, which would wait for its connections."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.accept_insecure_certs = True
    for each in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield running
    finally:
        running.quit()


@pytest.fixture(scope="module")
def echo(certificates: Certificates) -> Iterator[Server]:
    with Server("--https", "0", *certificates.options) as running:
        yield running


@pytest.fixture(scope="module", params=["http", "https"])
def origin(request: pytest.FixtureRequest, echo: Server) -> str:
    return f"{request.param}://127.0.0.1:{echo.port(request.param)}"


@pytest.fixture
def page(driver: "Chrome", origin: str) -> Iterator[Browser]:
    opened = Browser(driver).at(origin)
    yield opened
    opened.check()


@pytest.fixture
def plain(driver: "Chrome", echo: Server) -> Iterator[Browser]:
    """The same, over http only."""
    opened = Browser(driver).at(f"http://127.0.0.1:{echo.http}")
    yield opened
    opened.check()


# --- / ---


def test_the_echo_of_a_browser_is_text(driver: "Chrome", origin: str) -> None:
    driver.get(f"{origin}/")
    shown = driver.find_element("tag name", "body").text
    first = "GET / HTTP/2\nhost: 127.0.0.1:" if origin.startswith("https") else "GET / HTTP/1.1\nHost: 127.0.0.1:"
    assert shown.startswith(first)
    assert "\nuser-agent: mozilla/5.0 " in shown.lower()
    assert driver.execute_script("return document.contentType") == "text/plain"


# --- a request ---


ASKED: dict[str, tuple[dict[str, str], str, bytes, dict[str, str]]] = {
    # what is filled in, the status, content (with "..." it goes on), fields
    "nothing": ({}, "200 OK", b"GET / HTTP/1.1\r\nHost: 127.0.0.1:...", {"content-type": "text/plain"}),
    "a path": ({"path": "a b/[c]{d}?e=f&g#h"}, "200 OK", b"GET /a%20b/[c]%7Bd%7D?e=f&g%23h HTTP/1.1\r\n...", {}),
    "a path of two slashes": ({"path": "//a.example/"}, "200 OK", b"GET //a.example/ HTTP/1.1\r\n...", {}),
    "content": (
        {"method": "POST", "content": "caf\u00e9\n<b>&"},
        "200 OK",
        b"caf\xc3\xa9\n<b>&",
        {"content-type": "text/plain;charset=UTF-8", "content-length": "10"},
    ),
    "no content": ({"method": "POST"}, "200 OK", b"", {"content-length": "0"}),
    "a method of one's own": ({"method": "FOO"}, "200 OK", b"FOO / HTTP/1.1\r\n...", {}),
    "HEAD": ({"method": "HEAD"}, "200 OK", b"", {"content-type": "text/plain"}),
    "fields": (
        {"method": "PUT", "content": "{}", "fields": "content-type: application/json\n\nX-A:b "},
        "200 OK",
        b"{}",
        {"content-type": "application/json"},
    ),
    "echo=json": ({"echo": "json"}, "200 OK", b'{\n  "method": "GET",\n  "target": "/?echo=json",...', {}),
    "echo=head": (
        {"echo": "head", "method": "POST", "content": "hello"}, "200 OK", b"POST /?echo=head HTTP/1.1\r\n...", {},
    ),
    "echo=body": ({"echo": "body"}, "200 OK", b"", {"content-length": "0"}),
    "echo=none": ({"echo": "none"}, "204 No Content", b"", {}),
    "status": ({"status": "503"}, "503 Service Unavailable", b"GET /?status=503 HTTP/1.1\r\n...", {}),
    "shares of statuses": ({"status": "418:100,404:0"}, "418", b"GET /?status=418:100,404:0 HTTP/1.1\r\n...", {}),
    "size": ({"size": "1000"}, "200 OK", pattern(1000), {"content-length": "1000"}),
    "header": (
        {"size": "1", "header": "X-A: <i>b</i>, c\nContent-Type: text/html"},
        "200 OK",
        pattern(1),
        {"x-a": "<i>b</i>, c", "content-type": "text/html"},
    ),
    "close": ({"close": "100", "size": "1"}, "200 OK", pattern(1), {"connection": "close"}),
    "an error": ({"delay": "2m"}, "400 Bad Request", b"400 Bad Request: delay='2m': at most 60 s are allowed...", {}),
}  # fmt: skip


@pytest.mark.parametrize(("given", "status", "content", "fields"), ASKED.values(), ids=ASKED)
def test_a_request(plain: Browser, given: dict[str, str], status: str, content: bytes, fields: dict[str, str]) -> None:
    page = plain.send(**given)
    assert page.text("said").strip() == status
    got = page.dumped()
    start = content.removesuffix(b"...")
    assert got.startswith(start)
    assert got == start or start != content
    assert page.text("text") == got.decode()
    assert fields.items() <= page.fields().items()
    assert page.text("failed") == ""


def test_chunked(page: Browser) -> None:
    page.click("chunked").send(size="100")
    assert page.text("line") == "GET /?size=100&chunked HTTP/1.1"
    coding = None if page.origin.startswith("https") else "chunked"  # there are no chunks in HTTP/2
    assert page.fields().get("transfer-encoding") == coding
    assert page.dumped() == pattern(100)


def test_delay(page: Browser) -> None:
    page.send(delay="200ms")
    assert page.took() >= 199  # rounded, by a clock of its own


def test_rate(plain: Browser) -> None:
    plain.send(size="20KB", rate="100KB")
    assert plain.took() >= 100
    assert plain.dumped() == pattern(20_000)


def test_abort(page: Browser) -> None:
    page.send(abort="100")
    assert page.text("line") == "GET /?abort HTTP/1.1"
    assert page.text("said") == "No answer"
    assert page.text("failed").startswith("The connection was closed without an answer")
    assert not page.element("some").is_displayed()
    page.send(abort="")
    assert page.text("said").startswith("200")
    assert page.text("failed") == ""


def test_a_large_answer_is_shown_as_it_comes_and_can_be_cancelled(page: Browser) -> None:
    page.fill(size="1GiB", rate="2MiB").click("send")
    page.wait(lambda: "MiB" in page.text("took"), "the first bytes").click("send").answered()
    assert page.text("failed") == "Cancelled."
    assert page.element("cut").is_displayed()
    assert page.text("text").encode() == pattern(1 << 16)
    page.click("as-hex")
    assert page.element("hex").is_displayed()
    assert not page.element("text").is_displayed()
    assert page.dumped() == pattern(1 << 16)


def test_a_delay_can_be_cancelled(plain: Browser) -> None:
    plain.fill(delay="5s").click("send").wait(lambda: plain.text("send") == "Cancel", "the request")
    plain.click("send").answered()
    assert plain.text("said") == "Cancelled"


def test_redirects_are_followed_and_it_is_said(plain: Browser) -> None:
    plain.send(status="302", header="Location: /elsewhere")
    assert plain.text("said") == "200 OK"
    assert plain.text("failed") == f"The browser followed a redirect: this is the answer of {plain.origin}/elsewhere"
    assert plain.dumped().startswith(b"GET /elsewhere HTTP/1.1\r\n")


def test_what_can_not_be_sent_is_said_at_once(plain: Browser) -> None:
    plain.fill(fields="no field")
    assert plain.text("problem") == "Expected a field line, Name: value, got: no field"
    plain.click("send")
    assert plain.text("send") == "Send"
    assert plain.element("none").is_displayed()
    plain.fill(fields="Host: a\nX-B: c\nCookie: d")
    assert plain.text("problem") == "Browsers do not let pages set Host, Cookie."
    assert "Host" not in plain.text("curl")
    plain.fill(method="TRACE")
    assert "TRACE" in plain.text("problem")


def test_http2__a_websocket_is_a_stream_of_the_pages_connection(driver: "Chrome", certificates: Certificates) -> None:
    """RFC 8441: no connection of HTTP/1.1 is made for it."""
    with Server("--https", "0", "--admin", "0", *certificates.options) as server:
        page = Browser(driver).at(f"https://127.0.0.1:{server.port('https')}")
        page.open().opened().fill(message="hello").click("say").wait(lambda: len(page.log()) == 3, "the echo")
        counted = Page(ask(server).content)
        opened = "echoserver_connections_opened_total"
        assert (counted(opened, protocol="websocket"), counted(opened, protocol="https")) == (1, 0)
        driver.get("about:blank")


def test_a_server_that_ends(driver: "Chrome") -> None:
    with Server("--drain-timeout", "50ms", allow_errors=True) as server:
        page = Browser(driver).at(f"http://127.0.0.1:{server.http}")
        page.fill(size="1MiB", rate="10KiB").click("send")
        page.wait(lambda: "KiB" in page.text("took"), "the first bytes")
        server.process.send_signal(signal.SIGTERM)
        page.answered()
        assert page.text("said") == "200 OK"
        assert page.text("failed") == "The connection was closed before the content was complete."
        server.wait()
        page.send()
        assert page.text("said") == "No answer"


NASTY = """it's "quoted" `id` $HOME \\n \\ ! %41 {a,b} [1-3] & ; | < > * ? # ~\n\n-d @file caf\u00e9 \U0001f30d\t."""


@needs("curl")
@pytest.mark.parametrize(
    "given",
    [
        {"method": "POST", "content": NASTY, "fields": "X-It's: $HOME `id`\nX-Empty:"},
        {"method": "PUT", "content": "@file", "path": "/it's/[1-3]{a}?$HOME", "status": "201"},
        {"method": "POST"},
        {"size": "100", "header": 'X-A: it\'s "b"'},
        {"method": "HEAD", "size": "100"},
        {"method": "it's", "size": "1"},
        {"method": "POST", "content": "{}", "echo": "json", "fields": "Content-Type: application/json"},
    ],
    ids=["everything", "PUT", "no content", "GET", "HEAD", "a method", "json"],
)
def test_the_curl_command_does_the_same(page: Browser, given: dict[str, str]) -> None:
    page.send(**given)
    command = f"{page.text('curl')} --silent --show-error --insecure --noproxy '*' --max-time {int(PATIENCE)}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=2 * PATIENCE, check=True)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    assert head.decode().splitlines()[0].partition(" ")[2].strip() == page.text("said")
    if "echo" in given:
        said, by_page = json.loads(content), json.loads(page.dumped())
        for name in ("method", "target", "parameters", "content"):
            assert said[name] == by_page[name]
    else:
        assert content == page.dumped()


def test_copying(plain: Browser) -> None:
    button = plain.driver.find_element("css selector", "[data-of=curl]")
    button.click()
    assert plain.run("return getSelection().toString()") == plain.text("curl")
    assert button.text in {"Copied", "Press Ctrl+C"}


# --- WebSocket ---


def test_messages(page: Browser) -> None:
    page.open(subprotocol="chat, b").opened()
    page.fill(message="caf\u00e9 <b>").click("say").wait(lambda: len(page.log()) == 3, "the text")
    page.click("as-binary").fill(message="00 ff\n7F41").click("say").wait(lambda: len(page.log()) == 5, "the bytes")
    page.fill(reason="done", code="3456").click("disconnect").closed()
    log = page.log()
    assert re.fullmatch(r"open Connected in .* subprotocol chat, permessage-deflate.*", log[0][1])
    assert log[1:3] == [("out", "→ sent text (1) 9 bytes café <b>"), ("in", "← received text (1) 9 bytes café <b>")]
    assert log[3:5] == [
        ("out binary", "→ sent binary (2) 4 bytes 0000 00 ff 7f 41 ...A"),
        ("in binary", "← received binary (2) 4 bytes 0000 00 ff 7f 41 ...A"),
    ]
    assert log[5:] == [("out", "→ sent close (8) 3456 done"), ("in", "← received close (8) 3456 done")]
    page.click("clear")
    assert page.log() == []


def test_a_message_of_many_bytes(plain: Browser) -> None:
    plain.open().opened().fill(message="a" * 100_000).click("say").wait(lambda: len(plain.log()) == 3, "the text")
    assert plain.log()[2][1] == f"← received text (1) 97.7 KiB {'a' * 4096} Not all of it is shown."


def test_what_is_wrong_with_a_message_or_a_close(plain: Browser) -> None:
    plain.open().opened().click("as-binary").fill(message="0").click("say")
    assert plain.text("trouble") == "Expected two hex digits a byte, as in 00 ff 7f"
    plain.fill(code="1001").click("disconnect")
    assert "1001" in plain.text("trouble")
    plain.fill(code="").click("disconnect").closed()
    assert plain.log()[1:] == [
        ("out", "→ sent close (8) without a code"),
        ("in", "← received close (8) without a code"),
    ]


def test_connections_that_fail_or_end(plain: Browser) -> None:
    url = plain.origin.replace("http", "ws")
    plain.open(url=f"{url}/?status=503").closed()
    assert plain.log() == [("", "failed The handshake failed: the server refused it or did not answer.")]
    plain.fill(url="ftp://a/").click("connect")
    assert plain.element("trouble").get_attribute("class") == "quiet bad"
    assert plain.element("connect").is_enabled()


def test_what_the_server_says_when_it_closes(driver: "Chrome") -> None:
    with Server("--max-message", "10", "--idle-timeout", "off") as server:
        page = Browser(driver).at(f"http://127.0.0.1:{server.http}").open().opened()
        page.fill(message="eleven bytes").click("say").closed()
        assert re.fullmatch(r"← received close \(8\) 1009.*", page.log()[-1][1])
        page.click("connect").opened()
        server.process.send_signal(signal.SIGTERM)
        page.closed()
        assert re.fullmatch(r"← received close \(8\) 1001.*", page.log()[-1][1])


# --- how it looks, and who can use it ---


def declarations(style: str | list[Any]) -> Iterator[tuple[str, str]]:
    """Names and values in a style sheet, those within @media too; it must have no error of syntax."""
    css = pytest.importorskip("tinycss2", reason="tinycss2 is not installed: pip install '.[test]'")
    for rule in css.parse_rule_list(style, skip_comments=True, skip_whitespace=True):
        assert rule.type != "error", rule.message
        if rule.type == "at-rule":
            yield from declarations(rule.content)
            continue
        for each in css.parse_blocks_contents(rule.content, skip_comments=True, skip_whitespace=True):
            assert each.type == "declaration", getattr(each, "message", each.type)
            yield each.name, css.serialize(each.value).strip()


def test_the_browser_knows_whatever_the_style_says(plain: Browser) -> None:
    style = plain.run("return document.querySelector('style').textContent")
    declared = list(declarations(style))
    unknown = plain.run("return arguments[0].filter(([name, value]) => !CSS.supports(name, value))", declared)
    assert unknown == []
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) == {name for name, _ in declared if name.startswith("--")}


def test_dark_and_light(plain: Browser) -> None:
    seen = {}
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        plain.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = plain.run(
            "const {color, backgroundColor} = getComputedStyle(document.body); return [color, backgroundColor]"
        )
        seen[scheme] = [sum(map(int, re.findall("[0-9]+", each)[:3])) for each in colours]
    assert seen["dark"][0] > 600 > 150 > seen["dark"][1]
    assert seen["light"][1] > 600 > 150 > seen["light"][0]


@pytest.fixture
def narrow(driver: "Chrome") -> Iterator[None]:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.usefixtures("narrow")
def test_a_narrow_window_does_not_scroll_sideways(plain: Browser) -> None:
    def width() -> int:
        return int(plain.run("return document.documentElement.scrollWidth"))

    long = "x" * 300
    plain.send(path=f"/{long}", method="POST", content=long, header=f"X-{long}: {long}", status="503")
    assert plain.text("said") == "503 Service Unavailable"
    assert width() == 360
    plain.click("as-hex")
    assert plain.run("return hex.scrollWidth <= hex.clientWidth")
    assert width() == 360
    plain.open(subprotocol=long).opened().fill(message=long).click("say")
    plain.wait(lambda: len(plain.log()) == 3, "the echo")
    plain.click("as-binary").fill(message="00" * 300).click("say").wait(lambda: len(plain.log()) == 5, "the echo")
    assert width() == 360


def test_everything_has_a_label_and_is_reached_by_keyboard(plain: Browser) -> None:
    labels = "return Array.from(document.querySelectorAll('input, select, textarea'), each => each.labels.length)"
    assert set(plain.run(labels)) == {1}

    def press(key: str) -> None:
        plain.driver.switch_to.active_element.send_keys(key)

    reached: list[str] = []
    while len(reached) < 40 and "curl" not in reached:
        press(TAB)
        reached.append(plain.run(
            "const {id, hash, dataset} = document.activeElement; return id || hash || dataset.of || 'body'"
        ))  # fmt: skip
    expected = [
        "#request", "#websocket", "method", "path", "fields", "echo", "status", "delay", "size", "rate", "close",
        "abort", "chunked", "header", "send", "line", "curl",
    ]  # fmt: skip
    assert reached == expected  # content is for other methods than GET
    plain.run("document.getElementById('path').focus()")
    press("b")
    press(ENTER)
    plain.answered()
    assert plain.dumped().startswith(b"GET /b HTTP/1.1\r\n")
