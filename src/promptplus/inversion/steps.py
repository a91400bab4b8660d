"""The step that moves the rows of one concept, or of several side by side, and nothing else."""

import warnings
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.density import TokenDensity
from promptplus.errors import TrainingError
from promptplus.inversion.objective import Draws, LatentCache, denoising_losses
from promptplus.inversion.processes import Processes
from promptplus.inversion.rows import Trainee, training_scheduler
from promptplus.inversion.run import InversionSettings
from promptplus.templates import captions
from promptplus.text import send

HALF_SCALE = 2.0**14  # lifts the loss' gradient, about 1e-6 per latent, out of float16's subnormal range


class RowTrainer:
    """Moves the rows. A step is a function of settings, step number, rows and moments.

    The captions' unique rows are encoded once per step; gradients are gathered at their text states over the
    micro-batches and sent back through the text encoder once. The loss is the mean over each concept's samples, then
    the sum over concepts: side by side they learn what each would learn alone. A step reads nothing back from the
    device.
    """

    def __init__(self, pplus: PPlus, trainees: Sequence[Trainee], scheduler: Any, settings: InversionSettings) -> None:
        self.pplus, self.trainees, self.scheduler, self.settings = pplus, tuple(trainees), scheduler, settings
        self.scale = HALF_SCALE if pplus.pipe.unet.dtype is torch.float16 else 1.0
        self.micro_batch = settings.micro_batch or settings.batch_size * len(self.trainees)
        self.processes = Processes()
        self.density = TokenDensity.over_words(pplus.pipe) if settings.density else None

    @classmethod
    def alone(cls, pplus: PPlus, concept: Concept, cache: LatentCache, settings: InversionSettings) -> Self:
        """A trainer of one concept."""
        scheduler = training_scheduler(pplus.pipe)
        trainee = Trainee(pplus, concept, cache, settings, scheduler.config.num_train_timesteps)
        return cls(pplus, [trainee], scheduler, settings)

    def advance(self) -> list[tuple[Trainee, Tensor]]:
        """Take one step with those concepts that have taken the fewest; returns them with their losses."""
        fewest = min(trainee.step for trainee in self.trainees)
        active = [trainee for trainee in self.trainees if trainee.step == fewest]
        draws = [trainee.draws() for trainee in active]
        while (losses := self._losses_if_there_is_room(active, draws)) is None:
            self._halve(active)
        for trainee, loss in zip(active, losses, strict=True):
            trainee.move(loss)
        return list(zip(active, losses, strict=True))

    def _losses_if_there_is_room(self, active: Sequence[Trainee], draws: Sequence[Draws]) -> Tensor | None:
        """The losses, with their gradients left in ``rows.unique.grad``; None where memory ran out."""
        try:
            return self.gradients(active, draws)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None

    def gradients(self, active: Sequence[Trainee], draws: Sequence[Draws]) -> Tensor:
        """Leave a step's gradients in each ``rows.unique.grad``; returns the losses ``[concept]``."""
        for trainee in active:
            trainee.optimiser.zero_grad(set_to_none=True)
        states, which = self._encode(active, draws)
        # gathered in float32 at least: half precision would round every micro-batch's share
        leaf = states.detach().to(torch.promote_types(states.dtype, torch.float32)).requires_grad_()
        latents = torch.cat([trainee.cache.sample(d) for trainee, d in zip(active, draws, strict=True)])
        owner = send([i for i, d in enumerate(draws) for _ in d.template], latents.device)
        together, batch = Draws.together(draws), self.settings.batch_size
        losses = torch.zeros(len(active), device=latents.device, dtype=leaf.dtype)
        mine = self.processes.share(len(which))
        for start in range(mine.start, mine.stop, self.micro_batch):
            chosen = slice(start, min(start + self.micro_batch, mine.stop))
            context, part = torch.stack([leaf[i] for i in which[chosen]]), together.part(chosen)
            unet, min_snr = self.pplus.pipe.unet, self.settings.min_snr
            each = denoising_losses(unet, self.scheduler, latents[chosen], part, context, min_snr) / batch
            (each.sum() * self.scale).backward()
            losses = losses.index_add(0, owner[chosen], each.detach().to(losses))
        gathered = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        states.backward(gathered.to(states.dtype))
        self.processes.add(losses)
        for trainee in active:
            self._finish(trainee)
        return losses

    def _encode(self, active: Sequence[Trainee], draws: Sequence[Draws]) -> tuple[Tensor, list[int]]:
        """Text states of the step's unique captions, and the caption of every sample."""
        texts: list[str] = []
        which: list[int] = []
        for trainee, drawn in zip(active, draws, strict=True):
            unique = sorted(set(drawn.template))
            which += [len(texts) + unique.index(template) for template in drawn.template]
            texts += captions(trainee.concept.kind, trainee.concept.token, unique)
        layers = len(self.pplus.layers)
        placeholders = {trainee.concept.token: trainee.rows.placeholder for trainee in active}
        return self.pplus.states([[text] * layers for text in texts], placeholders), which

    def _finish(self, trainee: Trainee) -> None:
        """Add the processes' shares, undo the scale, add the density regulariser's gradient."""
        unique = trainee.rows.unique
        assert unique.grad is not None
        self.processes.add(unique.grad)
        unique.grad.div_(self.scale)
        if self.density:
            (-self.settings.density * self.density.log_density(unique).mean()).backward()

    def _halve(self, active: Sequence[Trainee]) -> None:
        """Go on with half as many pictures at once; the step's gradient stays the same."""
        if self.micro_batch == 1:
            raise TrainingError("out of memory with one picture at a time; use half precision (--dtype float16)")
        self.micro_batch = -(-self.micro_batch // 2)
        for trainee in active:
            trainee.optimiser.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        warnings.warn(f"out of memory: going on with {self.micro_batch} pictures at a time", stacklevel=4)


_NO_ROOM = ("out of memory", "ALLOC_FAILED", "can't allocate memory")  # CUDA and MPS, cuDNN and cuBLAS, the CPU


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that there is no memory left; PyTorch has a class of its own for CUDA alone."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_ROOM)
