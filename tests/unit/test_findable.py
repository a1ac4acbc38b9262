"""Who changes an option or a module of the server finds its tests by searching for its name.

A test of an option begins with the option's name and two underscores, as test_buffer_total__others_are_still_served
does; where it is a test of several, the marker covers names them. The tests of a module are in a file of its name, or
in one whose docstring names it in a line of this form, of which there may be several:
`Modules: transport.readers, protocols.http1.gather.`
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import echoserver
from echoserver.config.options import OPTIONS
from echoserver.observe.counters import COUNTERS, Counter

TESTS = Path(__file__).parents[1]
FILES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(TESTS.rglob("test_*.py"))
    if TESTS / "bench" not in path.parents  # it has options and modules of its own
}

PACKAGE = Path(echoserver.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem not in ("__init__", "__main__")
)


def functions_of(tree: ast.Module) -> list[ast.FunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def marked(test: ast.FunctionDef) -> Iterator[str]:
    """The options that its markers name."""
    for each in test.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "pytest.mark.covers":
            yield from map(ast.literal_eval, each.args)


def options_of(tree: ast.Module) -> set[str]:
    """The options that tests name, by their own names or by markers; and what else stands before two underscores."""
    found = {option for test in functions_of(tree) for option in marked(test)}
    begun = [test.name.removeprefix("test_").partition("__") for test in functions_of(tree)]
    return found | {"--" + before.replace("_", "-") for before, _, sentence in begun if sentence}


def named_alike(path: Path) -> list[str]:
    """The modules whose last names are the file's: test_tcp_faults.py is about protocols.tcp.faults."""
    name = path.stem.removeprefix("test_")
    parts = {each: each.split(".") for each in MODULES}
    return [each for each, of in parts.items() if any("_".join(of[first:]) == name for first in range(len(of)))]


def listed(tree: ast.Module) -> list[str]:
    """The modules that the docstring names."""
    lines = re.findall(r"^Modules: (.+)\.$", ast.get_docstring(tree) or "", re.MULTILINE)
    return [each for line in lines for each in line.split(", ")]


@pytest.mark.parametrize("flag", [option.flag for option in OPTIONS])
def test_an_option_has_a_test_that_names_it(flag: str) -> None:
    begin = flag.removeprefix("--").replace("-", "_")
    assert any(flag in options_of(tree) for tree in FILES.values()), f'no test_{begin}__..., no covers("{flag}")'


def test_what_names_an_option() -> None:
    """Not what only begins like its name, or has it somewhere."""
    source = """
def test_tcp_rate__is_kept(): ...
def test_tcp_delay_is_kept(): ...
def test_the_max_body__is_kept(): ...
@pytest.mark.slow
@pytest.mark.covers("--http", "--tcp")
def test_both(): ...
"""
    assert options_of(ast.parse(source)) == {"--tcp-rate", "--the-max-body", "--http", "--tcp"}


def test_markers_name_options_that_there_are() -> None:
    found = {flag for tree in FILES.values() for test in functions_of(tree) for flag in marked(test)}
    assert found - {option.flag for option in OPTIONS} == set()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_file_of_tests_that_names_it(module: str) -> None:
    found = [path for path, tree in FILES.items() if named_alike(path) == [module] or module in listed(tree)]
    assert found, f"no test_{module.rpartition('.')[2]}.py, and no docstring of tests with 'Modules: {module}.'"


def test_docstrings_name_modules_that_there_are() -> None:
    assert {each for tree in FILES.values() for each in listed(tree)} - set(MODULES) == set()


@pytest.mark.parametrize("name", ["conftest.py", "test_over_tls.py"])
def test_sets_of_tests_name_tests_that_there_are(name: str) -> None:
    """A test that was renamed would be in none of them any more, without a word."""
    tree = ast.parse((TESTS / "wire" / name).read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = {each for each in texts if re.fullmatch(r"test_\w+", each)}
    assert named
    assert named - {test.name for each in FILES.values() for test in functions_of(each)} == set()


@pytest.mark.parametrize("counter", [each for each in COUNTERS if each.label != "le"], ids=lambda counter: counter.name)
def test_a_counter_is_named_by_a_test(counter: Counter) -> None:
    """And each value of its label: what nobody counts would stay 0 without a word."""
    texts = {node.value for tree in FILES.values() for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    named = [each for each in texts if isinstance(each, str) and counter.name in each]
    assert named, f"no test names {counter.name}"
    assert [each for each in counter.values if each and each not in texts] == []
