"""The study of concepts of one attribute: a colour, texture, style or shape, learned alone (our choice).

The layers of each attribute are those of the study of editing: they were chosen on other pictures, and without
training (docs/log.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from promptplus.concept import Concept
from promptplus.datasets import Dataset, FolderNote
from promptplus.evaluation.metrics import Interval, mean_interval
from promptplus.experiments.attribute_concepts import (
    CLASS_WORDS,
    LEARNED,
    SingleAttributeJudge,
    UnseenThing,
    prompt,
    prompt_scenes,
    unseen_things,
)
from promptplus.experiments.edit_methods import LAYERS as EDIT_LAYERS
from promptplus.experiments.edit_methods import MISMATCHED as EDIT_MISMATCHED
from promptplus.experiments.mixing import seeds_by_pair
from promptplus.experiments.study import Study
from promptplus.generation import generate
from promptplus.kept_pictures import kept_tensor
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import Scene
from promptplus.pplus import PPlus
from promptplus.prompts import PPlusPrompt
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table
from promptplus.training.first_rows import class_word_rows
from promptplus.training.invert import run_inversion

TOKEN = "<attribute>"
SETTINGS: dict[str, Any] = {"steps": 40, "batch_size": 4, "learning_rate": 0.03}
"""Of every training; chosen on the ``dev`` things (docs/log.md)."""
_AS_EDITED = {"colour": "colour", "texture": "texture", "style": "style", "shape": "object"}
LAYERS = {name: EDIT_LAYERS[edited] for name, edited in _AS_EDITED.items()}
"""The layers that learn each attribute."""
MISMATCHED = {name: EDIT_MISMATCHED[edited] for name, edited in _AS_EDITED.items()}
"""All other layers: the control."""


@dataclass(frozen=True)
class Way:
    """A way to learn an attribute from five pictures.

    Attributes:
        name: in tables.
        method: ``xti`` or ``ti``.
        learn: the layers that are learned, by attribute; None: all.
        described: train with a caption that says all but the attribute; else with the neutral templates.
        cut: afterwards, give the layers that ``LAYERS`` does not name the class word.
        settings: those that differ from ``SETTINGS``.
    """

    name: str
    method: str = "xti"
    learn: Mapping[str, str] | None = None
    described: bool = True
    cut: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


OURS = Way("its layers, described", learn=LAYERS)
MISMATCH = Way("mismatched layers, described", learn=MISMATCHED)
CUT = Way("XTI, its layers cut out", described=False, cut=True)
TI = Way("TI", "ti", described=False)
CUT_DESCRIBED = Way("XTI, described, its layers cut out", cut=True)
WAYS = (OURS, CUT_DESCRIBED, CUT, TI, MISMATCH)
WORDS, DRAWN = "plain words, in its layers", "true pictures"
MEASURES = {"has": "has the attribute", "clean": "nothing else leaks", "both": "both"}
ALL = "all four"
SHOWN, CELL, COLOURS_SHOWN = 1, 64, 48  # things in the figure; pixels of a picture there; colours of its palette
LEAD = (
    "From five pictures of a thing with an unseen shape its colour, texture, style or shape is learned alone. Prompts "
    "name another object, with other attributes in words and the token in the place of one. Has the attribute: share "
    "of pictures in which the judge sees it. Nothing else leaks: share in which all other attributes are as asked. "
    "Shapes have no word, so there the plain word is “object”. True pictures are drawn, not generated: what the judge "
    "could reach. Intervals: 95 %, bootstrap over things."
)

Shares = dict[str, float]
"""Shares of pictures, by the names in ``MEASURES``."""


def study(pplus: PPlus, count: int, prompts: int, part: str = "report") -> Study:
    """Learn each attribute of ``count`` things in every way, and judge pictures of new prompts.

    Args:
        prompts: the number of prompts for each concept, each with its own seed; the same for all ways.
        part: ``report``, or ``dev`` to choose settings.
    """
    things = unseen_things(part)[:count]
    judge = SingleAttributeJudge(AttributeJudge.load(), [thing.shape for thing in unseen_things(part)])
    scores: dict[str, dict[str, list[Shares]]] = {}
    shown: dict[tuple[str, str], list[Image.Image]] = {}
    for each, seeds in zip(things, seeds_by_pair(count, prompts), strict=True):
        for attribute in LEARNED:
            thing = each.to_learn(attribute)
            scenes = prompt_scenes(thing, prompts)
            drawn = {way.name: pictures_of(pplus, way, thing, attribute, scenes, seeds) for way in WAYS}
            drawn[WORDS] = pictures_of_words(pplus, thing, attribute, scenes, seeds)
            drawn[DRAWN] = [thing.true_picture(attribute, scene, s) for scene, s in zip(scenes, seeds, strict=True)]
            for name, pictures in drawn.items():
                shares = judge.score(attribute, thing, scenes, pictures).shares
                scores.setdefault(name, {}).setdefault(attribute, []).append(shares)
                shown[name, attribute] = [*shown.get((name, attribute), []), pictures[0]]
    table, gains = shares_table(scores), differences(scores)
    grid = picture_grid(things[:SHOWN], shown)
    sections = [
        Section("Shares of pictures", table=table),
        Section("Our way minus another, in the share of both", table=differences_table(gains)),
        Section("Pictures", "The first prompt of each concept.", [Figure(grid, name="grid")]),
    ]
    values = {
        "things": [vars(thing) for thing in things],
        "prompts": prompts,
        "settings": SETTINGS,
        "layers": LAYERS,
        "mismatched": MISMATCHED,
        "scores": scores,
        "differences": {name: {a: vars(one) for a, one in each.items()} for name, each in gains.items()},
    }
    tables = {"shares": table, "differences": differences_table(gains)}
    return Study("single-attribute", "Concepts of one attribute", LEAD, sections, values, tables)


def learn(pplus: PPlus, way: Way, thing: UnseenThing, attribute: str) -> Concept:
    """The concept of a thing's attribute, learned in one way; without a description it is the whole thing's."""
    word = CLASS_WORDS[attribute] if way.described else CLASS_WORDS["shape"]
    options = {
        **SETTINGS,
        **way.settings,
        "method": way.method,
        **({"learn": way.learn[attribute]} if way.learn else {}),
    }
    dataset = Dataset(thing.pictures(), FolderNote(token=TOKEN, initializer=word))
    if way.described:
        dataset = replace(dataset, describe=thing.template(attribute))
    key = repr(["single attribute", thing, dataset.describe, word, sorted(options.items())])
    rows = kept_tensor(key, lambda: _trained(pplus, dataset, options).rows)
    if way.cut:
        others = [i for i in range(len(pplus.layers)) if i not in pplus.layers.select(LAYERS[attribute])]
        rows = rows.clone()
        rows[others] = class_word_rows(pplus, CLASS_WORDS[attribute], 1)
    return Concept(TOKEN, rows, pplus.layers, initializer=word, class_word=CLASS_WORDS[attribute])


def training_steps(things: int) -> int:
    """The training steps of the study. What is not described is trained once for each set of pictures of a thing."""
    trainings = sum(len(LEARNED) if way.described else 2 for way in WAYS)
    return things * trainings * SETTINGS["steps"]


def _trained(pplus: PPlus, dataset: Dataset, options: Mapping[str, Any]) -> Concept:
    return run_inversion(pplus, dataset, preview_every=0, progress=False, **options).concept


def pictures_of(
    pplus: PPlus, way: Way, thing: UnseenThing, attribute: str, scenes: Sequence[Scene], seeds: Sequence[int]
) -> list[Image.Image]:
    """A picture for each scene, with the concept in the place of the attribute's word."""
    with pplus.added([learn(pplus, way, thing, attribute)]):
        return generate(pplus, [prompt(scene, attribute).format(TOKEN) for scene in scenes], seeds)


def pictures_of_words(
    pplus: PPlus,
    thing: UnseenThing,
    attribute: str,
    scenes: Sequence[Scene],
    seeds: Sequence[int],
    layers: Mapping[str, str] = LAYERS,
) -> list[Image.Image]:
    """The same with the attribute's word in its layers and the class word in all others; shapes have no word."""
    class_word = CLASS_WORDS[attribute]
    word = getattr(thing, attribute) if attribute != "shape" else class_word
    texts = [prompt(scene, attribute) for scene in scenes]
    prompts = [PPlusPrompt.of({"default": t.format(class_word), layers[attribute]: t.format(word)}) for t in texts]
    return generate(pplus, prompts, seeds)


def _values(scores: Mapping[str, Sequence[Shares]], attribute: str, measure: str) -> list[float]:
    """A measure of each thing; of all attributes: their mean."""
    each = [[shares[measure] for shares in own] for name, own in scores.items() if attribute in (name, ALL)]
    return np.mean(each, axis=0).tolist()


def shares_table(scores: Mapping[str, Mapping[str, Sequence[Shares]]]) -> Table:
    """A row for each attribute and way."""
    rows = [(attribute, name) for attribute in (*LEARNED, ALL) for name in scores]
    table: Table = {"attribute": [attribute for attribute, _ in rows], "learned as": [name for _, name in rows]}
    for measure, title in MEASURES.items():
        cells = [str(mean_interval(_values(scores[name], attribute, measure))) for attribute, name in rows]
        table |= {f"{title} [95 %]": cells}
    return table


def differences(scores: Mapping[str, Mapping[str, Sequence[Shares]]]) -> dict[str, dict[str, Interval]]:
    """Our share of both minus each other way's, by way and attribute; paired by thing."""
    found: dict[str, dict[str, Interval]] = {}
    for name in (way.name for way in WAYS if way is not OURS and way.name in scores):
        for attribute in (*LEARNED, ALL):
            ours, theirs = (_values(scores[one], attribute, "both") for one in (OURS.name, name))
            gain = mean_interval([a - b for a, b in zip(ours, theirs, strict=True)])
            found.setdefault(name, {})[attribute] = gain
    return found


def differences_table(gains: Mapping[str, Mapping[str, Interval]]) -> Table:
    """A row for each way, a column for each attribute."""
    columns = {f"{a} [95 %]": [str(each[a]) for each in gains.values()] for a in (*LEARNED, ALL)}
    return {"our way minus": list(gains), **columns}


def picture_grid(things: Sequence[UnseenThing], shown: Mapping[tuple[str, str], Sequence[Image.Image]]) -> Image.Image:
    """A row for each thing and attribute: one of the five pictures, then one of every way. In few colours."""
    names = list(dict.fromkeys(name for name, _ in shown))
    rows = [
        [thing.to_learn(attribute).pictures()[0], *(shown[name, attribute][number] for name in names)]
        for number, thing in enumerate(things)
        for attribute in LEARNED
    ]
    labels = [f"{attribute}:\n{getattr(thing, attribute)}" for thing in things for attribute in LEARNED]
    grid = labelled_grid(rows, row_labels=labels, column_labels=["one of five", *names], cell=CELL)
    return grid.quantize(COLOURS_SHOWN, dither=Image.Dither.NONE)
