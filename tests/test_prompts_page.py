"""docs/prompts.md: its prompts can be read, its numbers are the study's, and its Python runs."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import promptplus as pp
from promptplus.prompts import parse_prompt

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "prompts.md").read_text("utf-8")
COMMANDS = re.findall(r"^promptplus generate (?!--).*$", PAGE, re.MULTILINE)
ROWS = {
    "another colour, fine layers": "colour, fine layers",
    "another object, coarse and medium layers": "object, coarse,medium layers",
    "another object, coarse layers": "object, coarse layers",
}
"""The cases of the study by their rows on the page; the row below each is of the rest."""


@pytest.mark.parametrize("line", COMMANDS)
def test_its_prompts_can_be_read(line: str, pplus: pp.PPlus) -> None:
    words = shlex.split(line)[2:]
    options = [value for name, value in pairwise(words) if name == "--layer"]
    prompt = parse_prompt(words[0], options)
    assert pp.PPlusPrompt.parse(str(prompt)) == prompt
    prompt.texts(pplus.layers)


def test_its_numbers_are_the_studys() -> None:
    shares = json.loads((DOCS / "results" / "strength.json").read_text("utf-8"))["tables"]["shares"]
    table = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\|.*$", PAGE, re.MULTILINE)]
    strengths = next(row[1:] for row in table if row[0] == "strength")
    for title, case in ROWS.items():
        rows = [i for i, part in enumerate(shares["part"]) if part == case][:-1]  # the last one: one text for all
        assert [shares["strength"][i] for i in rows] == [text.replace("−", "-") for text in strengths]
        at = [row[0] for row in table].index(title)
        for line, column in ((table[at], "the part's word"), (table[at + 1], "the rest as asked")):
            assert [float(cell) for cell in line[1:]] == pytest.approx([shares[column][i] for i in rows], abs=0.0055)


@pytest.mark.slow
def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), "prompts.md", "exec"), names)
    names["pplus"].remove()
    assert names["image"].size == (64, 64)
