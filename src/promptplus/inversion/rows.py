"""The rows in training: how they begin, how they are tied to layers, and the loop that moves them and nothing else."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from promptplus.concept import Concept, tie
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError
from promptplus.inversion.objective import Draws, LatentCache, denoising_loss
from promptplus.inversion.run import InversionSettings
from promptplus.templates import TEMPLATES, captions
from promptplus.text import Placeholder

HALF_SCALE = 2.0**14  # lifts the loss' gradient, about 1e-6 per latent, out of float16's subnormal range


@dataclass(frozen=True)
class TrainedRows:
    """The rows in training: ``unique`` ``[row, vector, width]``, and the number of each layer's row."""

    unique: nn.Parameter
    groups: tuple[int, ...]

    @classmethod
    def of(cls, start: Concept, device: torch.device, dtype: torch.dtype) -> "TrainedRows":
        """Begin at a concept's rows, in at least float32: half precision loses an optimiser's small steps."""
        groups = tie(start.tying, len(start.layers))
        unique = start.rows[: max(groups) + 1].clone()
        return cls(nn.Parameter(unique.to(device, torch.promote_types(dtype, torch.float32))), groups)

    @property
    def placeholder(self) -> Placeholder:
        """What stands for the token now; gradients flow to ``unique``."""
        return Placeholder(self.unique[list(self.groups)], self.groups)


def train_rows(
    pplus: PPlus, concept: Concept, rows: TrainedRows, cache: LatentCache, settings: InversionSettings
) -> Iterator[Tensor]:
    """Train ``rows`` in place for ``concept``'s token and kind; yields each step's loss, on its device.

    AdamW with a constant learning rate (paper); its weight decay is 0, our choice: rows are points, not weights.
    """
    scheduler = training_scheduler(pplus.pipe)
    scale = HALF_SCALE if pplus.pipe.unet.dtype is torch.float16 else 1.0
    optimiser = torch.optim.AdamW([rows.unique], lr=settings.learning_rate, weight_decay=0.0)
    for step in range(settings.steps):
        draws = Draws.of(
            f"{settings.seed}/{concept.token}",
            step,
            settings.batch_size,
            cache,
            timesteps=scheduler.config.num_train_timesteps,
            templates=len(TEMPLATES[concept.kind]),
            flip=settings.flip,
        )
        texts = [[caption] * len(pplus.layers) for caption in captions(concept.kind, concept.token, draws.template)]
        states = pplus.states(texts, {concept.token: rows.placeholder})
        loss = denoising_loss(pplus.pipe.unet, scheduler, cache.sample(draws), draws, states)
        optimiser.zero_grad(set_to_none=True)
        (loss * scale).backward()
        assert rows.unique.grad is not None
        rows.unique.grad.div_(scale)
        optimiser.step()
        yield loss.detach()


def initial_rows(pplus: PPlus, initializer: str, settings: InversionSettings) -> Tensor:
    """``[1, vectors, width]``: the initializer's token embedding, the mean of them where it has several pieces."""
    tokenizer = pplus.pipe.tokenizer
    ids = tokenizer(initializer, add_special_tokens=False).input_ids
    if not ids:
        raise ConceptError(f"the initializer {initializer!r} is no word of the tokenizer; give a plain word, as cat")
    if len(ids) > 1:
        pieces = ", ".join(tokenizer.convert_ids_to_tokens(ids))
        warnings.warn(f"the initializer {initializer!r} has the pieces {pieces}; starting at their mean", stacklevel=4)
    table = pplus.pipe.text_encoder.get_input_embeddings().weight.detach()
    return table[ids].float().cpu().mean(dim=0).repeat(1, settings.vectors, 1)


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
