"""What holds for every regular expression of the server."""

import importlib
import pkgutil
import re
import re._parser as parser  # type: ignore[import-not-found]  # typeshed has none
from typing import Any

import echoserver


def expressions() -> list[tuple[str, re.Pattern[Any]]]:
    modules = [
        importlib.import_module(each.name)
        for each in pkgutil.walk_packages(echoserver.__path__, "echoserver.")
        if not each.name.endswith("__main__")
    ]
    return [
        (f"{module.__name__}.{name}", value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    ]


def has_possessive_group(parsed: Any) -> bool:
    """Whether one of more than a set or a character is repeated possessively, or is atomic."""
    for operation, argument in parsed:
        name = str(operation)
        if name == "ATOMIC_GROUP":
            return True
        if name == "POSSESSIVE_REPEAT" and [str(each) for each, _ in argument[2]] not in (["IN"], ["LITERAL"]):
            return True
        inner = argument if isinstance(argument, tuple | list) else (argument,)
        for each in inner:
            branches = each if isinstance(each, list) else [each]
            if any(isinstance(branch, parser.SubPattern) and has_possessive_group(branch) for branch in branches):
                return True
    return False


def test_no_group_of_a_regular_expression_is_possessive() -> None:
    """CPython before 3.11.5 (Debian 12 has 3.11.2) goes on behind what such a group has tried in vain."""
    found = expressions()
    assert len(found) > 20
    assert has_possessive_group(parser.parse(rb"a(?:b|(?:c;)*+d)"))
    assert [name for name, each in found if has_possessive_group(parser.parse(each.pattern, each.flags))] == []
