"""A concept's token rows in training: where they begin, which layers share one, and how a gradient moves them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor, nn

from promptplus.concept import Concept, tie
from promptplus.denoiser_calls import DenoiserCall
from promptplus.denoisers import denoiser_of
from promptplus.density import TokenDensity
from promptplus.placeholders import Placeholder
from promptplus.pplus import PPlus
from promptplus.templates import TEMPLATES, filled
from promptplus.text_encoding import send
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch, LatentCache
from promptplus.training.compilation import faster
from promptplus.training.noise_schedule import training_scheduler
from promptplus.training.norm_constraint import NormConstraint
from promptplus.training.previews import preview, preview_prompt
from promptplus.training.result import InversionResult, TrainingResult
from promptplus.training.settings import InversionSettings
from promptplus.training.step import TrainingStep
from promptplus.training.trainable import Trainable

CONCEPT, APPROXIMATION = "concept.safetensors", "learned_embeds.safetensors"
LEAST_MOVED = 0.01  # rows that moved less than this share of their norm have learned nothing (our choice)


@dataclass(frozen=True)
class TokenRows:
    """The rows of a concept in training.

    Attributes:
        unique: the rows that are trained; layers may share one.
        groups: the number of each layer's row: of one that is trained, or, after those, of one that is not.
        fixed: the row of all layers that are not trained: the class word's; None where all are.
    """

    unique: Float[nn.Parameter, "rows vectors width"]
    groups: tuple[int, ...]
    fixed: Float[Tensor, "1 vectors width"] | None = None

    @classmethod
    def of(cls, start: Concept, device: torch.device, dtype: torch.dtype) -> "TokenRows":
        """Begin at a concept's rows, in at least float32: half precision would lose an optimiser's small steps."""
        groups, learned = tie(start.tying, start.layers), start.learned_layers
        numbers = list(dict.fromkeys(groups[layer] for layer in learned))
        rows = start.rows.to(device, torch.promote_types(dtype, torch.float32))
        unique = rows[[groups.index(number) for number in numbers]]
        others = [layer for layer in range(len(groups)) if layer not in learned]
        number_of_layer = [
            len(numbers) if layer in others else numbers.index(groups[layer]) for layer in range(len(groups))
        ]
        return cls(nn.Parameter(unique), tuple(number_of_layer), rows[others[:1]] if others else None)

    @property
    def placeholder(self) -> Placeholder:
        """What stands for the token in a text now; gradients flow to ``unique``."""
        rows = self.unique if self.fixed is None else torch.cat([self.unique, self.fixed])
        return Placeholder(rows[send(self.groups, rows.device)], self.groups)


class RowsTrainable(Trainable[InversionResult]):
    """The token rows of one concept. No weight decay, our choice: rows are points, not weights.

    Args:
        concept: the concept before its training.
        encode_pictures: encodes its pictures; called once, when the training begins.
        word_density: makes the density of the vocabulary's words; called only where the settings weigh it.
        captions: for each picture its own caption, with ``{}`` for the concept; None: the concept's kind decides the
            templates, and each sample gets any of them.
        template: one caption for all pictures, with ``{}`` for the concept.
    """

    settings: InversionSettings

    def __init__(
        self,
        pplus: PPlus,
        concept: Concept,
        encode_pictures: Callable[[], LatentCache],
        settings: InversionSettings,
        word_density: Callable[[], TokenDensity],
        captions: Sequence[str] | None = None,
        template: str | None = None,
    ) -> None:
        super().__init__(concept.token, settings)
        self.pplus, self.concept = pplus, concept
        self.encode_pictures, self.word_density = encode_pictures, word_density
        self.own_captions = captions is not None
        self.template = template
        given = captions if template is None else [template]
        self.templates = TEMPLATES[concept.kind] if given is None else tuple(given)

    def prepare(self, timesteps: int) -> None:
        pipe, settings = self.pplus.pipe, self.settings
        denoiser = denoiser_of(pipe)
        self.denoiser = DenoiserCall.of(pipe, faster(denoiser, settings.speed))
        self.cache, self.timesteps = self.encode_pictures(), timesteps
        self.rows = TokenRows.of(self.concept, denoiser.device, pipe.text_encoder.dtype)
        tables = [encoder.table for encoder in self.pplus.encoders]
        self.norm_constraint = NormConstraint.of(settings.constraint, tables, self.rows.unique.detach().clone())
        self.density = self.word_density() if settings.density else None
        self.start_optimiser({"rows": self.rows.unique}, weight_decay=0.0)
        if settings.average:
            mean = torch.zeros_like(self.rows.unique.detach())
            self.averages = {"mean": mean, "weight": mean.new_zeros(())}  # both begin at zero

    @property
    def sample_weights(self) -> Float64[Tensor, " batch"]:
        batch = self.settings.batch_size
        return torch.full((batch,), 1 / batch, dtype=torch.float64)

    def next_batch(self) -> Batch:
        settings, templates = self.settings, self.templates
        rule = self.batch_rule(self.timesteps, len(templates), one_template=settings.templates == "batch")
        batch = Batch.of(f"{settings.seed}/{self.name}", self.step, self.cache, rule)
        if self.own_captions:  # a picture's copies in other colours have its caption, too
            batch = replace(batch, template=tuple(number % len(templates) for number in batch.picture.tolist()))
        return batch.to(self.device)

    def latents(self, batch: Batch) -> Float[Tensor, "batch channels height width"]:
        return self.cache.sample(batch)

    @classmethod
    def encode_captions(cls, trainables: Sequence[Self], batches: Sequence[Batch]) -> tuple[TextStates, list[int]]:
        texts: list[str] = []
        caption_of_sample: list[int] = []
        for trainable, batch in zip(trainables, batches, strict=True):
            unique = sorted(set(batch.template))
            caption_of_sample += [len(texts) + unique.index(template) for template in batch.template]
            texts += filled([trainable.templates[number] for number in unique], trainable.name)
        pplus = trainables[0].pplus
        placeholders = {trainable.name: trainable.rows.placeholder for trainable in trainables}
        layer_texts = [[text] * len(pplus.layers) for text in texts]
        return pplus.text_states(layer_texts, placeholders, cut_padding=True), caption_of_sample

    def add_penalty_gradients(self) -> None:
        if self.density:
            (-self.settings.density * self.density.log_density(self.rows.unique).mean()).backward()

    @torch.no_grad()
    def move(self, loss: Float[Tensor, ""]) -> None:
        unique = self.rows.unique
        assert unique.grad is not None
        unique.grad = self.norm_constraint.steer(unique, unique.grad)
        super().move(loss)
        unique.copy_(torch.where(self.finite, self.norm_constraint.fit(unique), unique))
        if self.averages:
            for name, value in (("mean", unique), ("weight", unique.new_ones(()))):
                average = self.averages[name]
                average.copy_(torch.where(self.finite, average.lerp(value, 1 - self.settings.average), average))

    @property
    def placeholder(self) -> Placeholder:
        """What stands for the token after the steps so far: the rows, or their moving average."""
        if not self.averages or not self.averages["weight"]:
            return self.rows.placeholder
        mean = self.norm_constraint.fit(self.averages["mean"] / self.averages["weight"])
        return replace(self.rows, unique=nn.Parameter(mean, requires_grad=False)).placeholder

    @property
    def learned(self) -> Concept:
        """The concept with the rows as they are now."""
        return replace(self.concept, rows=self.placeholder.rows.detach().float().cpu())

    def preview(self) -> list[Image.Image]:
        return preview(self.pplus, self._preview_prompt(self.name), {self.name: self.placeholder})

    def class_word_preview(self) -> list[Image.Image]:
        return preview(self.pplus, self._preview_prompt(self.concept.class_word))

    def _preview_prompt(self, words: str) -> str:
        """The prompt that shows the concept, or its class word: the caption of all pictures, if there is one."""
        return filled([self.template], words)[0] if self.template else preview_prompt(self.concept.kind, words)

    def describe(self) -> dict[str, Any]:
        return {key: value for key, value in self.concept.describe().items() if key != "row_norms"}

    def rescue(self, folder: Path) -> Path:
        return self.learned.save(folder / "last_good.safetensors")

    def save_stopped(self, folder: Path) -> Path:
        so_far = {**self.concept.provenance, "steps": self.step}
        return replace(self.learned, provenance=so_far).save(folder / CONCEPT)

    def save(self, folder: Path, result: InversionResult) -> None:
        result.concept.save_approximation(folder / APPROXIMATION)
        result.concept.save(folder / CONCEPT)

    def result(self, base: TrainingResult) -> InversionResult:
        return self._result(self.learned, base)

    def saved_result(self, folder: Path, base: TrainingResult) -> InversionResult | None:
        path = folder / CONCEPT
        if not path.exists():
            return None
        learned = Concept.load(path)
        same = learned.provenance == self.concept.provenance  # else of fewer steps: that call ended before it saved
        return self._result(learned, base) if same else None

    def no_effect(self, result: InversionResult) -> str:
        names = self.concept.layers.names
        unmoved = [names[i] for i in self.concept.learned_layers if result.share_moved[i] < LEAST_MOVED]
        advice = "train for more steps, or raise the learning rate"
        return f"the rows of {self.name} hardly moved (layers {', '.join(unmoved)}); {advice}" if unmoved else ""

    def _result(self, learned: Concept, base: TrainingResult) -> InversionResult:
        moved = (learned.rows - self.concept.rows).norm(dim=-1).mean(dim=1).tolist()
        return InversionResult(**vars(base), concept=learned, settings=self.settings, moved=tuple(moved))


def rows_step(
    pplus: PPlus, concepts: Sequence[tuple[Concept, LatentCache]], settings: InversionSettings
) -> TrainingStep[RowsTrainable]:
    """A training step for concepts whose pictures are encoded already, without a run: for tests and benchmarks."""
    scheduler, density = training_scheduler(pplus.pipe), cache(partial(TokenDensity.over_words, pplus.encoders))
    trainables = [
        RowsTrainable(pplus, concept, lambda latents=latents: latents, settings, density)
        for concept, latents in concepts
    ]
    for trainable in trainables:
        trainable.prepare(scheduler.config.num_train_timesteps)
    return TrainingStep(trainables, scheduler, settings)
