"""Ways to edit a picture, each from gentle to strong: texts by layers, whole prompts, and other people's methods."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from promptplus.editing.edit import (
    EditSettings,
    denoise_inversion,
    invert,
    predictor,
    target_prompt,
    to_pictures,
)
from promptplus.editing.inversion import Inversion, Latents
from promptplus.experiments.edit_cases import EditCase
from promptplus.generation import BATCH
from promptplus.kept_pictures import kept_or_drawn
from promptplus.pipelines import own_pipeline
from promptplus.pplus import PPlus, PromptEmbeds
from promptplus.profiles import default_sampling
from promptplus.prompts import PPlusPrompt
from promptplus.start_image import to_latents

STEPS = 20  # denoising steps of every method (our choice: with 50 the pocket's errors differ by less than .002)
SKIPS = (0.15, 0.35, 0.55, 0.75)
"""Shares of the steps that are left out, from strong to gentle; LEDITS++'s default is the first one."""
LAYERS = {
    "object": "coarse,medium",
    "colour": "fine",
    "texture": "medium,fine",
    "background": "medium,fine",
    "style": "coarse,fine",
}
"""The layers that take the target's text, by what is edited; chosen on the dev cases (docs/log.md)."""
MISMATCHED = {
    "object": "fine",
    "colour": "coarse,medium",
    "texture": "coarse",
    "background": "coarse",
    "style": "medium",
}
"""The layers that an edit of this attribute does not need: all that ``LAYERS`` does not name."""
EDIT_GUIDANCE, QUANTILE = 5.0, 0.9
"""LEDITS++'s default scale of the edit, and the quantile below which its guidance is left out."""

BY_LAYERS, WHOLE, WRONG = "noise maps, by layers", "noise maps, whole prompt", "noise maps, mismatched layers"
DDIM_BY_LAYERS, DDIM_WHOLE = "DDIM inversion, by layers", "DDIM inversion, whole prompt"
IMG2IMG, LEDITS = "image to image", "LEDITS++'s guidance"
METHODS = (BY_LAYERS, WHOLE, WRONG, DDIM_BY_LAYERS, DDIM_WHOLE, IMG2IMG, LEDITS)
RIVALS = (WHOLE, DDIM_WHOLE, IMG2IMG, LEDITS)
"""The methods with one prompt for all layers."""

Edited = dict[str, dict[float, list[Image.Image]]]
"""Edited pictures by method and by share of the steps left out, one for each case."""
LayersOf = Mapping[str, str]
"""The layers that take the target's text, by attribute."""


@dataclass(frozen=True)
class Batch:
    """Cases that are edited together, and how."""

    pplus: PPlus
    cases: Sequence[EditCase]

    def sources(self) -> PromptEmbeds:
        """The encoded captions of the pictures."""
        return self.pplus.encode([case.texts[0] for case in self.cases])

    def targets(self, layers: LayersOf | None = None) -> PromptEmbeds:
        """The encoded prompts to denoise with; ``layers`` has those of the target, None: all."""
        return self.pplus.encode([_target(case, layers) for case in self.cases])

    def latents(self) -> Latents:
        """The latents of the pictures."""
        return torch.cat([to_latents(self.pplus.pipe, case.picture) for case in self.cases])

    def invert(self, texts: PromptEmbeds, method: str, steps: int) -> Inversion:
        """The pictures inverted with all steps and the model's guidance."""
        seeds = [case.seed for case in self.cases]
        return invert(self.pplus, self.latents(), texts, seeds, EditSettings(method, steps, skip=0.0))


def _target(case: EditCase, layers: LayersOf | None) -> PPlusPrompt:
    source, target = case.texts
    return target_prompt(source, target if layers is None else {layers[case.attribute]: target})


def edited(pplus: PPlus, cases: Sequence[EditCase], methods: Sequence[str] = METHODS) -> Edited:
    """Every case edited by every method, with every share of ``SKIPS``. A stopped command goes on at its last batch."""
    made: Edited = {name: {skip: [] for skip in SKIPS} for name in methods}
    for begin in tqdm(range(0, len(cases), BATCH), "edit", unit="batch", disable=len(cases) <= BATCH):
        batch = Batch(pplus, cases[begin : begin + BATCH])
        pictures = iter(_kept_batch(batch, methods))
        for name, skip in product(methods, SKIPS):
            made[name][skip] += [next(pictures) for _ in batch.cases]
    return made


def _kept_batch(batch: Batch, methods: Sequence[str]) -> list[Image.Image]:
    """All edits of a batch: for every method, for every share, for every case."""

    def draw() -> list[Image.Image]:
        drawn = {(name, skip): pictures for name, skip, pictures in _batch(batch, methods)}
        return [picture for key in product(methods, SKIPS) for picture in drawn[key]]

    texts = {"0": batch.sources()["prompt_embeds"], "1": batch.targets()["prompt_embeds"]}
    values = {"methods": list(methods), "skips": list(SKIPS), "steps": STEPS, "layers": [LAYERS, MISMATCHED]}
    values |= {"cases": [[case.attribute, case.seed] for case in batch.cases]}
    count = len(methods) * len(SKIPS) * len(batch.cases)
    return kept_or_drawn(batch.pplus.pipe, texts, values, count, draw)


def _batch(batch: Batch, methods: Sequence[str]) -> Iterator[tuple[str, float, list[Image.Image]]]:
    for method, plans in (
        ("noise-maps", {BY_LAYERS: LAYERS, WHOLE: None, WRONG: MISMATCHED}),
        ("ddim", {DDIM_BY_LAYERS: LAYERS, DDIM_WHOLE: None}),
    ):
        wanted = {name: layers for name, layers in plans.items() if name in methods}
        if wanted:
            yield from by_layers(batch, method, wanted)
    for name, function in {IMG2IMG: _image_to_image, LEDITS: _ledits}.items():
        if name in methods:
            for skip, pictures in function(batch):
                yield name, skip, pictures


def by_layers(
    batch: Batch, method: str, plans: Mapping[str, LayersOf | None]
) -> Iterator[tuple[str, float, list[Image.Image]]]:
    """Edits with the target's texts in some layers, or in all of them (None), from one inversion."""
    inversion = batch.invert(batch.sources(), method, STEPS)
    for name, layers in plans.items():
        texts = batch.targets(layers)
        for skip in SKIPS:
            yield name, skip, denoise_inversion(batch.pplus, inversion.skipping(skip), texts, None)


def _image_to_image(batch: Batch) -> Iterator[tuple[float, list[Image.Image]]]:
    """SDEdit (Meng et al., 2022), as the stock pipeline does it; its strength is the share of the steps taken."""
    pipe = batch.pplus.pipe
    own = own_pipeline(pipe, for_picture=True)
    _, guidance = default_sampling(pipe)
    call: dict[str, Any] = {**batch.targets(), "image": [case.picture for case in batch.cases]}
    call |= {"num_inference_steps": STEPS, "guidance_scale": guidance}
    for skip in SKIPS:
        generators = [torch.Generator().manual_seed(case.seed) for case in batch.cases]
        yield skip, own(**call, strength=1 - skip, generator=generators).images


def _ledits(batch: Batch) -> Iterator[tuple[float, list[Image.Image]]]:
    """LEDITS++'s edit (Brack et al., 2024): noise maps of an empty text, and guidance where it is strongest.

    Written anew: diffusers' pipeline assumes four latent channels and a denoiser that predicts noise, and the pocket
    has neither. Without the mask from cross-attention, which needs single words.
    """
    empty = batch.pplus.encode([""] * len(batch.cases))
    inversion = batch.invert(empty, "noise-maps", STEPS)
    plain, aimed = (predictor(batch.pplus, texts, 1.0) for texts in (empty, batch.targets()))

    def guided(latents: Latents, timestep: int) -> Latents:
        without = plain(latents, timestep)
        edit = EDIT_GUIDANCE * (aimed(latents, timestep) - without)
        strength = edit.abs().sum(1, keepdim=True)
        least = torch.quantile(strength.flatten(1), QUANTILE, dim=1).view(-1, 1, 1, 1)
        return without + edit * (strength >= least)

    for skip in SKIPS:
        yield skip, to_pictures(batch.pplus.pipe, inversion.skipping(skip).denoise(guided))


def choose_layers(
    pplus: PPlus, cases: Sequence[EditCase], candidates: Sequence[str], score: Callable[[Sequence[EditCase], Any], Any]
) -> dict[str, dict[str, Any]]:
    """The scores of every candidate's layers for every attribute, on cases that are not reported.

    Args:
        candidates: layer sets, as ``LayerMap.select`` takes them.
        score: (cases, pictures by share of the steps left out) → plain numbers.
    """
    found: dict[str, dict[str, Any]] = {}
    for attribute in dict.fromkeys(case.attribute for case in cases):
        own = [case for case in cases if case.attribute == attribute]
        made: dict[str, dict[float, list[Image.Image]]] = {name: {skip: [] for skip in SKIPS} for name in candidates}
        for begin in range(0, len(own), BATCH):
            batch = Batch(pplus, own[begin : begin + BATCH])
            plans = {name: {attribute: name} for name in candidates}
            for name, skip, pictures in by_layers(batch, "noise-maps", plans):
                made[name][skip] += pictures
        found[attribute] = {name: score(own, pictures) for name, pictures in made.items()}
    return found
