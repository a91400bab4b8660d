"""Edits whose true result is known: pairs of drawn pictures that differ in exactly one attribute."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor, nn

from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import ATTRIBUTES, CLASSES, Scene, full_caption, look_of, random_test_scene
from promptplus.pocket.world.painting import paint_with_mask

FIRST_SEEDS = {"dev": 710_000_000, "report": 720_000_000}
"""First seeds of the cases that settings are chosen on, and of the reported ones. No training picture has them."""
MARGIN = 7  # pixels; outlines, and the blur of the autoencoder around them, count as the shape (our choice)


@dataclass(frozen=True)
class EditCase:
    """One edit.

    Attributes:
        attribute: what changes.
        source, target: the scenes before and after.
        seed: of the drawings. Both have the same positions, sizes and marks.
    """

    attribute: str
    source: Scene
    target: Scene
    seed: int

    @property
    def texts(self) -> tuple[str, str]:
        """The captions of source and target."""
        return full_caption(self.source), full_caption(self.target)

    @cached_property
    def picture(self) -> Image.Image:
        """The picture to edit."""
        return _drawn(self.source, self.seed)[0]

    @cached_property
    def truth(self) -> Image.Image:
        """What a perfect edit gives."""
        return _drawn(self.target, self.seed)[0]

    @cached_property
    def rest(self) -> np.ndarray:
        """Where nothing should change: bool [64, 64]. All is False for a style, which changes every pixel."""
        masks = [_drawn(scene, self.seed)[1] for scene in (self.source, self.target)]
        either = ImageChops.lighter(*masks)
        match self.attribute:
            case "style":
                return np.zeros((either.height, either.width), bool)
            case "background":  # the inside of the thing
                return np.asarray(masks[0].filter(ImageFilter.MinFilter(3))) > 127
            case _:
                return np.asarray(either.filter(ImageFilter.MaxFilter(MARGIN))) < 1


def _drawn(scene: Scene, seed: int) -> tuple[Image.Image, Image.Image]:
    """A picture and its mask. The background's random numbers are its own, so that another one moves nothing."""
    looks = [look_of(thing) for thing in scene.things]
    streams = random.Random(f"edit {seed}"), random.Random(f"edit background {seed}")
    return paint_with_mask(looks, scene.background, scene.style, *streams)


def edit_cases(part: str, count: int, attributes: Sequence[str] = ATTRIBUTES) -> list[EditCase]:
    """``count`` cases for each attribute; ``part`` is "dev" or "report"."""
    cases: list[EditCase] = []
    for number, attribute in enumerate(attributes):
        for i in range(count):
            seed = FIRST_SEEDS[part] + 1000 * number + i
            rng = random.Random(seed)
            source = random_test_scene(rng)
            cases.append(EditCase(attribute, source, _changed(source, attribute, rng), seed))
    return cases


def _changed(scene: Scene, attribute: str, rng: random.Random) -> Scene:
    """The scene with another value of one attribute."""
    (thing,) = scene.things
    before = {"object": thing.noun, "colour": thing.colour, "texture": thing.texture}.get(attribute) or getattr(
        scene, attribute
    )
    value = rng.choice([word for word in CLASSES[attribute] if word != before])
    if attribute in ("background", "style"):
        return replace(scene, **{attribute: value})
    return replace(scene, things=(replace(thing, **{"noun" if attribute == "object" else attribute: value}),))


@dataclass(frozen=True)
class EditScores:
    """What one edited picture is like.

    Attributes:
        success: whether the attribute judge sees the target's attribute.
        kept: share of the other four attributes that it sees as in the source.
        rest: mean absolute error, of 1, of the pixels where nothing should change; nan for a style.
        truth: mean absolute error of all pixels against the true result.
        structure: distance of the self-similarities of DINO's patches to the source's (Tumanyan et al., 2022).
        direction: cosine of the change of the picture and the change of the text in CLIP's space (Gal et al., 2022).
    """

    success: bool
    kept: float
    rest: float
    truth: float
    structure: float
    direction: float


class EditJudge:
    """Scores edits with the attribute judge, DINO and CLIP."""

    def __init__(self) -> None:
        self.judge, self.dino, self.clip = AttributeJudge.load(), DinoJudge.load(), ClipJudge.load()

    def scores(self, cases: Sequence[EditCase], edited: Sequence[Image.Image]) -> list[EditScores]:
        """The scores of each case's edited picture."""
        before = [case.picture for case in cases]
        seen, seen_before = self.judge.classify(edited), self.judge.classify(before)
        structures = _structure_distances(self.dino, before, edited)
        texts = [self.clip.embed_texts([case.texts[side] for case in cases]) for side in (0, 1)]
        moved = nn.functional.cosine_similarity(
            self.clip.embed(edited) - self.clip.embed(before), texts[1] - texts[0], dim=-1
        )
        results: list[EditScores] = []
        for i, (case, picture) in enumerate(zip(cases, edited, strict=True)):
            others = [name for name in ATTRIBUTES if name != case.attribute]
            values, rest = np.asarray(picture.convert("RGB"), float) / 255, case.rest
            error = np.abs(values - np.asarray(case.picture, float) / 255).mean(-1)
            results.append(
                EditScores(
                    success=seen[case.attribute][i] == _word(case.target, case.attribute),
                    kept=sum(seen[name][i] == seen_before[name][i] for name in others) / len(others),
                    rest=float(error[rest].mean()) if rest.any() else float("nan"),
                    truth=float(np.abs(values - np.asarray(case.truth, float) / 255).mean()),
                    structure=float(structures[i]),
                    direction=float(moved[i]),
                )
            )
        return results


def _word(scene: Scene, attribute: str) -> str:
    (thing,) = scene.things
    words: Mapping[str, str] = {"object": thing.noun, "colour": thing.colour, "texture": thing.texture}
    return words.get(attribute) or getattr(scene, attribute)


@torch.no_grad()
def _structure_distances(
    dino: DinoJudge, before: Sequence[Image.Image], after: Sequence[Image.Image]
) -> Float[Tensor, " pictures"]:
    """Mean squared difference of the cosines between all patches of a picture, before and after.

    Tumanyan et al. compare the last layer's keys; we compare its outputs, which every DINO gives.
    """

    def similarities(pictures: Sequence[Image.Image]) -> Float[Tensor, "pictures patches patches"]:
        pixels = dino.processor([picture.convert("RGB") for picture in pictures], return_tensors="pt").pixel_values
        patches = dino.model(pixel_values=pixels.to(dino.model.device)).last_hidden_state[:, 1:].cpu()
        patches = nn.functional.normalize(patches, dim=-1)
        return patches @ patches.mT

    return (similarities(before) - similarities(after)).square().mean((1, 2))
