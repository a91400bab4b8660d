"""A concept in training: how its rows begin, how they are tied to layers, its draws, and how a gradient moves them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from promptplus.concept import Concept, tie
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError
from promptplus.inversion.geometry import RowSpace
from promptplus.inversion.objective import Draws, LatentCache
from promptplus.inversion.run import InversionSettings
from promptplus.templates import TEMPLATES
from promptplus.text import Placeholder, send


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


class Trainee:
    """One concept in training: its rows, the latents of its pictures, its optimiser, and how far it is.

    AdamW with a constant learning rate (paper); its weight decay is 0, our choice: rows are points, not weights.

    Attributes:
        concept: as it began.
        rows: as they are now; ``step``: optimiser steps taken.
        sound: False from the first loss or gradient on that is not finite: from there on no step is taken.
    """

    def __init__(
        self, pplus: PPlus, concept: Concept, cache: LatentCache, settings: InversionSettings, timesteps: int
    ) -> None:
        encoder = pplus.pipe.text_encoder
        self.concept, self.cache, self.settings, self.timesteps = concept, cache, settings, timesteps
        self.rows = TrainedRows.of(concept, pplus.pipe.unet.device, encoder.dtype)
        unique = self.rows.unique
        table = encoder.get_input_embeddings().weight
        self.space = RowSpace.of(settings.constraint, table, unique.detach().clone())
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": 0.0, "fused": True}
        self.optimiser: Any = torch.optim.AdamW([unique], **options)
        self.step = 0
        self.sound = torch.ones((), dtype=torch.bool, device=unique.device)

    def draws(self) -> Draws:
        """The next step's randomness, on the device."""
        settings = self.settings
        return Draws.of(
            f"{settings.seed}/{self.concept.token}",
            self.step,
            settings.batch_size,
            self.cache,
            timesteps=self.timesteps,
            templates=len(TEMPLATES[self.concept.kind]),
            flip=settings.flip,
            one_template=settings.templates == "batch",
        ).to(self.rows.unique.device)

    @torch.no_grad()
    def move(self, loss: Tensor) -> None:
        """Take a step along the gradient that lies in ``rows.unique.grad``."""
        unique = self.rows.unique
        assert unique.grad is not None
        unique.grad = self.space.steer(unique, unique.grad)
        self.sound = self.sound & torch.isfinite(loss) & torch.isfinite(unique.grad).all()
        self.optimiser.found_inf = (~self.sound).float()  # the fused kernel skips the step itself, moments and all
        self.optimiser.step()
        unique.copy_(torch.where(self.sound, self.space.fit(unique), unique))
        self.step += 1

    @property
    def learned(self) -> Concept:
        """The concept with the rows as they are now."""
        return replace(self.concept, rows=self.rows.placeholder.rows.detach().float().cpu())

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state by name; empty before the first step."""
        return dict(self.optimiser.state.get(self.rows.unique, {}))

    def restore(self, step: int, rows: Tensor, moments: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.step = step
        with torch.no_grad():
            self.rows.unique.copy_(rows)
        if moments:
            groups = self.optimiser.state_dict()["param_groups"]
            self.optimiser.load_state_dict({"state": {0: moments}, "param_groups": groups})


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
    return RowSpace.of(settings.constraint, table, start).fit(start).cpu()


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """While inside, the modules' weights take no gradient and they are in evaluation mode; both are put back."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    training = [m for module in modules for m in module.modules() if m.training]
    for weight in weights:
        weight.requires_grad_(False)
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        for module in training:
            module.training = True


def training_scheduler(pipe: Any) -> Any:
    """The noise schedule the pipeline's denoiser was trained with."""
    from diffusers import DDPMScheduler  # slow to import: only when something is trained

    return DDPMScheduler.from_config(pipe.scheduler.config)
