"""Options: texts in, values out, and for everything else a message that says what was expected.

Modules: config.options, config.values, config.limits.
"""

import dataclasses
import io
import math
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.config import limits, values
from echoserver.config import options as config
from echoserver.config.values import Address, ConfigError
from tests.unit.examples import examples

ADDRESS = "expected PORT, HOST:PORT, [V6]:PORT, unix:/path, unix:@name, fd:N or off"
PORT = "expected a number from 0 to 65535"
HOST = "expected a name, an IPv4 or an IPv6 address"
SIZE = "expected bytes or a unit, as in 1000, 64KiB, 16MiB, 1GB"
DURATION = "expected a number and a unit, as in 500ms, 10s, 2m, or off"

options = pytest.mark.parametrize("option", config.OPTIONS, ids=lambda option: option.name)
what_a_shell_can_pass = st.text() | st.binary().map(os.fsdecode)


def option(name: str) -> config.Option:
    return next(each for each in config.OPTIONS if each.name == name)


def error_of(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", Address(port=8080)),
        ("0", Address(port=0)),
        ("65535", Address(port=65535)),
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("echo-1.example_x.org:7", Address("echo-1.example_x.org", 7)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[::]:0", Address("::", 0)),
        ("[fe80::1%eth0]:7", Address("fe80::1%eth0", 7)),
        ("unix:/run/echo.sock", Address(path="/run/echo.sock")),
        ("unix:relative:with:colons", Address(path="relative:with:colons")),
        ("unix:" + "p" * 107, Address(path="p" * 107)),
        ("unix:@echo", Address(path="@echo")),
        ("unix:@" + "n" * 107, Address(path="@" + "n" * 107)),
        ("off", None),
    ],
)
def test_addresses(text: str, expected: Address | None) -> None:
    assert values.address(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' is not an address: {ADDRESS}"),
        ("OFF", f"'OFF' is not an address: {ADDRESS}"),
        ("http", f"'http' is not an address: {ADDRESS}"),
        ("-1", f"'-1' is not an address: {ADDRESS}"),
        (" 80", f"' 80' is not an address: {ADDRESS}"),
        (":80", f"':80' is not an address: {ADDRESS}"),
        ("[]:80", f"'[]:80' is not an address: {ADDRESS}"),
        ("65536", f"'65536' is not a port: {PORT}"),
        ("\u0663", f"'\u0663' is not an address: {ADDRESS}"),
        ("localhost:", f"'' is not a port: {PORT}"),
        ("localhost:http", f"'http' is not a port: {PORT}"),
        ("localhost:65536", f"'65536' is not a port: {PORT}"),
        ("localhost:+1", f"'+1' is not a port: {PORT}"),
        ("::1", "'::1' is not an address: expected brackets around an IPv6 address, as in [::1]:8080"),
        ("[::1]", "'[::1]' is not an address: expected brackets around an IPv6 address, as in [::1]:8080"),
        (
            "http://127.0.0.1:8080",
            "'http://127.0.0.1:8080' is not an address: expected no scheme, as in 127.0.0.1:8080",
        ),
        ("tcp://10.0.0.1:8080", "'tcp://10.0.0.1:8080' is not an address: expected no scheme, as in 10.0.0.1:8080"),
        ("http://[::1]:80/x", "'http://[::1]:80/x' is not an address: expected no scheme, as in [::1]:80"),
        ("http://localhost", f"'http://localhost' is not an address: {ADDRESS}"),
        ("://", f"'://' is not an address: {ADDRESS}"),
        ("http://unix:/p", f"'http://unix:/p' is not an address: {ADDRESS}"),
        ("a b:80", f"'a b' is not a host: {HOST}"),
        ("a/b:80", f"'a/b' is not a host: {HOST}"),
        ("unix:@", "'unix:@' is not an address: expected a path, or a name after @, of 1 to 107 bytes"),
        ("unix:", "'unix:' is not an address: expected a path, or a name after @, of 1 to 107 bytes"),
        (
            "unix:a\0b",
            "'unix:a\\x00b' is not an address: expected a path, or a name after @, of 1 to 107 bytes",
        ),
        (
            "unix:" + "é" * 54,
            f"'unix:{'é' * 54}' is not an address: expected a path, or a name after @, of 1 to 107 bytes",
        ),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    assert error_of(values.address, text) == message


@pytest.mark.parametrize("text", ["127.0.0.1:80", "localhost:0", "[::1]:8080", "unix:/run/echo.sock", "unix:@echo"])
def test_an_address_is_written_as_it_is_read(text: str) -> None:
    assert str(values.address(text)) == text


def test_udp_has_no_unix_sockets() -> None:
    assert error_of(values.inet_address, "unix:/run/echo.sock") == (
        "'unix:/run/echo.sock' is not an address for UDP: expected PORT, HOST:PORT, [V6]:PORT, fd:N or off"
    )
    assert values.inet_address("[::1]:7") == Address("::1", 7)
    assert values.inet_address("off") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", "localhost"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::1]", "::1"),
        ("a.b.", "a.b."),
        ("a" * 63, "a" * 63),
    ],
)
def test_hostnames(text: str, expected: str) -> None:
    assert values.hostname(text) == expected


@pytest.mark.parametrize("text", ["", "[]", "a b", "a\n", "é", "[::1", "a" * 254, "a..b", ".a", "a" * 64 + ".b"])
def test_what_is_no_hostname(text: str) -> None:
    assert error_of(values.hostname, text) == f"{text!r} is not a host: {HOST}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1000", 1000),
        ("1b", 1),
        ("64KiB", 64 << 10),
        ("64kib", 64 << 10),
        (" 64 KiB ", 64 << 10),
        ("16MiB", 16 << 20),
        ("2GiB", 2 << 30),
        ("1KB", 1000),
        ("1MB", 1_000_000),
        ("2GB", 2_000_000_000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert values.size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "KiB", "-1", "+1", "1.5MiB", "1 K", "1TiB", "1_000", "0x10", "\u0663", "off", "1\0"]
)
def test_what_is_no_size(text: str) -> None:
    assert error_of(values.size, text) == f"{text!r} is not a size: {SIZE}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("off", 0.0),
        ("10", 10.0),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        (" 2 m ", 120.0),
        ("1h", 3600.0),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert values.duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "1.s", ".5s", "1e3", "1d", "1S", "inf", "nan", "OFF", "\u0663s", "1s 2s"]
)
def test_what_is_no_duration(text: str) -> None:
    assert error_of(values.duration, text) == f"{text!r} is not a duration: {DURATION}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("off", 0.0),
        ("on", 100.0),
        ("100", 100.0),
        ("100.0%", 100.0),
        ("12.5", 12.5),
        (" 0.001 % ", 0.001),
    ],
)
def test_shares(text: str, expected: float) -> None:
    assert values.percent(text) == expected


@pytest.mark.parametrize(
    "text", ["", "%", "-1", "+1", "1.", ".5", "1e1", "100.1", "1000", "nan", "inf", "ON", "\u0663", "5%%", "on%"]
)
def test_what_is_no_share(text: str) -> None:
    expected = "expected a number from 0 to 100, as in 25, 0.1%, or on or off"
    assert error_of(values.percent, text) == f"{text!r} is not a share: {expected}"


@given(st.floats(0, 100).map(lambda share: f"{share:.6f}"), st.sampled_from(["", "%", " %"]))
def test_any_share(text: str, sign: str) -> None:
    assert values.percent(text + sign) == float(text)


@pytest.mark.parametrize(("text", "expected"), [("off", 0), ("1", 1), ("64KiB", 1 << 16)])
@pytest.mark.parametrize("name", ["tcp_rate", "tcp_close_after"])
def test_some_or_off(name: str, text: str, expected: int) -> None:
    assert option(name).parse(text) == expected


@pytest.mark.parametrize("text", ["0", "0KiB"])
@pytest.mark.parametrize("name", ["tcp_rate", "tcp_close_after"])
def test_none_is_off(name: str, text: str) -> None:
    assert error_of(option(name).parse, text) == f"{text!r} is too small: expected at least 1 byte, or off"


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("007", 7), (str(1 << 30), 1 << 30)])
@pytest.mark.parametrize("name", ["workers", "backlog", "max_connections"])
def test_counts(name: str, text: str, expected: int) -> None:
    assert option(name).parse(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", " 1", "\u0663", "two", str((1 << 30) + 1)])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("workers", "is not a number of workers: expected a whole number from 1, or auto"),
        ("backlog", "is not a count: expected a whole number from 1 to 1073741824"),
        ("max_connections", "is not a count: expected a whole number from 1 to 1073741824"),
    ],
)
def test_what_is_no_count(name: str, message: str, text: str) -> None:
    assert error_of(option(name).parse, text) == f"{text!r} {message}"


@pytest.mark.parametrize(
    "text",
    [
        "*", "null", "https://a.example", "http://localhost:3000", "https://a.example:80", "http://127.0.0.1:8080",
        "http://[::1]:3000", "https://xn--bcher-kva.example", "https://a_b.example.", "chrome-extension://abcdef",
        "http://[::ffff:102:304]", "capacitor://localhost",
    ],
)  # fmt: skip
def test_cors_takes_what_browsers_send(text: str) -> None:
    assert values.origin(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://*.example", "expected one, SCHEME://HOST or SCHEME://HOST:PORT, or * for any"),
        ("https://a.example/", "expected it as browsers send it, https://a.example"),
        ("https://a.example:443/x?y#z", "expected it as browsers send it, https://a.example"),
        ("http://a.example:80", "expected it as browsers send it, http://a.example"),
        ("HTTPS://A.Example", "expected it as browsers send it, https://a.example"),
        ("https://user:pass@a.example", "expected it as browsers send it, https://a.example"),
        ("https://b\u00fccher.example", "expected the host in punycode, as in https://xn--bcher-kva.example"),
        *(
            (text, "expected SCHEME://HOST or SCHEME://HOST:PORT, null, * or off")
            for text in (
                "a.example", "https://", "https:///", "https://a.example:0443", "https://a.example:65536",
                "https://a..example", "https://-a.example", "http://127.1", "http://1.2.3.256", "http://[::1", "http://::1",
                "http://[::1]x", "https://a.example, https://b.example", "https://a.example https://b.example",
                "//a.example", "https://a.example:", "https://" + "a" * 64 + ".example", "Null", "ON",
            )
        ),
    ],
)  # fmt: skip
def test_cors_refuses_what_no_browser_sends(text: str, expected: str) -> None:
    assert error_of(values.origin, text) == f"{text!r} is not an origin: {expected}"


@pytest.mark.parametrize(("text", "expected"), [("0666", 0o666), ("660", 0o660), ("0000", 0)])
def test_unix_modes(text: str, expected: int) -> None:
    assert option("unix_mode").parse(text) == expected


@pytest.mark.parametrize("text", ["", "rw", "0o660", "4755", "888", "66", "06660", "\u0666\u0666\u0666"])
def test_what_is_no_unix_mode(text: str) -> None:
    expected = f"{text!r} is not a file's mode: expected three octal digits, as in 0660"
    assert error_of(option("unix_mode").parse, text) == expected


@pytest.mark.parametrize("text", ["auto", "uvloop", "asyncio"])
def test_loops(text: str) -> None:
    assert config.loop(text) == text


def test_what_is_no_loop() -> None:
    assert error_of(config.loop, "trio") == "'trio' is not an event loop: expected auto, uvloop or asyncio"


@pytest.mark.parametrize(
    ("name", "least", "short"),
    [("max_header", "256", "255"), ("buffer_limit", "64KiB", "65535"), ("buffer_total", "64KiB", "65535")],
)
def test_sizes_that_would_be_of_no_use(name: str, least: str, short: str) -> None:
    assert option(name).parse(least) == values.size(least)
    expected = f"'{short}' is too small: expected at least {values.size(least)} bytes"
    assert error_of(option(name).parse, short) == expected


@pytest.mark.parametrize("text", ["off", "0"])
def test_max_body_can_be_off(text: str) -> None:
    assert option("max_body").parse(text) == 0


@examples(60)
@given(text=what_a_shell_can_pass)
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    for each in config.OPTIONS:
        try:
            found = each.parse(text)
        except ConfigError as error:
            found = str(error)
        assert found is None or isinstance(found, int | float | str | Address), each


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (values.address, "9" * 5000),  # more digits than int() takes (CPython 3.11: 4300)
        (values.address, "localhost:" + "9" * 5000),
        (values.size, "9" * 5000 + "KiB"),
        (values.duration, "9" * 400 + "s"),  # more than a float holds
        (config.workers, "9" * 5000),
        (option("backlog").parse, "9" * 5000),
    ],
)
def test_a_number_too_long_to_be_one_is_a_config_error(parse: Callable[[str], object], text: str) -> None:
    assert "expected" in error_of(parse, text)


@options
def test_every_default_is_a_value(option: config.Option) -> None:
    assert option.parse(option.default) == option.parse(option.default)
    assert option.flag == "--" + option.name.replace("_", "-")
    assert option.variable == "ECHOSERVER_" + option.name.upper()


def test_the_defaults_are_those_of_the_design() -> None:
    assert dataclasses.asdict(config.parse({})) == dataclasses.asdict(
        config.Config(
            host="127.0.0.1", http=Address("127.0.0.1", 8080), tcp=Address("127.0.0.1", 8007),
            udp=Address("127.0.0.1", 8007), backlog=4096, max_connections=0, max_header=64 << 10, max_body=0,
            buffer_limit=16 << 20, buffer_total=256 << 20, header_timeout=10.0, keep_alive_timeout=75.0,
            max_message=16 << 20, ws_ping=0.0, http2=True, max_streams=128, http2_ping=0.0, any=None,
            detect_timeout=1.0,
            idle_timeout=0.0, drain_delay=0.0, drain_timeout=10.0, workers=1, loop="auto", https=None, tls=None,
            admin=None,
            proxy_protocol=False, reuse_port=True, unix_mode=0o666,
            tls_cert=None, tls_key=None, tls_client_ca=None, access_log="off",
            log_format="text", log_level="info", cpu_affinity=False, served_by=True, tcp_mode="echo", tcp_delay=0.0,
            tcp_rate=0, tcp_close_after=0, tcp_reset=0.0,
            controls=True, controls_prefix="", max_delay=60.0, max_size=1 << 30, cors=None,
        )
    )  # fmt: skip


def test_host_is_for_addresses_that_are_only_a_port() -> None:
    found = config.parse({"host": "[::]", "http": "80", "tcp": "10.0.0.1:7", "udp": "unix-host:7"})
    assert (found.http, found.tcp, found.udp) == (Address("::", 80), Address("10.0.0.1", 7), Address("unix-host", 7))
    assert config.parse({"host": "::", "http": "unix:/p", "tcp": "off"}).http == Address(path="/p")


@pytest.mark.parametrize(
    "texts",
    [
        {"http": "0", "tcp": "0"},  # two free ports
        {"tcp": "7", "udp": "7"},
        {"http": "10.0.0.1:80", "tcp": "80"},
        {"http": "off", "tcp": "off"},
        {"http": "off", "udp": "off"},
        {"tcp": "off", "udp": "off"},
        {"buffer_limit": "1MiB", "buffer_total": "1MiB"},
    ],
)
def test_settings_that_go_together(texts: dict[str, str]) -> None:
    assert isinstance(config.parse(texts), config.Config)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"http": "off", "tcp": "off", "udp": "off"},
            "nothing to serve: --http, --https, --tcp, --tls, --udp and --any are all off",
        ),
        ({"http": "7", "tcp": "7"}, "--http and --tcp are both 127.0.0.1:7: expected two addresses"),
        ({"http": "[::1]:7", "tcp": "7", "host": "::1"}, "--http and --tcp are both [::1]:7: expected two addresses"),
        ({"http": "unix:/p", "tcp": "unix:/p"}, "--http and --tcp are both unix:/p: expected two addresses"),
        (
            {"buffer_limit": "2MiB", "buffer_total": "1MiB"},
            "--buffer-limit is more than --buffer-total: expected at most as much",
        ),
        (
            {"tcp_mode": "discard", "tcp_delay": "1s"},
            "--tcp-delay must be off with --tcp-mode discard, which sends nothing",
        ),
        ({"tcp_mode": "daytime"}, "'daytime' is not a mode: expected echo, discard or chargen"),
        (
            {"controls_prefix": "echo="},
            "'echo=' is not a prefix: expected 1 to 32 letters, digits, - . _ or ~, as in echo-, or off",
        ),
        ({"max_body": "much"}, f"'much' is not a size: {SIZE}"),
        ({"https": "443"}, "--https needs a certificate: expected --tls-cert and --tls-key"),
        ({"tls": "443", "tls_key": "/k"}, "--tls needs a certificate: expected --tls-cert and --tls-key"),
        (
            {"https": "7", "tls": "7", "tls_cert": "/c"},
            "--https and --tls are both 127.0.0.1:7: expected two addresses",
        ),
        ({"http": "fd:3", "tcp": "fd:3"}, "--http and --tcp are both fd:3: expected two addresses"),
        ({"http": "8080", "admin": "8080"}, "--http and --admin are both 127.0.0.1:8080: expected two addresses"),
        (
            {"http": "off", "tcp": "off", "udp": "off", "admin": "9"},
            "nothing to serve: --http, --https, --tcp, --tls, --udp and --any are all off",
        ),
    ],
)
def test_settings_that_do_not_go_together(texts: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(texts)
    assert str(caught.value) == message


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.parse({}).workers = 2  # type: ignore[misc]


V1_QUOTA, V1_PERIOD = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"/sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({V1_QUOTA: "300000\n", V1_PERIOD: "100000\n"}, 3),
        ({V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, None),
        ({}, None),
    ],
)
def test_auto_workers_are_the_quota_of_the_cgroup_else_the_affinity(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], expected: int | None
) -> None:
    def read(path: str, **_: Any) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(limits, "open", read, raising=False)
    assert config.workers("auto") == (expected or len(os.sched_getaffinity(0)))


def test_the_connection_limit_leaves_descriptors_for_the_rest() -> None:
    assert limits.connection_limit(17) == 17
    limit = limits.connection_limit(0)
    assert limit == max(1, limits.descriptor_limit() - limits.RESERVE)
    assert 1 <= limit < math.inf


def test_each_listener_that_there_is_an_option_for_is_a_protocol() -> None:
    """One that is not in the list would be taken, and do nothing."""
    listeners = {option.name for option in config.OPTIONS if option.parse in (values.address, values.inet_address)}
    assert listeners == set(config.PROTOCOLS)
