"""Programs that tests want and no extra can bring: where one is missing the tests are skipped, and say so alike."""

import os
import shutil

import pytest

PACKAGES = {
    "cc": "gcc libc6-dev", "chromedriver": "chromium-driver", "chromium": "chromium", "h2load": "nghttp2-client",
    "nghttp": "nghttp2-client", "nghttpd": "nghttp2-server", "nghttpx": "nghttp2-proxy", "nm": "binutils",
    "promtool": "prometheus", "strip": "binutils", "systemd-analyze": "systemd", "systemd-socket-activate": "systemd",
    "unshare": "util-linux",
}  # fmt: skip
"""Debian's packages that are not called as the program is."""

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def find(program: str) -> str | None:
    """Where a program is: also in /usr/sbin, which is not in every user's PATH."""
    return shutil.which(program, path=_PATH)


def missing(program: str) -> str:
    """What is said where a program is not found."""
    return f"{program} is not installed: apt-get install {PACKAGES.get(program, program)}"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where one of some programs is not installed."""
    absent = [each for each in programs if not find(each)]
    return pytest.mark.skipif(bool(absent), reason=missing(absent[0]) if absent else "")
