"""The training step: draws → latents and text states → the denoiser's loss → gradients → moved weights."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.density import TokenDensity
from promptplus.errors import TrainingError
from promptplus.memory import is_out_of_memory
from promptplus.pplus import PPlus
from promptplus.templates import captions
from promptplus.text_encoding import send
from promptplus.training.batches import Batch, LatentCache
from promptplus.training.compilation import faster
from promptplus.training.distributed import Distributed
from promptplus.training.loss import denoising_losses
from promptplus.training.settings import InversionSettings, TrainingSettings
from promptplus.training.token_rows import RowsTrainable
from promptplus.training.trainable import Trainable, training_scheduler

HALF_SCALE = 2.0**14  # lifts the loss' gradient, about 1e-6 per latent, out of float16's subnormal range

T = TypeVar("T", bound=Trainable)


class Trainer(ABC, Generic[T]):
    """Moves what is in training. A step is a function of settings, step number, weights and moments.

    The loss is the weighted sum over each trainee's samples, then the sum over trainees: side by side they learn what
    each would learn alone. A step reads nothing back from the device.
    """

    advice = "use half precision (--dtype float16)"
    """For those who have no memory left."""
    precision: AbstractContextManager[Any] = nullcontext()
    """The denoiser runs inside."""

    def __init__(self, unet: Any, trainees: Sequence[T], scheduler: Any, settings: TrainingSettings) -> None:
        self.unet, self.trainees, self.scheduler = unet, tuple(trainees), scheduler
        self.min_snr = settings.min_snr
        self.scale = HALF_SCALE if unet.dtype is torch.float16 else 1.0
        self.micro_batch = settings.micro_batch or sum(len(trainee.shares) for trainee in self.trainees)
        self.processes = Distributed()

    @abstractmethod
    def encode(self, active: Sequence[T], draws: Sequence[Batch]) -> tuple[Tensor, list[int]]:
        """Text states ``[caption, n, S, D]`` of a step's unique captions, and the caption of every sample."""

    def finish(self, trainee: T) -> None:
        """Add to the gradients what does not come from the denoiser."""

    def advance(self) -> list[tuple[T, Tensor]]:
        """Take one step with those that have taken the fewest; returns them with their losses."""
        fewest = min(trainee.step for trainee in self.trainees)
        active = [trainee for trainee in self.trainees if trainee.step == fewest]
        draws = [trainee.draws() for trainee in active]
        while (losses := self._losses_if_there_is_room(active, draws)) is None:
            self._halve(active)
        for trainee, loss in zip(active, losses, strict=True):
            trainee.move(loss)
        return list(zip(active, losses, strict=True))

    def gradients(self, active: Sequence[T], draws: Sequence[Batch]) -> Tensor:
        """Leave a step's gradients at the weights; returns the losses ``[trainee]``.

        The unique captions are encoded once. Where that takes gradients, they are gathered at the text states over the
        micro-batches and sent back through the text encoder once.
        """
        for trainee in active:
            trainee.clear()
        states, which = self.encode(active, draws)
        # gathered in float32 at least: half precision would round every micro-batch's share
        leaf = states.detach().to(torch.promote_types(states.dtype, torch.float32))
        leaf.requires_grad_(states.requires_grad)
        latents = torch.cat([trainee.latents(d) for trainee, d in zip(active, draws, strict=True)])
        owner = send([i for i, d in enumerate(draws) for _ in d.template], latents.device)
        shares = torch.cat([trainee.shares for trainee in active])
        share = send(shares.to(torch.promote_types(self.unet.dtype, torch.float32)), latents.device)
        together = Batch.together(draws)
        losses = torch.zeros(len(active), device=latents.device, dtype=leaf.dtype)
        mine = self.processes.share(len(which))
        for start in range(mine.start, mine.stop, self.micro_batch):
            chosen = slice(start, min(start + self.micro_batch, mine.stop))
            context, part = torch.stack([leaf[i] for i in which[chosen]]), together.part(chosen)
            with self.precision:
                each = denoising_losses(self.unet, self.scheduler, latents[chosen], part, context, self.min_snr)
            each = each * share[chosen]
            (each.sum() * self.scale).backward()
            losses = losses.index_add(0, owner[chosen], each.detach().to(losses))
        if states.requires_grad:
            gathered = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            states.backward(gathered.to(states.dtype))
        self.processes.add(losses)
        for trainee in active:
            trainee.complete()  # a process may have had no samples
            self.processes.add(*trainee.gradients)
            for gradient in trainee.gradients:
                gradient.div_(self.scale)
            self.finish(trainee)
        return losses

    def _losses_if_there_is_room(self, active: Sequence[T], draws: Sequence[Batch]) -> Tensor | None:
        """The losses, with the gradients left at the weights; None where memory ran out."""
        try:
            return self.gradients(active, draws)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _halve(self, active: Sequence[T]) -> None:
        """Go on with half as many pictures at once; the step's gradient stays the same."""
        if self.micro_batch == 1:
            raise TrainingError(f"out of memory with one picture at a time; {self.advice}")
        self.micro_batch = -(-self.micro_batch // 2)
        for trainee in active:
            trainee.clear()
        torch.cuda.empty_cache()
        warnings.warn(f"out of memory: going on with {self.micro_batch} pictures at a time", stacklevel=4)


class RowTrainer(Trainer[RowsTrainable]):
    """Moves the rows of one concept, or of several side by side, and nothing else."""

    def __init__(
        self, pplus: PPlus, trainees: Sequence[RowsTrainable], scheduler: Any, settings: InversionSettings
    ) -> None:
        super().__init__(faster(pplus.pipe.unet, settings.speed), trainees, scheduler, settings)
        self.pplus, self.settings = pplus, settings
        self.density = TokenDensity.over_words(pplus.pipe) if settings.density else None

    @classmethod
    def alone(cls, pplus: PPlus, concept: Concept, cache: LatentCache, settings: InversionSettings) -> Self:
        """A trainer of one concept."""
        scheduler = training_scheduler(pplus.pipe)
        trainee = RowsTrainable(pplus, concept, cache, settings, scheduler.config.num_train_timesteps)
        return cls(pplus, [trainee], scheduler, settings)

    def encode(self, active: Sequence[RowsTrainable], draws: Sequence[Batch]) -> tuple[Tensor, list[int]]:
        texts: list[str] = []
        which: list[int] = []
        for trainee, drawn in zip(active, draws, strict=True):
            unique = sorted(set(drawn.template))
            which += [len(texts) + unique.index(template) for template in drawn.template]
            texts += captions(trainee.concept.kind, trainee.name, unique)
        layers = len(self.pplus.layers)
        placeholders = {trainee.name: trainee.rows.placeholder for trainee in active}
        return self.pplus.states([[text] * layers for text in texts], placeholders), which

    def finish(self, trainee: RowsTrainable) -> None:
        if self.density:
            (-self.settings.density * self.density.log_density(trainee.rows.unique).mean()).backward()
