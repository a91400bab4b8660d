"""docs/compatibility.md: which features work with which models, from the tests that ran."""

import importlib
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests import tiny_models

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent.parent / "docs" / "compatibility.md"
MODULES = ("tasks", "controlnets", "adapters", "guidance", "precision", "offloading", "compilation", "copies")
MODULES += ("windows_and_masks",)
"""The test modules, in the page's order."""
LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft")
NOT_TESTED, WORKS, FAILS = "not tested", "works", "**fails**"

HEAD = """# Compatibility

What works together with P+, and what it refuses. `make compatibility` runs the tests in `tests/compatibility` and
writes this page from their results; what is not tested is not said to work. The models are tiny ones with random
weights, of the same classes as the releases (`tests/tiny_models.py`).

“Works” means two things. Where all layers have the same text, the picture is that of the stock pipeline, to the bit; in
half precision, PixArt's and Sana's may differ by rounding. Where each layer has a text of its own, the picture is
that of diffusers' own attention with these texts, set up without P+ (`tests/compatibility/oracle.py`). For prompt parts
it means that the picture is the stock picture, to the bit, where all parts have the default's text. “Refused” means an
error with this reason, and no picture. “Not tested” is mostly what diffusers has no pipeline for. All ran on a CPU,
which stood for the accelerator where models are offloaded.
"""


class Case(NamedTuple):
    """One cell of the table."""

    feature: str
    model: str


def tested() -> dict[Case, str]:
    """The cells that have tests, in the page's order, and the reason where the feature is refused."""
    cases: dict[Case, str] = {}
    for name in MODULES:
        module = importlib.import_module(f"tests.compatibility.test_{name}")
        for test in vars(module).values():
            marks = {(mark.name, mark.args[0]): mark for mark in getattr(test, "pytestmark", ()) if mark.args}
            features = [mark for (name, _), mark in marks.items() if name == "compatibility"]
            for mark in features:
                models = marks["parametrize", "model"].args[1]
                cases |= {Case(*mark.args, *model.values): mark.kwargs["refused"] for model in models}
    return cases


def cell(outcomes: Sequence[str], refused: str) -> str:
    """What the table says of a case whose tests had these outcomes."""
    if "failed" in outcomes:
        return FAILS
    if "passed" not in outcomes:
        return NOT_TESTED
    return f"refused: {refused}" if refused else WORKS


def write(outcomes: Mapping[Case, Sequence[str]], path: Path = PAGE) -> None:
    """Write the page from the outcomes of all tests of each case."""
    cases = tested()
    cells = {case: cell(outcomes.get(case, ()), refused) for case, refused in cases.items()}
    rows = [["feature", *tiny_models.MODELS], ["---"] * (1 + len(tiny_models.MODELS))]
    for feature in dict.fromkeys(case.feature for case in cases):
        rows.append([feature, *(cells.get(Case(feature, model), NOT_TESTED) for model in tiny_models.MODELS)])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    versions = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    path.write_text(f"{HEAD}\nWritten with {versions}.\n\n{table}\n", "utf-8")


def read(path: Path = PAGE) -> dict[Case, str]:
    """The cells of a page that are tested."""
    head, _, *rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in re.findall(r"^\|.*$", path.read_text("utf-8"), re.MULTILINE)
    ]
    cells = {Case(feature, model): cell for feature, *row in rows for model, cell in zip(head[1:], row, strict=True)}
    return {case: cell for case, cell in cells.items() if cell != NOT_TESTED}
