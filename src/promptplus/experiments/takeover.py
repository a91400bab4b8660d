"""Takeovers: prompt 2 replaces prompt 1 in some layers or denoising steps (paper section 3.1).

How much of prompt 2 then shows in the picture tells what those layers or steps decide.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from tqdm import tqdm

from promptplus.denoisers import denoiser_of
from promptplus.errors import SettingsError
from promptplus.evaluation.judges import ClipJudge
from promptplus.generation import BATCH, denoise
from promptplus.layers import LayerMap
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pplus import PPlus
from promptplus.profiles import Words, default_sampling, profile_of
from promptplus.prompt_parts import Part
from promptplus.prompts import PPlusPrompt

FORM = "a {colour} {object}, {style}"  # of the paper's prompts

Values = Mapping[str, str]
"""A prompt's word for each attribute: ``{"colour": "red", "object": "house", "style": "watercolor"}``."""
ScoreFunction = Callable[[Sequence[Image.Image], Sequence[Values]], dict[str, Float[np.ndarray, " pictures"]]]
"""Pictures and, for each, the wanted words → how much of each attribute's word shows."""
ClassifyFunction = Callable[[Sequence[Image.Image]], dict[str, list[str]]]
"""Pictures → each picture's word of each attribute."""


@dataclass(frozen=True)
class TakeoverJudge:
    """A judge, as the two functions that the studies call.

    Attributes:
        score: how much of the wanted words shows.
        classify: which words a picture shows.
    """

    score: ScoreFunction
    classify: ClassifyFunction


@dataclass(frozen=True)
class Takeover:
    """The layers and the denoising steps that get prompt 2; ``start`` and ``end`` are shares of the steps, 0 to 1."""

    layers: tuple[int, ...]
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class PromptPair:
    """The words of two prompts that differ in every attribute."""

    first: Values
    second: Values

    def prompt(self, which: str, form: str = FORM) -> str:
        """The text of the prompt ``first`` or ``second``."""
        return fill_form(form, getattr(self, which))


def fill_form(form: str, values: Values) -> str:
    """The text of a form with these words; "a" becomes "an" before a vowel."""
    return re.sub(r"\b([Aa])(?= [aeiou])", r"\1n", form.format(**values))


def check_words(words: Words) -> None:
    """Raise SettingsError where an attribute has fewer than two words."""
    if poor := [name for name, choices in words.items() if len(set(choices)) < 2]:
        raise SettingsError(f"{poor[0]}: two words or more are needed to tell prompts apart")


def draw_pairs(words: Words, count: int, seed: int = 0) -> list[PromptPair]:
    """Random pairs of prompts. Raises SettingsError where an attribute has fewer than two words."""
    check_words(words)
    rng = random.Random(f"pairs {seed}")
    drawn = [{name: rng.sample(list(choices), 2) for name, choices in words.items()} for _ in range(count)]
    return [PromptPair({n: a for n, (a, _) in d.items()}, {n: b for n, (_, b) in d.items()}) for d in drawn]


def subset_takeovers(layers: LayerMap) -> list[Takeover]:
    """The nested subsets of the layers, coarse to fine, from none to all."""
    return [Takeover(subset) for subset in layers.subsets()]


def step_takeovers(layers: LayerMap, count: int = 8) -> list[Takeover]:
    """All layers in the last steps: no step, then more and more of them, at last all. The control for the subsets."""
    everything = tuple(range(len(layers)))
    return [Takeover(everything, start=1 - i / (count - 1)) for i in range(count)]


def single_takeovers(layers: LayerMap) -> list[Takeover]:
    """No layer; each transformer alone; each block of several transformers alone; all layers.

    In most models a transformer has one layer. Stable Diffusion XL has 70 layers in 11 transformers.
    """
    parts = single_parts(layers).values()
    return [Takeover(()), *map(Takeover, parts), Takeover(tuple(range(len(layers))))]


def single_parts(layers: LayerMap) -> dict[str, tuple[int, ...]]:
    """The parts that ``single_takeovers`` has, by name."""
    transformers = layers.transformers
    blocks = {f"block {name}": part for name, part in layers.blocks.items() if part not in transformers.values()}
    return {**transformers, **blocks}


def window_takeovers(layers: LayerMap, windows: int = 4) -> list[Takeover]:
    """No layer; the bands (coarse, medium and fine layers), each in each window of the steps; all layers."""
    groups = [group for name in layers.bands if (group := layers.group(name))]
    spans = [(i / windows, (i + 1) / windows) for i in range(windows)]
    parts = [Takeover(group, *span) for group in groups for span in spans]
    return [Takeover(()), *parts, Takeover(tuple(range(len(layers))))]


def measure(
    pplus: PPlus,
    pairs: Sequence[PromptPair],
    takeovers: Sequence[Takeover],
    seeds: Sequence[int],
    score: ScoreFunction,
    *,
    form: str = FORM,
    steps: int | None = None,
    guidance: float | None = None,
    progress: bool = False,
) -> dict[str, Float[np.ndarray, "pairs takeovers"]]:
    """How much of prompt 2's words shows under each takeover; by attribute, means over seeds."""
    scores: dict[str, np.ndarray] = {}
    cases = [(p, s) for p in range(len(pairs)) for s in range(len(seeds))]
    with tqdm(total=len(takeovers) * len(cases), unit="picture", disable=not progress) as bar:
        for column, takeover in enumerate(takeovers):
            for start in range(0, len(cases), BATCH):
                batch = cases[start : start + BATCH]
                chosen = [pairs[p] for p, _ in batch]
                images = takeover_pictures(pplus, chosen, takeover, [seeds[s] for _, s in batch], form, steps, guidance)
                for name, values in score(images, [pair.second for pair in chosen]).items():
                    table = scores.setdefault(name, np.zeros((len(pairs), len(takeovers))))
                    np.add.at(table[:, column], [p for p, _ in batch], values / len(seeds))
                bar.update(len(batch))
    return scores


def takeover_pictures(
    pplus: PPlus,
    pairs: Sequence[PromptPair],
    takeover: Takeover,
    seeds: Sequence[int],
    form: str = FORM,
    steps: int | None = None,
    guidance: float | None = None,
) -> list[Image.Image]:
    """A picture of each pair under one takeover, from one seed each. All pairs are one batch."""
    steps, guidance = default_sampling(pplus.pipe, steps, guidance)
    plain = pplus.encode([pair.prompt("first", form) for pair in pairs])
    begin, end = (round(share * steps) for share in (takeover.start, takeover.end))
    if not takeover.layers or begin >= end:
        taken = plain
        begin, end = 0, steps
    else:
        spec, every = ",".join(map(str, takeover.layers)), len(takeover.layers) == len(pplus.layers)
        both = [(p.prompt("first", form), p.prompt("second", form)) for p in pairs]
        # in all layers: as the default text, which SDXL's pooled embedding is of
        taken = pplus.encode([PPlusPrompt(b) if every else PPlusPrompt(a, (Part(spec, b),)) for a, b in both])
    later = {step: kwargs["prompt_embeds"] for step, kwargs in ((begin, taken), (end, plain)) if 0 < step < steps}
    return denoise(pplus.pipe, plain if begin else taken, seeds, steps=steps, guidance=guidance, prompt_schedule=later)


def judges_for(pipe: Any, judge: str | None, words: Words) -> dict[str, TakeoverJudge]:
    """The judges of a model's pictures, by name.

    Args:
        judge: ``classifier`` (the model's attribute judge), ``clip`` or ``both``; default: all that the model has.
        words: the words of each attribute, which CLIP chooses from.

    Raises SettingsError where the model has no attribute judge, or that does not know one of the words.
    """
    profile = profile_of(pipe)
    judge = judge or ("both" if profile.attribute_judge else "clip")
    if judge != "clip" and not profile.attribute_judge:
        raise SettingsError(f"judge {judge}: the classifier knows the pocket's drawn world only; use clip")
    judges = {}
    if judge != "clip" and profile.attribute_judge:
        classifier = AttributeJudge.load(profile.attribute_judge)
        for name, known in classifier.classes.items():
            if unknown := [word for word in words.get(name, ()) if word not in known]:
                raise SettingsError(f"the classifier does not know the {name} {unknown[0]!r}; use --judge clip")
        judges["classifier"] = TakeoverJudge(score_by_classifier(classifier), classifier.classify)
    if judge != "classifier":
        clip = ClipJudge.load(profile.clip, "cpu" if profile.judges_on_cpu else str(denoiser_of(pipe).device))
        score, classify = score_by_clip(clip, profile.phrases), classify_by_clip(clip, profile.phrases, words)
        judges["clip"] = TakeoverJudge(score, classify)
    return judges


def score_by_classifier(judge: AttributeJudge) -> ScoreFunction:
    """1 where the judge sees the wanted word, else 0. On the pocket this is the ground truth."""

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        seen = judge.classify(images)
        names = [name for name in wanted[0] if name in seen]
        return {
            name: np.array([a == w[name] for a, w in zip(seen[name], wanted, strict=True)], float) for name in names
        }

    return score


def score_by_clip(judge: ClipJudge, phrases: Mapping[str, str]) -> ScoreFunction:
    """The cosine of a picture and the wanted word's phrase (paper section 3.1).

    ``phrases``: one for each attribute; ``{}`` stands for its word.
    """

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        features = judge.embed(images)
        texts = {name: [form.format(values[name]) for values in wanted] for name, form in phrases.items()}
        return {name: (features * judge.embed_texts(lines)).sum(1).numpy() for name, lines in texts.items()}

    return score


def classify_by_clip(judge: ClipJudge, phrases: Mapping[str, str], words: Words) -> ClassifyFunction:
    """The word of each attribute whose phrase is nearest to the picture: zero-shot (Radford et al., 2021)."""
    texts = {name: judge.embed_texts([phrases[name].format(word) for word in line]) for name, line in words.items()}

    def classify(images: Sequence[Image.Image]) -> dict[str, list[str]]:
        features = judge.embed(images)
        nearest = {name: (features @ text.T).argmax(1).tolist() for name, text in texts.items()}
        return {name: [words[name][int(i)] for i in numbers] for name, numbers in nearest.items()}

    return classify


def combine_judges(scores: Mapping[str, ScoreFunction]) -> ScoreFunction:
    """One score function of several judges, who see the same pictures; ``split_by_judge`` undoes it."""

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        by_judge = {judge: function(images, wanted) for judge, function in scores.items()}
        return {f"{judge}/{name}": values for judge, table in by_judge.items() for name, values in table.items()}

    return score


def split_by_judge(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of combined judges, by judge and attribute."""
    judges: dict[str, dict[str, np.ndarray]] = {}
    for name, values in scores.items():
        judge, attribute = name.rsplit("/", 1)
        judges.setdefault(judge, {})[attribute] = values
    return judges
