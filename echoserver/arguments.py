"""Arguments and environment to a Config."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from echoserver import __version__
from echoserver.config import options as config
from echoserver.config import values
from echoserver.exit_codes import USAGE
from echoserver.sockets import systemd

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
        except values.ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return text

    return check


def make_parser() -> argparse.ArgumentParser:
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


def from_environment(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> dict[str, str]:
    texts = {}
    for option in config.OPTIONS:
        for variable in (option.variable, option.stand_in):
            if variable and environment.get(variable):
                try:
                    option.parse(environment[variable])
                except values.ConfigError as error:
                    parser.error(f"{variable}: {error}{_LINK if _SERVICE_LINK.match(environment[variable]) else ''}")
                texts[option.name] = environment[variable]
                break
    return texts


def settings(arguments: list[str], environment: Mapping[str, str]) -> config.Config:
    """The Config that arguments and environment ask for. Ends the program with 2 and one line where they are wrong."""
    parser = make_parser()
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        parser.error(_unrecognized(unknown))
    given = {name: text for name, text in vars(known).items() if text is not None}
    try:
        return config.parse(systemd.passed(environment) | from_environment(parser, environment) | given)
    except values.ConfigError as error:
        parser.error(str(error))
