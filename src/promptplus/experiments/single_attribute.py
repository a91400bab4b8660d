"""The study of concepts of one attribute: a colour, texture, style or shape learned alone, by layers and captions.

Not in the paper. The layers for each attribute are those of the study of editing, which were chosen on other pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from promptplus.concept import Concept
from promptplus.datasets import Dataset, FolderNote
from promptplus.experiments.attribute_concepts import CLASS_WORDS, UnseenThing, prompt, prompt_scenes
from promptplus.experiments.edit_methods import LAYERS as EDIT_LAYERS
from promptplus.experiments.edit_methods import MISMATCHED as EDIT_MISMATCHED
from promptplus.generation import generate
from promptplus.kept_pictures import kept_tensor
from promptplus.pplus import PPlus
from promptplus.training.first_rows import class_word_rows
from promptplus.training.invert import run_inversion

TOKEN = "<attribute>"
SETTINGS: dict[str, Any] = {"steps": 50, "batch_size": 4, "learning_rate": 0.05}
LAYERS = {"shape": EDIT_LAYERS["object"], **{name: EDIT_LAYERS[name] for name in ("colour", "texture", "style")}}
MISMATCHED = {"shape": EDIT_MISMATCHED["object"], **{n: EDIT_MISMATCHED[n] for n in ("colour", "texture", "style")}}


@dataclass(frozen=True)
class Training:
    method: str = "xti"
    layers: str = "all"
    captions: str = "described"


def learn(pplus: PPlus, thing: UnseenThing, attribute: str, training: Training, **options: Any) -> Concept:
    settings = {**SETTINGS, **options, "method": training.method}
    word = CLASS_WORDS[attribute] if training.captions != "templates" else "object"
    learned = {"own": LAYERS.get(attribute, ""), "other": MISMATCHED.get(attribute, ""), "all": None}[training.layers]
    if learned:
        settings["learn"] = learned
    dataset = Dataset(thing.pictures(), FolderNote(token=TOKEN, initializer=word), Path(thing.shape))
    if training.captions == "described":
        dataset = replace(dataset, describe=thing.template(attribute))
    elif training.captions == "each":
        dataset = replace(dataset, captions=tuple(thing.captions(attribute)))
    concept = Concept(
        TOKEN, class_word_rows(pplus, word, 1)[None].repeat(len(pplus.layers), 1, 1), pplus.layers, class_word=word
    )
    key = repr((thing, attribute if training.captions != "templates" else "", training, sorted(settings.items())))
    rows = kept_tensor(
        key, lambda: run_inversion(pplus, dataset, preview_every=0, progress=False, **settings).concept.rows
    )
    return replace(concept, rows=rows)


def cut(pplus: PPlus, concept: Concept, attribute: str) -> Concept:
    rows = class_word_rows(pplus, CLASS_WORDS[attribute], 1)[None].repeat(len(pplus.layers), 1, 1)
    chosen = list(pplus.layers.select(LAYERS[attribute]))
    rows[chosen] = concept.rows[chosen]
    return replace(concept, rows=rows)
