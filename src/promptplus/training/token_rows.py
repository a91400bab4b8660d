"""A concept in training: how its rows begin, how they are tied to layers, its draws, and how a gradient moves them."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from promptplus.concept import Concept, tie
from promptplus.errors import ConceptError
from promptplus.placeholders import Placeholder
from promptplus.pplus import PPlus
from promptplus.templates import TEMPLATES
from promptplus.text_encoding import send
from promptplus.training.batches import Batch, BatchRule, LatentCache
from promptplus.training.norm_constraint import NormConstraint
from promptplus.training.previews import preview, preview_prompt
from promptplus.training.settings import InversionSettings
from promptplus.training.trainable import Trainable


@dataclass(frozen=True)
class TrainedRows:
    """The rows in training: ``unique`` ``[row, vector, width]``, and the number of each layer's row."""

    unique: nn.Parameter
    groups: tuple[int, ...]

    @classmethod
    def of(cls, start: Concept, device: torch.device, dtype: torch.dtype) -> "TrainedRows":
        """Begin at a concept's rows, in at least float32: half precision loses an optimiser's small steps."""
        groups = tie(start.tying, start.layers)
        unique = start.rows[[groups.index(number) for number in range(max(groups) + 1)]]
        return cls(nn.Parameter(unique.to(device, torch.promote_types(dtype, torch.float32))), groups)

    @property
    def placeholder(self) -> Placeholder:
        """What stands for the token now; gradients flow to ``unique``."""
        return Placeholder(self.unique[send(self.groups, self.unique.device)], self.groups)


class RowsTrainable(Trainable):
    """One concept in training. No weight decay, our choice: rows are points, not weights.

    Attributes:
        concept: as it began; ``rows``: as they are now.
    """

    settings: InversionSettings

    def __init__(
        self, pplus: PPlus, concept: Concept, cache: LatentCache, settings: InversionSettings, timesteps: int
    ) -> None:
        encoder = pplus.pipe.text_encoder
        self.pplus, self.concept, self.cache, self.timesteps = pplus, concept, cache, timesteps
        self.rows = TrainedRows.of(concept, pplus.pipe.unet.device, encoder.dtype)
        table = encoder.get_input_embeddings().weight
        self.space = NormConstraint.of(settings.constraint, table, self.rows.unique.detach().clone())
        super().__init__(concept.token, {"rows": self.rows.unique}, settings, weight_decay=0.0)
        if settings.average:
            mean = torch.zeros_like(self.rows.unique.detach())
            self.extra = {"mean": mean, "weight": mean.new_zeros(())}  # both begin at zero

    @property
    def shares(self) -> Tensor:
        batch = self.settings.batch_size
        return torch.full((batch,), 1 / batch, dtype=torch.float64)

    def draws(self) -> Batch:
        settings = self.settings
        templates = len(TEMPLATES[self.concept.kind])
        one = settings.templates == "batch"
        rule = BatchRule(timesteps=self.timesteps, templates=templates, one_template=one, **settings.drawing)
        return Batch.of(f"{settings.seed}/{self.name}", self.step, self.cache, rule).to(self.device)

    def latents(self, draws: Batch) -> Tensor:
        return self.cache.sample(draws)

    @torch.no_grad()
    def move(self, loss: Tensor) -> None:
        unique = self.rows.unique
        assert unique.grad is not None
        unique.grad = self.space.steer(unique, unique.grad)
        super().move(loss)
        unique.copy_(torch.where(self.sound, self.space.fit(unique), unique))
        if self.extra:
            for name, value in (("mean", unique), ("weight", unique.new_ones(()))):
                kept = self.extra[name]
                kept.copy_(torch.where(self.sound, kept.lerp(value, 1 - self.settings.average), kept))

    @property
    def result(self) -> Placeholder:
        """What stands for the token after the steps so far."""
        if not self.extra or not self.extra["weight"]:
            return self.rows.placeholder
        mean = self.space.fit(self.extra["mean"] / self.extra["weight"])
        return TrainedRows(nn.Parameter(mean, requires_grad=False), self.rows.groups).placeholder

    def look(self) -> list[Image.Image]:
        placeholders = {self.name: self.result}
        return preview(self.pplus, preview_prompt(self.concept.kind, self.name), placeholders)

    def rescue(self, folder: Path) -> Path:
        return self.learned.save(folder / "last_good.safetensors")

    @property
    def learned(self) -> Concept:
        """The concept with the rows as they are now."""
        return replace(self.concept, rows=self.result.rows.detach().float().cpu())


def initial_rows(pplus: PPlus, initializer: str, settings: InversionSettings) -> Tensor:
    """``[1, vectors, width]``: the initializer's token embedding, the mean of them where it has several pieces.

    Where rows may not lie there (``settings.constraint``), the nearest place.
    """
    tokenizer = pplus.pipe.tokenizer
    ids = tokenizer(initializer, add_special_tokens=False).input_ids
    if not ids:
        raise ConceptError(f"the initializer {initializer!r} is no word of the tokenizer; give a plain word, as cat")
    if len(ids) > 1:
        pieces = ", ".join(tokenizer.convert_ids_to_tokens(ids))
        warnings.warn(f"the initializer {initializer!r} has the pieces {pieces}; starting at their mean", stacklevel=4)
    table = pplus.pipe.text_encoder.get_input_embeddings().weight.detach()
    start = table[ids].float().mean(dim=0).repeat(1, settings.vectors, 1)
    return NormConstraint.of(settings.constraint, table, start).fit(start).cpu()
