"""Two learned concepts in one prompt, by method: are both there, and how like themselves are they?"""

from collections.abc import Mapping, Sequence

from PIL import Image

from promptplus.evaluation.metrics import mean_interval
from promptplus.evaluation.scoring import Scorer
from promptplus.experiments.mixing import Concepts, noises_of
from promptplus.experiments.study import Study
from promptplus.experiments.two_concepts import TOGETHER, TwoConceptScores, two_in_one
from promptplus.pplus import PPlus
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

LEAD = (
    f"“{TOGETHER.format('A', 'B')}”. Likeness: mean pairwise cosine of the judge DINO's features, generated against "
    "real, the mean of both concepts; text similarity: the judge CLIP's, with class words (on the pocket “thing”). A "
    "picture shows both if it is above either concept's bar: halfway from what the other concept's own pictures score "
    "to what its own do among each other. That bar is high, and the same for all methods. No concept is in two pairs, "
    "no two pairs share noise; 95 % intervals by bootstrap over pairs."
)
SHOWN = 8  # pictures of each pair; our choice
COLUMNS = {
    "both": "share that shows both",
    "together": "like each, both in the prompt",
    "alone": "this one alone in the prompt",
    "other": "the other one alone",
    "text": "text similarity",
}


def study(
    pplus: PPlus,
    learned: Mapping[str, Concepts],
    real: Mapping[str, Sequence[Image.Image]],
    pairs: Sequence[tuple[str, str]],
    count: int,
    scorer: Scorer,
) -> Study:
    """A row for each method and a grid of pictures.

    Args:
        learned: the same concepts by name, for each method; ``real``: their own pictures.
        pairs: names; no concept in two of them.
        count: pictures of each prompt.
    """
    found: dict[str, list[TwoConceptScores]] = {method: [] for method in learned}
    shown: dict[str, list[Image.Image]] = {}
    for pair, seeds in zip(pairs, noises_of(len(pairs), count), strict=True):
        for method, concepts in learned.items():
            both, own = [concepts[name] for name in pair], [real[name] for name in pair]
            numbers, pictures = two_in_one(pplus, both, own, seeds, scorer)
            found[method].append(numbers)
            shown[f"{pair[0]} and {pair[1]}, {method}"] = pictures[:SHOWN]
    table: Table = {"method": list(found)}
    for name, title in COLUMNS.items():
        table |= {f"{title} [95 %]": [str(mean_interval([getattr(t, name) for t in own])) for own in found.values()]}
    table |= {"pairs × seeds": [f"{len(pairs)} × {count}"] * len(found)}
    grid = labelled_grid(list(shown.values()), row_labels=list(shown), cell=96)
    sections = [Section("Both in one prompt", table=table), Section("Pictures", figures=[Figure(grid)])]
    values = {
        "pairs": [list(pair) for pair in pairs],
        "by_method": {method: [vars(one) for one in own] for method, own in found.items()},
    }
    return Study("several", "Two concepts in one prompt", LEAD, sections, values, {"both": table})
