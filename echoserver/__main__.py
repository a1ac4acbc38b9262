"""``python -m echoserver``, and the command ``echoserver``."""

import sys

from echoserver import end_on_signals


def run() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:2] != ["healthcheck"]:  # which would be one that went well
        end_on_signals()
    try:
        from echoserver.cli import main  # noqa: PLC0415 - signals come first: this takes a while

        return main()
    except (MemoryError, ImportError, SystemError) as error:  # in too little memory nothing can be mapped
        print(f"echoserver: cannot start: {error or 'out of memory'}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(run())
