"""Edits whose true result is known: pairs of drawn pictures that differ in exactly one attribute."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor, nn

from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import ATTRIBUTES, CLASSES, Scene, full_caption, look_of, random_test_scene, words_of
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
    def drawings(self) -> tuple[tuple[Image.Image, Image.Image], tuple[Image.Image, Image.Image]]:
        """Picture and mask of the source, and of the target."""
        return _drawn(self.source, self.seed), _drawn(self.target, self.seed)

    @property
    def picture(self) -> Image.Image:
        """The picture to edit."""
        return self.drawings[0][0]

    @property
    def truth(self) -> Image.Image:
        """What a perfect edit gives."""
        return self.drawings[1][0]

    @cached_property
    def rest(self) -> np.ndarray:
        """Where nothing should change: bool [64, 64]. All is False for a style, which changes every pixel."""
        masks = [mask for _, mask in self.drawings]
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
    before = words_of(scene)[attribute]
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
    """Scores edits of the same cases with the attribute judge, DINO and CLIP."""

    def __init__(self, cases: Sequence[EditCase]) -> None:
        self.cases, before = cases, [case.picture for case in cases]
        self.judge, self.dino, self.clip = AttributeJudge.load(), DinoJudge.load(), ClipJudge.load()
        self.seen, self.structures = self.judge.classify(before), _patch_similarities(self.dino, before)
        self.places = self.clip.embed(before)
        sources, targets = zip(*(case.texts for case in cases), strict=True)
        self.direction = self.clip.embed_texts(targets) - self.clip.embed_texts(sources)

    def scores(self, edited: Sequence[Image.Image]) -> list[EditScores]:
        """The scores of each case's edited picture."""
        seen = self.judge.classify(edited)
        moved = nn.functional.cosine_similarity(self.clip.embed(edited) - self.places, self.direction, dim=-1)
        structures = (_patch_similarities(self.dino, edited) - self.structures).square().mean((1, 2))
        results: list[EditScores] = []
        for i, (case, picture) in enumerate(zip(self.cases, edited, strict=True)):
            others = [name for name in ATTRIBUTES if name != case.attribute]
            rest = case.rest
            results.append(
                EditScores(
                    success=seen[case.attribute][i] == words_of(case.target)[case.attribute],
                    kept=sum(seen[name][i] == self.seen[name][i] for name in others) / len(others),
                    rest=float(pixel_errors(picture, case.picture)[rest].mean()) if rest.any() else float("nan"),
                    truth=float(pixel_errors(picture, case.truth).mean()),
                    structure=float(structures[i]),
                    direction=float(moved[i]),
                )
            )
        return results


def pixel_errors(picture: Image.Image, other: Image.Image) -> np.ndarray:
    """Absolute differences of pixels, of 1: the mean over the colours, [height, width]."""
    values = (np.asarray(one.convert("RGB"), float) for one in (picture, other))
    return np.abs(np.subtract(*values)).mean(-1) / 255


@torch.no_grad()
def _patch_similarities(dino: DinoJudge, pictures: Sequence[Image.Image]) -> Float[Tensor, "pictures patches patches"]:
    """Cosines between all patches of each picture.

    Tumanyan et al. compare the last layer's keys; we compare its outputs, which every DINO gives.
    """
    pixels = dino.processor([picture.convert("RGB") for picture in pictures], return_tensors="pt").pixel_values
    patches = dino.model(pixel_values=pixels.to(dino.model.device)).last_hidden_state[:, 1:].cpu()
    patches = nn.functional.normalize(patches, dim=-1)
    return patches @ patches.mT
