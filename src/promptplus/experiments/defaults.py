"""What studies ask about by default: each attribute's words, on the pocket and on real models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import promptplus.profiles as lists
from promptplus.errors import SettingsError
from promptplus.evaluation.grid import ExperimentGrid
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.scoring import PER_PROMPT, Scorer
from promptplus.experiments.attention_maps import AskedPrompt
from promptplus.experiments.takeover import FORM, Judge, by_classifier, by_clip, draw_pairs, filled, named_by_clip
from promptplus.models import POCKET, base_model, load
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import COLOURS, OBJECTS, STYLES
from promptplus.pplus import PPlus

Words = Mapping[str, Sequence[str]]

POCKET_WORDS: Words = {"colour": tuple(COLOURS), "object": OBJECTS, "style": STYLES}
REAL_WORDS: Words = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black"),
    "object": (
        *("car", "house", "cat", "dog", "horse", "bird", "flower", "tree", "chair", "boat", "bicycle", "teapot"),
        *("lizard", "cube", "guitar", "mushroom"),
    ),
    "style": ("watercolor", "oil painting", "pencil sketch", "comic", "pixel art", "origami", "photo", "stained glass"),
}
"""Our choice, after the paper's "{colour} {object}, {style}"; its lists are not known."""
PHRASES = {"colour": "a {} object", "object": "a photo of a {}", "style": "an object, {}"}
"""What CLIP compares a picture with, for each attribute."""
CLIP, DINO = "openai/clip-vit-base-patch32", "facebook/dino-vits16"
"""The judges of real models (paper section 4); the pocket has its own."""


UNNAMED = "thing"
"""What the pocket's unseen things are called in texts; their class words are other things' names. Its captions say it
too, and it goes with the prompts' "a"."""


def is_pocket(pipe: Any) -> bool:
    """Whether a pipeline is the bundled one."""
    return base_model(pipe) == POCKET


def words_for(pipe: Any, given: Words) -> Words:
    """Each attribute's words: the given ones, else the model's defaults."""
    usual = POCKET_WORDS if is_pocket(pipe) else REAL_WORDS
    return {name: given.get(name) or usual[name] for name in usual}


def judges_for(pipe: Any, judge: str | None, words: Words) -> dict[str, Judge]:
    """Who judges pictures: ``classifier`` (the pocket's ground truth), ``clip``, or ``both``, the pocket's default."""
    own = is_pocket(pipe)
    judge = judge or ("both" if own else "clip")
    if judge != "clip" and not own:
        raise SettingsError(f"judge {judge}: the classifier knows the pocket's drawn world only; use clip")
    found = {}
    if judge != "clip":
        classifier = AttributeJudge.load()
        found["classifier"] = Judge(by_classifier(classifier), classifier.classify)
    if judge != "classifier":
        clip = ClipJudge.load() if own else ClipJudge.load(CLIP, str(pipe.unet.device))
        found["clip"] = Judge(by_clip(clip, PHRASES), named_by_clip(clip, PHRASES, words))
    return found


def scorer_for(pipe: Any, prompts: Sequence[str] = (), per_prompt: int = PER_PROMPT) -> Scorer:
    """The two judges, and the given prompts or the model's defaults."""
    if is_pocket(pipe):
        return Scorer(ClipJudge.load(), DinoJudge.load(), prompts or lists.POCKET, per_prompt, reference_noun=UNNAMED)
    device = str(pipe.unet.device)
    return Scorer(ClipJudge.load(CLIP, device), DinoJudge.load(DINO, device), prompts or lists.REAL, per_prompt)


def open_grid(
    model: str, device: str | None, dtype: str | None, prompts: Sequence[str], per_prompt: int, folder: Path
) -> ExperimentGrid:
    """A model, its judges and a folder of results; what a worker of its own begins with."""
    pplus = PPlus(load(model, device=device, dtype=dtype))
    return ExperimentGrid(pplus, model, scorer_for(pplus.pipe, prompts, per_prompt), folder)


def asked_prompts(words: Words, count: int, seed: int = 0) -> list[AskedPrompt]:
    """Prompts of the paper's form, whose object and looks are known."""
    drawn = [pair.first for pair in draw_pairs(words, count, seed)]
    return [
        AskedPrompt(filled(FORM, values), values["object"], (values["colour"], values["style"])) for values in drawn
    ]
