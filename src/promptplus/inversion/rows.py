"""The rows in training: how they begin, how they are tied to layers, and the step that moves them and nothing else."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from promptplus.concept import Concept, tie
from promptplus.conditioning import PPlus
from promptplus.errors import ConceptError, TrainingError
from promptplus.inversion.objective import Draws, LatentCache, denoising_loss
from promptplus.inversion.run import InversionSettings
from promptplus.templates import TEMPLATES, captions
from promptplus.text import Placeholder, send

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
        return Placeholder(self.unique[send(self.groups, self.unique.device)], self.groups)


class RowTrainer:
    """Moves the rows and nothing else. A step is a function of settings, step number, rows and moments.

    AdamW with a constant learning rate (paper); its weight decay is 0, our choice: rows are points, not weights. The
    captions' unique rows are encoded once per step; gradients are gathered at their text states over the micro-batches
    and sent back through the text encoder once. A step reads nothing back from the device.
    """

    def __init__(self, pplus: PPlus, concept: Concept, cache: LatentCache, settings: InversionSettings) -> None:
        self.pplus, self.concept, self.cache, self.settings = pplus, concept, cache, settings
        self.rows = TrainedRows.of(concept, pplus.pipe.unet.device, pplus.pipe.text_encoder.dtype)
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": 0.0, "fused": True}
        self.optimiser: Any = torch.optim.AdamW([self.rows.unique], **options)
        self.scheduler = training_scheduler(pplus.pipe)
        self.scale = HALF_SCALE if pplus.pipe.unet.dtype is torch.float16 else 1.0
        self.micro_batch = min(settings.micro_batch or settings.batch_size, settings.batch_size)
        self.step = 0
        self.sound = torch.ones((), dtype=torch.bool, device=self.rows.unique.device)
        """False from the first loss or gradient on that is not finite: from there on no optimiser step is taken."""

    def advance(self) -> Tensor:
        """Take one step; returns its loss, on the device."""
        settings = self.settings
        draws = Draws.of(
            f"{settings.seed}/{self.concept.token}",
            self.step,
            settings.batch_size,
            self.cache,
            timesteps=self.scheduler.config.num_train_timesteps,
            templates=len(TEMPLATES[self.concept.kind]),
            flip=settings.flip,
            one_template=settings.templates == "batch",
        ).to(self.rows.unique.device)
        while (loss := self._loss_if_there_is_room(draws)) is None:
            self._halve()
        gradient = self.rows.unique.grad
        assert gradient is not None
        self.sound = self.sound & torch.isfinite(loss) & torch.isfinite(gradient).all()
        self.optimiser.found_inf = (~self.sound).float()  # the fused kernel skips the step itself, moments and all
        self.optimiser.step()
        self.step += 1
        return loss

    def _loss_if_there_is_room(self, draws: Draws) -> Tensor | None:
        """The loss, with its gradient left in ``rows.unique.grad``; None where memory ran out."""
        try:
            return self.gradients(draws)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def gradients(self, draws: Draws) -> Tensor:
        """Leave a step's gradient in ``rows.unique.grad``; returns its loss."""
        self.optimiser.zero_grad(set_to_none=True)
        unique = sorted(set(draws.template))
        texts = captions(self.concept.kind, self.concept.token, unique)
        layers = len(self.pplus.layers)
        states = self.pplus.states([[text] * layers for text in texts], {self.concept.token: self.rows.placeholder})
        # gathered in float32 at least: half precision would round every micro-batch's share
        leaf = states.detach().to(torch.promote_types(states.dtype, torch.float32)).requires_grad_()
        which = [unique.index(template) for template in draws.template]
        latents, batch = self.cache.sample(draws), len(which)
        losses = []
        for start in range(0, batch, self.micro_batch):
            stop = min(start + self.micro_batch, batch)
            context = torch.stack([leaf[i] for i in which[start:stop]])
            part = draws.part(start, stop)
            loss = denoising_loss(self.pplus.pipe.unet, self.scheduler, latents[start:stop], part, context)
            loss = loss * ((stop - start) / batch)
            (loss * self.scale).backward()
            losses.append(loss.detach())
        assert leaf.grad is not None
        states.backward(leaf.grad.to(states.dtype))
        assert self.rows.unique.grad is not None
        self.rows.unique.grad.div_(self.scale)
        return torch.stack(losses).sum()

    def _halve(self) -> None:
        """Go on with half as many pictures at once; the step's gradient stays the same."""
        if self.micro_batch == 1:
            raise TrainingError("out of memory with one picture at a time; use half precision (--dtype float16)")
        self.micro_batch = -(-self.micro_batch // 2)
        self.optimiser.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        warnings.warn(f"out of memory: going on with {self.micro_batch} pictures at a time", stacklevel=4)

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


_NO_ROOM = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # CUDA and MPS, cuDNN and cuBLAS, the CPU


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there is no memory left; PyTorch has a class of its own for CUDA alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)


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
