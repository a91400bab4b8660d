"""Which layers, and which denoising steps, decide what: a second prompt takes over some of them (paper section 3.1)."""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from promptplus.errors import SettingsError
from promptplus.evaluation.judges import ClipJudge
from promptplus.generation import BATCH, denoise, quiet
from promptplus.layers import LayerMap
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pplus import PPlus
from promptplus.profiles import usual_sampling
from promptplus.prompts import PPlusPrompt

FORM = "a {colour} {object}, {style}"  # the paper's pairs look like this

Values = Mapping[str, str]
"""What a prompt says of each attribute: ``{"colour": "red", "object": "house", "style": "watercolor"}``."""
Score = Callable[[Sequence[Image.Image], Sequence[Values]], dict[str, np.ndarray]]
"""Pictures and, for each, prompt 2's values → how much of each attribute shows, ``[picture]``."""
Names = Callable[[Sequence[Image.Image]], dict[str, list[str]]]
"""Pictures → each attribute's word for each of them."""


@dataclass(frozen=True)
class Judge:
    """One judge, asked in two ways: how much of prompt 2's words shows, and which words a picture shows."""

    score: Score
    names: Names


@dataclass(frozen=True)
class Takeover:
    """Prompt 2 in some layers during some of the denoising: from ``start`` to ``end``, shares of its steps."""

    layers: tuple[int, ...]
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Two prompts that differ in every attribute."""

    first: Values
    second: Values

    def prompt(self, which: str, form: str = FORM) -> str:
        """The text of ``first`` or ``second``."""
        return filled(form, getattr(self, which))


def filled(form: str, values: Values) -> str:
    """The form with its words, "a" before a vowel as "an"."""
    return re.sub(r"\b([Aa])(?= [aeiou])", r"\1n", form.format(**values))


def draw_pairs(words: Mapping[str, Sequence[str]], count: int, seed: int = 0) -> list[Pair]:
    """Random pairs out of each attribute's words. Raises SettingsError where an attribute has fewer than two."""
    poor = [name for name, choices in words.items() if len(set(choices)) < 2]
    if poor:
        raise SettingsError(f"{poor[0]}: two words or more are needed to tell prompts apart")
    rng = random.Random(f"pairs {seed}")
    drawn = [{name: rng.sample(list(choices), 2) for name, choices in words.items()} for _ in range(count)]
    return [Pair({n: a for n, (a, _) in d.items()}, {n: b for n, (_, b) in d.items()}) for d in drawn]


def subset_takeovers(layers: LayerMap) -> list[Takeover]:
    """The nested subsets, coarse to fine: none … all."""
    return [Takeover(subset) for subset in layers.subsets()]


def step_takeovers(layers: LayerMap, count: int = 8) -> list[Takeover]:
    """All layers, from a step on: never, for the last steps, … from the start. The rival of the subsets."""
    everything = tuple(range(len(layers)))
    return [Takeover(everything, start=1 - i / (count - 1)) for i in range(count)]


def single_takeovers(layers: LayerMap) -> list[Takeover]:
    """No layer, each layer by itself, each block of several layers by itself, all layers."""
    blocks = [chosen for chosen in layers.blocks.values() if len(chosen) > 1]
    parts = [*((i,) for i in range(len(layers))), *blocks]
    return [Takeover(()), *map(Takeover, parts), Takeover(tuple(range(len(layers))))]


def window_takeovers(layers: LayerMap, windows: int = 4) -> list[Takeover]:
    """None; coarse, medium and fine layers, each in each window of the steps; all."""
    groups = [layers.group(name) for name in ("coarse", "medium", "fine")]
    spans = [(i / windows, (i + 1) / windows) for i in range(windows)]
    parts = [Takeover(group, *span) for group in groups for span in spans]
    return [Takeover(()), *parts, Takeover(tuple(range(len(layers))))]


def measure(
    pplus: PPlus,
    pairs: Sequence[Pair],
    takeovers: Sequence[Takeover],
    seeds: Sequence[int],
    score: Score,
    *,
    form: str = FORM,
    steps: int | None = None,
    guidance: float | None = None,
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """How much of prompt 2's attributes shows: by name, ``[pair, takeover]``, means over seeds."""
    found: dict[str, np.ndarray] = {}
    cases = [(p, s) for p in range(len(pairs)) for s in range(len(seeds))]
    with tqdm(total=len(takeovers) * len(cases), unit="picture", disable=not progress) as bar:
        for column, takeover in enumerate(takeovers):
            for start in range(0, len(cases), BATCH):
                part = cases[start : start + BATCH]
                chosen = [pairs[p] for p, _ in part]
                images = pictures(pplus, chosen, takeover, [seeds[s] for _, s in part], form, steps, guidance)
                for name, values in score(images, [pair.second for pair in chosen]).items():
                    table = found.setdefault(name, np.zeros((len(pairs), len(takeovers))))
                    np.add.at(table[:, column], [p for p, _ in part], values / len(seeds))
                bar.update(len(part))
    return found


def pictures(
    pplus: PPlus,
    pairs: Sequence[Pair],
    takeover: Takeover,
    seeds: Sequence[int],
    form: str = FORM,
    steps: int | None = None,
    guidance: float | None = None,
) -> list[Image.Image]:
    """A picture of each pair under one takeover; the pairs are one batch."""
    steps, guidance = usual_sampling(pplus.pipe, steps, guidance)
    plain = pplus.encode([pair.prompt("first", form) for pair in pairs])
    begin, end = (round(share * steps) for share in (takeover.start, takeover.end))
    if not takeover.layers or begin >= end:
        taken = plain
        begin, end = 0, steps
    else:
        spec = ",".join(map(str, takeover.layers))
        mixed = [PPlusPrompt(p.prompt("first", form), ((spec, p.prompt("second", form)),)) for p in pairs]
        taken = pplus.encode(mixed)
    later = {step: kwargs["prompt_embeds"] for step, kwargs in ((begin, taken), (end, plain)) if 0 < step < steps}
    with quiet(pplus.pipe):
        return denoise(
            pplus.pipe, plain if begin else taken, seeds, steps=steps, guidance=guidance, prompt_schedule=later
        )


def by_classifier(judge: AttributeJudge) -> Score:
    """1 where the judge sees prompt 2's word of an attribute, else 0: the pocket's ground truth."""

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        seen = judge.classify(images)
        names = [name for name in wanted[0] if name in seen]
        return {
            name: np.array([a == w[name] for a, w in zip(seen[name], wanted, strict=True)], float) for name in names
        }

    return score


def together(scores: Mapping[str, Score]) -> Score:
    """Several judges of the same pictures; ``apart`` takes their answers apart again."""

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        seen = {judge: ask(images, wanted) for judge, ask in scores.items()}
        return {f"{judge}/{name}": values for judge, found in seen.items() for name, values in found.items()}

    return score


def apart(found: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """What ``together`` gave, by judge and attribute."""
    judges: dict[str, dict[str, np.ndarray]] = {}
    for name, values in found.items():
        judge, attribute = name.rsplit("/", 1)
        judges.setdefault(judge, {})[attribute] = values
    return judges


def by_clip(judge: ClipJudge, phrases: Mapping[str, str]) -> Score:
    """Cosine of picture and prompt 2's phrase (paper); ``phrases``: of each attribute, ``{}`` for its word."""

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        seen = judge.embed(images)
        texts = {name: [form.format(values[name]) for values in wanted] for name, form in phrases.items()}
        return {name: (seen * judge.embed_texts(said)).sum(1).numpy() for name, said in texts.items()}

    return score


def named_by_clip(judge: ClipJudge, phrases: Mapping[str, str], words: Mapping[str, Sequence[str]]) -> Names:
    """The word of each attribute whose phrase is nearest to a picture, out of ``words``: zero-shot (Radford et al.)."""
    texts = {name: judge.embed_texts([phrases[name].format(word) for word in said]) for name, said in words.items()}

    def names(images: Sequence[Image.Image]) -> dict[str, list[str]]:
        seen = judge.embed(images)
        nearest = {name: (seen @ said.T).argmax(1).tolist() for name, said in texts.items()}
        return {name: [words[name][int(i)] for i in numbers] for name, numbers in nearest.items()}

    return names
