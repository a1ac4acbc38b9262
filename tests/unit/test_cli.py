"""The command line: what arguments and environment ask for, and how it says that they are wrong.

Modules: arguments, exit_codes, healthcheck.
"""

import re
from collections.abc import Mapping

import pytest

from echoserver import __version__, cli
from echoserver.arguments import ignored, settings
from echoserver.config import options as config
from echoserver.config import values
from echoserver.config.values import Address
from echoserver.healthcheck import _target, healthcheck

OTHER = {  # for every option a text that is not its default
    "host": "::1", "http": "10.0.0.1:81", "tcp": "10.0.0.1:82", "udp": "10.0.0.1:83", "backlog": "17",
    "max_connections": "18", "max_header": "1KiB", "max_body": "2MiB", "buffer_limit": "1MiB", "buffer_total": "300MiB",
    "header_timeout": "1s", "keep_alive_timeout": "2m", "idle_timeout": "3h", "drain_delay": "4ms",
    "drain_timeout": "off", "workers": "5", "loop": "asyncio", "https": "10.0.0.1:84", "tls": "unix:/t",
    "admin": "fd:7", "max_message": "3MiB", "ws_ping": "20s",
    "http2": "off", "max_streams": "7", "http2_ping": "30s", "any": "9000", "detect_timeout": "300ms",
    "proxy_protocol": "on", "reuse_port": "off", "tls_cert": "/c.pem", "tls_key": "/k.pem", "tls_client_ca": "/ca.pem",
    "access_log": "json", "log_format": "json", "log_level": "debug", "cpu_affinity": "on", "served_by": "off",
    "unix_mode": "0600", "controls": "off", "controls_prefix": "echo-", "max_delay": "5s", "max_size": "5MiB",
    "cors": "*",
    "tcp_mode": "chargen", "tcp_delay": "6ms", "tcp_rate": "7", "tcp_close_after": "8", "tcp_reset": "9%",
}  # fmt: skip
NEEDED = {"https": {"tls_cert": "/c.pem"}, "tls": {"tls_cert": "/c.pem"}}  # what else has to be said

options = pytest.mark.parametrize("option", config.OPTIONS, ids=lambda option: option.name)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], environment: Mapping[str, str]) -> str:
    """The one line that bad usage gets; it ends with 2."""
    with pytest.raises(SystemExit) as caught:
        settings(arguments, environment)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.removesuffix("\n")


# --- options, variables, stand-ins ---


@options
def test_every_option_is_a_flag_and_a_variable(option: config.Option) -> None:
    text = OTHER[option.name]
    needed = NEEDED.get(option.name, {})
    others = {f"ECHOSERVER_{name.upper()}": value for name, value in needed.items()}
    expected = config.parse({option.name: text, **needed})
    assert expected != config.parse(needed)
    assert settings([option.flag, text], others) == expected
    assert settings([f"{option.flag}={text}"], others) == expected
    assert settings([], {option.variable: text, **others}) == expected


@options
def test_an_option_beats_its_variable(option: config.Option) -> None:
    needed = NEEDED.get(option.name, {})
    others = {f"ECHOSERVER_{name.upper()}": value for name, value in needed.items()}
    chosen = settings([option.flag, OTHER[option.name]], {option.variable: option.default, **others})
    assert chosen == config.parse({option.name: OTHER[option.name], **needed})


@options
def test_an_empty_variable_counts_as_unset(option: config.Option) -> None:
    assert settings([], {option.variable: "", option.stand_in or "_": ""}) == config.parse({})


@pytest.mark.parametrize(("name", "variable", "text"), [("http", "PORT", "81"), ("workers", "WEB_CONCURRENCY", "5")])
class TestStandIns:
    def test_it_stands_in(self, name: str, variable: str, text: str) -> None:
        assert settings([], {variable: text}) == config.parse({name: text})

    def test_the_variable_of_its_own_beats_it(self, name: str, variable: str, text: str) -> None:
        own = f"ECHOSERVER_{name.upper()}"
        assert settings([], {variable: text, own: "3"}) == config.parse({name: "3"})
        assert settings([], {variable: text, own: ""}) == config.parse({name: text})

    def test_the_option_beats_it(self, name: str, variable: str, text: str) -> None:
        assert settings([f"--{name}", "3"], {variable: text}) == config.parse({name: "3"})


def test_a_variable_of_another_program_is_none_of_ours() -> None:
    environment = {"HOST": "nowhere", "WORKERS": "9", "echoserver_workers": "9", "ECHOSERVER_NO_SUCH_THING": "x"}
    assert settings([], environment) == config.parse({})


def test_variables_that_were_not_meant_as_they_stand() -> None:
    said = ignored(
        {
            "ECHOSERVER_HTTPP": "9", "ECHOSERVER_PORT": "8080", "ECHOSERVER_MAX_CONNECTION": "1",
            "ECHOSERVER_BIND": "x", "ECHOSERVER_HTTP": "9", "ECHOSERVER_NO_SUCH_THING": "x", "ECHOSERVER_TCPP": "",
            "HTTPP": "9", "ECHOSERVER_PORT_80_TCP_PORT": "80", "ECHOSERVER_SERVICE_PORT": "80",
            "ECHOSERVER_HTTP_PORT": "tcp://10.0.0.1:80",
        }
    )  # fmt: skip
    assert [tuple(re.findall(r"ECHOSERVER_\w+", line)) for line in said] == [
        ("ECHOSERVER_BIND", "ECHOSERVER_HTTP"),
        ("ECHOSERVER_HTTPP", "ECHOSERVER_HTTP"),
        ("ECHOSERVER_MAX_CONNECTION", "ECHOSERVER_MAX_CONNECTIONS"),
        ("ECHOSERVER_PORT", "ECHOSERVER_HTTP"),
    ]
    ours = ("COMMAND", "TEST_IMAGES", "ENGINE", "BUILD_ARGS", "WSTEST")  # of the tests and the bench
    assert ignored({f"ECHOSERVER_{name}": "x" for name in ours}) == []


def test_the_host_of_a_variable_is_that_of_a_flag() -> None:
    assert settings(["--http", "81"], {"ECHOSERVER_HOST": "0.0.0.0"}).http == Address("0.0.0.0", 81)


# --- errors ---

LINK = (
    "; Kubernetes sets variables like this one for each Service (service links): "
    "expected another name for the Service, or enableServiceLinks: false"
)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--workers", "0"], {}, "--workers: '0' is not a number of workers: expected a whole number from 1, or auto"),
        (
            ["--workers", "-1"],
            {},
            "--workers: '-1' is not a number of workers: expected a whole number from 1, or auto",
        ),
        (["--host", "a\nb"], {}, "--host: 'a\\nb' is not a host: expected a name, an IPv4 or an IPv6 address"),
        (
            ["--max-body=much"],
            {},
            "--max-body: 'much' is not a size: expected bytes or a unit, as in 1000, 64KiB, 16MiB, 1GB",
        ),
        (["--max-body"], {}, "--max-body: expected one argument"),
        (["--no-such-thing", "1"], {}, "unrecognized arguments: --no-such-thing 1"),
        *(
            (arguments, {}, f"unrecognized arguments: {' '.join(arguments)}; did you mean {meant}?")
            for arguments, meant in (
                (["--work", "2"], "--workers"),
                (["--worker", "2"], "--workers"),
                (["--port", "80"], "--http"),
                (["--port=80"], "--http"),
                (["-p", "80"], "--http"),
                (["-p80"], "--http"),
                (["-w", "2"], "--workers"),
                (["--bind", "0.0.0.0:80"], "--http"),
                (["--max-connection", "1"], "--max-connections"),
                (["--tls_cert", "c"], "--tls-cert"),
                (["x", "--prot", "80"], "--http"),
            )
        ),
        (["serve"], {}, "unrecognized arguments: serve"),
        (
            [],
            {"ECHOSERVER_IDLE_TIMEOUT": "soon"},
            "ECHOSERVER_IDLE_TIMEOUT: 'soon' is not a duration: "
            "expected a number and a unit, as in 500ms, 10s, 2m, or off",
        ),
        ([], {"PORT": "65536"}, "PORT: '65536' is not a port: expected a number from 0 to 65535"),
        (
            [],
            {"WEB_CONCURRENCY": "many"},
            "WEB_CONCURRENCY: 'many' is not a number of workers: expected a whole number from 1, or auto",
        ),
        (
            ["--http", "off", "--tcp", "off"],
            {"ECHOSERVER_UDP": "off"},
            "nothing to serve: --http, --https, --tcp, --tls, --udp and --any are all off",
        ),
        *(
            (
                [],
                {variable: "tcp://10.0.0.1:8080"},
                f"{variable}: 'tcp://10.0.0.1:8080' is not an address: expected no scheme, as in 10.0.0.1:8080{LINK}",
            )
            for variable in ("PORT", "ECHOSERVER_HTTP")
        ),
        (
            [],
            {"ECHOSERVER_REUSE_PORT": "tcp://10.0.0.1:8080"},  # of a Service named echoserver-reuse
            f"ECHOSERVER_REUSE_PORT: 'tcp://10.0.0.1:8080' is not a switch: expected on or off{LINK}",
        ),
        (
            ["--http", "http://127.0.0.1:8080"],
            {},
            "--http: 'http://127.0.0.1:8080' is not an address: expected no scheme, as in 127.0.0.1:8080",
        ),
        (["--http", "7"], {"ECHOSERVER_TCP": "7"}, "--http and --tcp are both 127.0.0.1:7: expected two addresses"),
    ],
)
def test_bad_usage_ends_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str], message: str
) -> None:
    assert refused(capsys, arguments, environment) == f"echoserver: {message}"


@pytest.mark.parametrize("text", ["", "\n", "no such value", "\udcff", "%(prog)s", "\u0663"])
@pytest.mark.parametrize(
    "option",
    [option for option in config.OPTIONS if option.parse is not values.file],  # any text is a file's path
    ids=lambda option: option.name,
)
def test_a_bad_value_is_named_by_its_option_or_its_variable(
    capsys: pytest.CaptureFixture[str], option: config.Option, text: str
) -> None:
    assert refused(capsys, [option.flag, text], {}).startswith(f"echoserver: {option.flag}: {text!r} is not a")
    for variable in filter(None, (option.variable, option.stand_in)):
        if text:
            assert refused(capsys, [], {variable: text}).startswith(f"echoserver: {variable}: {text!r} is not a")


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--http", "9" * 5000], {}),  # more digits than int() takes (CPython 3.11: 4300)
        ([], {"PORT": "9" * 5000}),
        (["no\nsuch\nargument"], {}),
    ],
    ids=["long option", "long variable", "lines"],
)
def test_bad_usage_is_one_line_whatever_it_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str], environment: dict[str, str]
) -> None:
    assert "check value" not in refused(capsys, arguments, environment)


# --- help and version ---


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def test_help_names_every_option_its_default_and_its_stand_in(help_text: str) -> None:
    for option in config.OPTIONS:
        entry = re.search(
            rf"^  {option.flag} {re.escape(option.metavar)} .*?(?=^  --|^\S|\Z)", help_text, re.MULTILINE | re.DOTALL
        )
        assert entry, option.flag
        words = " ".join(entry[0].split())
        default = f"(default: {option.default}" + (f", or ${option.stand_in})" if option.stand_in else ")")
        assert words.endswith(f"{option.help} {default}")


def test_help_groups_the_options_and_says_the_rest(help_text: str) -> None:
    for name in ("listeners", "TLS", "connections", "memory", "deadlines", "logs", "processes"):
        assert re.search(rf"^{name}\b", help_text, re.MULTILINE)
    for said in ("ECHOSERVER_MAX_BODY", "SIGTERM", "exit codes:", "healthcheck [URL]", "--version"):
        assert said in help_text
    assert max(map(len, help_text.splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"echoserver {__version__}\n"


# --- healthcheck: what is wrong with its arguments ---


@pytest.mark.parametrize(
    "url",
    [
        "", "localhost:8080", "ftp://localhost/", "https://", "http://", "http:///healthz", "http://localhost:http/",
        "http://localhost:65536/", "http://user@localhost/", "http://localhost/a b", "http://localhost/\r\nX: y",
        "http://::1/", "http://[::1/", "http://off\0/", "http://localhost:" + "9" * 5000,
    ],
)  # fmt: skip
def test_healthcheck_of_what_is_no_url(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert cli.main(["healthcheck", url]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("echoserver healthcheck: ")
    assert said.err.count("\n") == 1
    assert re.search("expected|in brackets", said.err)
    assert not re.search("UDP|fd:N|off$", said.err), "none of what a listener may be"


@pytest.mark.parametrize(
    "url", ["http://user@localhost/", "http://user:secret@localhost:8080", "https://:@localhost?x"]
)
def test_healthcheck_has_no_authentication(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert cli.main(["healthcheck", url]) == 1
    expected = "expected http://HOST:PORT/PATH without a user: there is no authentication"
    assert capsys.readouterr().err == f"echoserver healthcheck: {url!r} is not a URL to check: {expected}\n"


@pytest.mark.parametrize("url", ["unix:", "unix:@", "unix:/" + "p" * 107])
def test_healthcheck_of_what_is_no_unix_socket(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert cli.main(["healthcheck", url]) == 1
    assert "expected a path, or a name after @, of 1 to 107 bytes" in capsys.readouterr().err


def test_healthcheck_takes_one_url_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["healthcheck", "http://localhost/", "http://localhost/"]) == 1
    assert (
        capsys.readouterr().err
        == "usage: echoserver healthcheck [http[s]://HOST:PORT/PATH | unix:/path | unix:@name]\n"
    )


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_healthcheck_help(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert cli.main(["healthcheck", flag]) == 0
    assert "usage: echoserver healthcheck [http[s]://HOST:PORT/PATH | unix:/path | unix:@name]\n" in capsys.readouterr()


def test_healthcheck_without_http_wants_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck([], {"ECHOSERVER_HTTP": "off"}) == 1
    assert (
        capsys.readouterr().err
        == "echoserver healthcheck: --http, --https, --any and --admin are off: expected a URL to check\n"
    )


def test_healthcheck_with_a_bad_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck([], {"PORT": "http"}) == 1
    assert capsys.readouterr().err.startswith("echoserver: PORT: 'http' is not an address: expected PORT")


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (None, {"ECHOSERVER_ADMIN": "9", "ECHOSERVER_PROXY_PROTOCOL": "on"}, ("127.0.0.1:9", "/healthz")),
        (None, {"ECHOSERVER_PROXY_PROTOCOL": "on"}, ("127.0.0.1:8080", "/healthz", "preamble")),
        (
            None,
            {"ECHOSERVER_HTTP": "off", "ECHOSERVER_HTTPS": "[::]:9", "ECHOSERVER_TLS_CERT": "c"},
            ("[::1]:9", "/healthz", "TLS"),
        ),
        ("https://localhost", {}, ("localhost:443", "/", "TLS")),
        ("https://localhost:81/x", {}, ("localhost:81", "/x", "TLS")),
        (None, {}, ("127.0.0.1:8080", "/healthz")),
        (None, {"PORT": "81"}, ("127.0.0.1:81", "/healthz")),
        (None, {"PORT": "81", "ECHOSERVER_HOST": "0.0.0.0"}, ("127.0.0.1:81", "/healthz")),
        (None, {"ECHOSERVER_HTTP": "[::]:81"}, ("[::1]:81", "/healthz")),
        (None, {"ECHOSERVER_HTTP": "unix:/run/echo.sock"}, ("unix:/run/echo.sock", "/healthz")),
        ("http://localhost", {}, ("localhost:80", "/")),
        ("http://localhost:81/readyz?x=1", {"PORT": "82"}, ("localhost:81", "/readyz?x=1")),
        ("http://[::1]/", {}, ("[::1]:80", "/")),
        ("http://[::1]:81/a/b", {}, ("[::1]:81", "/a/b")),
        ("http://localhost:1?x=1", {}, ("localhost:1", "/?x=1")),
        ("http://localhost?x=/a?b", {}, ("localhost:80", "/?x=/a?b")),
        ("HTTPS://localhost/a?b#c", {}, ("localhost:443", "/a?b", "TLS")),
        ("http://localhost:#top", {}, ("localhost:80", "/")),
        ("http://localhost/user@example", {}, ("localhost:80", "/user@example")),
        ("unix:/run/echo.sock", {"PORT": "82"}, ("unix:/run/echo.sock", "/healthz")),
        ("unix:@echo", {}, ("unix:@echo", "/healthz")),
        (None, {"ECHOSERVER_HTTP": "unix:@echo"}, ("unix:@echo", "/healthz")),
    ],
)
def test_whom_healthcheck_asks(url: str | None, environment: dict[str, str], expected: tuple[str, ...]) -> None:
    where, path, secure, preamble = _target(url, environment)
    assert (str(where), path, *(["TLS"] if secure else []), *(["preamble"] if preamble else [])) == expected


def test_healthcheck_where_clients_need_certificates(capsys: pytest.CaptureFixture[str]) -> None:
    served = {"HTTP": "off", "HTTPS": "9", "TLS_CERT": "c", "TLS_CLIENT_CA": "ca"}
    assert healthcheck([], {f"ECHOSERVER_{name}": text for name, text in served.items()}) == 1
    assert "--https requires client certificates" in capsys.readouterr().err


def test_healthcheck_of_an_inherited_socket_wants_a_url(capsys: pytest.CaptureFixture[str]) -> None:
    assert healthcheck([], {"ECHOSERVER_HTTP": "fd:3"}) == 1
    assert (
        capsys.readouterr().err
        == "echoserver healthcheck: the address of fd:3 is not known here: expected a URL to check\n"
    )
