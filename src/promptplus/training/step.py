"""The training step: batch → latents and text states → the denoiser's loss → gradients → moved weights."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptplus.errors import TrainingError, warn
from promptplus.memory import is_out_of_memory
from promptplus.text_encoding import send
from promptplus.training.batches import Batch
from promptplus.training.distributed import Distributed
from promptplus.training.loss import denoising_losses
from promptplus.training.settings import TrainingSettings
from promptplus.training.trainable import Trainable

HALF_SCALE = 2.0**14  # lifts the loss' gradient, about 1e-6 per latent, out of float16's subnormal range

T = TypeVar("T", bound=Trainable[Any])


class TrainingStep(Generic[T]):
    """Moves trainables of one kind. A step is a function of settings, step number, weights and moments.

    The loss is the weighted sum over each trainable's samples, then the sum over trainables: side by side they learn
    what each would learn alone. A step reads nothing back from the device.

    Attributes:
        micro_batch: samples that go through the denoiser at once. Halved where memory runs out.
    """

    def __init__(self, trainables: Sequence[T], scheduler: Any, settings: TrainingSettings) -> None:
        self.trainables, self.scheduler, self.min_snr = tuple(trainables), scheduler, settings.min_snr
        self.denoiser = self.trainables[0].denoiser
        self.scale = HALF_SCALE if self.denoiser.dtype is torch.float16 else 1.0
        self.micro_batch = settings.micro_batch or sum(len(one.sample_weights) for one in self.trainables)
        self.distributed = Distributed()

    def advance(self) -> list[tuple[T, Float[Tensor, ""]]]:
        """Take one step with the trainables that have taken the fewest; returns them with their losses."""
        fewest = min(trainable.step for trainable in self.trainables)
        active = [trainable for trainable in self.trainables if trainable.step == fewest]
        batches = [trainable.next_batch() for trainable in active]
        while True:
            try:
                losses = self.gradients(active, batches)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._halve_micro_batch(active)  # outside ``except``: its traceback would hold the step's tensors
        for trainable, loss in zip(active, losses, strict=True):
            trainable.move(loss)
        return list(zip(active, losses, strict=True))

    def gradients(self, active: Sequence[T], batches: Sequence[Batch]) -> Float[Tensor, " trainables"]:
        """Leave a step's gradients at the weights; returns the losses.

        The unique captions are encoded once. Where that takes gradients, they are gathered at the text states over the
        micro-batches and sent back through the text encoder once.
        """
        for trainable in active:
            trainable.clear_gradients()
        text, caption_of_sample = type(active[0]).encode_captions(active, batches)
        # gathered in float32 at least: half precision would round every micro-batch's share
        leaf = text.with_gradients_apart(torch.promote_types(text.states.dtype, torch.float32))
        latents = torch.cat([trainable.latents(batch) for trainable, batch in zip(active, batches, strict=True)])
        owner, weight = self._owners_and_weights(active, batches, latents.device)
        whole = Batch.concatenate(batches)
        losses = torch.zeros(len(active), device=latents.device, dtype=leaf.states.dtype)
        share = self.distributed.share(len(caption_of_sample))
        for start in range(share.start, share.stop, self.micro_batch):
            samples = slice(start, min(start + self.micro_batch, share.stop))
            captions, part = leaf[caption_of_sample[samples]], whole.part(samples)
            with active[0].precision:
                each = denoising_losses(self.denoiser, self.scheduler, latents[samples], part, captions, self.min_snr)
            each = each * weight[samples]
            (each.sum() * self.scale).backward()
            losses = losses.index_add(0, owner[samples], each.detach().to(losses))
        if wanted := text.differentiable:
            gathered = [torch.zeros_like(one) if one.grad is None else one.grad for one in leaf.differentiable]
            torch.autograd.backward(wanted, [one.to(two.dtype) for one, two in zip(gathered, wanted, strict=True)])
        self.distributed.add(losses)
        for trainable in active:
            self._finish_gradients(trainable)
        return losses

    def _owners_and_weights(
        self, active: Sequence[T], batches: Sequence[Batch], device: torch.device
    ) -> tuple[Int[Tensor, " batch"], Float[Tensor, " batch"]]:
        """For every sample of a step, the number of its trainable and its weight in the loss."""
        owner = send([i for i, batch in enumerate(batches) for _ in batch.template], device)
        weights = torch.cat([trainable.sample_weights for trainable in active])
        return owner, send(weights.to(torch.promote_types(self.denoiser.dtype, torch.float32)), device)

    def _finish_gradients(self, trainable: T) -> None:
        """Sum the gradients over all processes, undo the scale, and add the trainable's penalty."""
        trainable.fill_gradients()  # a process may have had no samples
        self.distributed.add(*trainable.gradients)
        for gradient in trainable.gradients:
            gradient.div_(self.scale)
        trainable.add_penalty_gradients()

    def _halve_micro_batch(self, active: Sequence[T]) -> None:
        """Continue with half as many samples at once; the step's gradient stays the same."""
        if self.micro_batch == 1:
            raise TrainingError(f"out of memory with one picture at a time; {active[0].memory_advice}")
        self.micro_batch = -(-self.micro_batch // 2)
        for trainable in active:
            trainable.clear_gradients()
        torch.cuda.empty_cache()
        warn(f"out of memory: going on with {self.micro_batch} pictures at a time")
