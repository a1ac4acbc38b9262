"""The page at /.echo, as text: that it is one piece, lets nothing in, and can be read.

Modules: answers.page.built.
"""

import base64
import hashlib
import re

import pytest

from echoserver.answers import page as browser
from echoserver.answers.page import __main__ as maker

PAGE = browser.PAGE.decode()
COLOURS = [
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{.*?\}", PAGE, re.DOTALL)
]


def test_what_is_served_is_made_of_the_files_as_they_are() -> None:
    made = (maker.FOLDER / "built.py").read_text(encoding="ascii")
    assert made == maker.built(), "a file has changed since: python -m echoserver.answers.page"


def test_it_is_small_and_in_one_piece() -> None:
    assert len(browser.PAGE) < 24 << 10
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", PAGE)
    assert not re.search(r"\burl\(", PAGE)
    assert "@import" not in PAGE


def test_it_is_html_without_an_error() -> None:
    reason = "tinyhtml5 is not installed: pip install '.[test]'"
    parser = pytest.importorskip("tinyhtml5.parser", reason=reason).HTMLParser()
    parser.parse(PAGE)
    assert parser.errors == []


def test_what_comes_from_outside_gets_in_as_text_only() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(|\son[a-z]+=\"", PAGE)


def test_its_policy_allows_its_own_script_and_style_and_no_other() -> None:
    policy = browser.FIELDS.decode()
    for element, directive in (("script", "script-src"), ("style", "style-src")):
        (inline,) = re.findall(rf"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f" {directive} 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in PAGE


def test_its_names_are_there_once_and_those_that_the_script_uses_exist() -> None:
    names = re.findall(r'\sid="([a-z-]+)"', PAGE)
    assert len(names) == len(set(names))
    used = set(re.findall(r"(?:\$|value|lines|tell)\('([a-z-]+)'", PAGE)) | set(re.findall(r'data-of="([a-z]+)"', PAGE))
    assert used <= set(names)


def test_controls_prefix__is_in_the_page() -> None:
    assert browser.page("") is browser.PAGE
    page = browser.page("echo-").decode()
    assert '<body data-prefix="echo-" spellcheck' in page
    assert "/?echo-delay=1s, /?echo-status=503" in page
    script = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
    assert re.findall(r"<script>(.*?)</script>", page, re.DOTALL) == script, "its policy is about this one"


def luminance(colour: str) -> float:
    """WCAG 2.2's relative luminance."""
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", COLOURS, ids=["light", "dark"])
def test_contrasts_are_those_of_wcag_aa(colours: dict[str, str]) -> None:
    def contrast(one: str, other: str) -> float:
        darker, lighter = sorted((luminance(colours[one]), luminance(colours[other])))
        return (lighter + 0.05) / (darker + 0.05)

    for text in ("text", "quiet", "accent", "bad"):
        for ground in ("page", "card", "well"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    assert contrast("on-accent", "accent") >= 4.5
    for ground in ("page", "card"):
        assert contrast("edge", ground) >= 3, ground
