"""What the README says of the options and limits is what the code does."""

import re
from pathlib import Path

from echoserver.config import options as config
from echoserver.protocols.udp import REFLECTORS
from echoserver.wire.request import MAX_FIELDS

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(--[a-z0-9-]+) [A-Za-z\\|]+` \| .*? \| (.*?) \|", README, re.MULTILINE))
    assert rows == {option.flag: f"`{option.default}`" for option in config.OPTIONS}


def test_every_option_says_the_same_as_the_help() -> None:
    for option in config.OPTIONS:
        metavar = option.metavar.replace("|", "\\|")  # a table's bar
        variables = ", ".join(f"`{name}`" for name in (option.variable, option.stand_in) if name)
        assert f"| `{option.flag} {metavar}` | {variables} | `{option.default}` | {option.help} |" in README


def test_the_figures_in_the_text() -> None:
    assert f"more than {MAX_FIELDS} fields" in README
    assert ", ".join(map(str, sorted(REFLECTORS))) in " ".join(README.split())
