"""python -m bench sections: what a header section costs by its size."""

import json
from pathlib import Path

import pytest

from bench import cli, sections
from echoserver.config import compiled


@pytest.mark.parametrize("size", sections.SIZES)
def test_a_section_has_the_size_that_was_asked_for_and_is_another_for_each_number(size: int) -> None:
    made = {sections.section(size, number) for number in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {size}


def test_sections__a_figure_for_each_size_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert cli.main(["sections", "--quick", "--into", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "sections.json").read_text(encoding="utf-8"))
    expected = {sections.REPEATED, sections.ANEW_IN_PYTHON}
    if compiled.functions:
        expected.add(sections.ANEW_IN_C)
    assert set(figures) == expected
    for found in figures.values():
        assert [int(size) for size in found] == list(sections.SIZES)
        assert min(found.values()) > 0
    picture = (tmp_path / "sections.svg").read_text(encoding="utf-8")
    assert all(what in picture for what in expected)
    said = capsys.readouterr().out
    assert f"written: {tmp_path / 'sections.svg'}" in said
    assert "read anew, in Python: 200 B " in said
