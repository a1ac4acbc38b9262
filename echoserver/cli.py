"""The command line: which command is meant."""

import os
import sys

from echoserver import end_on_signals
from echoserver.arguments import ignored, settings
from echoserver.exit_codes import NOT_STARTED
from echoserver.healthcheck import healthcheck
from echoserver.observe import logs


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
        from echoserver.server import start  # noqa: PLC0415 - --help and healthcheck need no event loop
    except (ImportError, OSError, MemoryError) as error:  # a package is missing, or there is no memory to map it
        print(f"echoserver: cannot start: {logs.reason(error)}", file=sys.stderr)
        return NOT_STARTED
    return start.serve(asked, ignored(os.environ))
