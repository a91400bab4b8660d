"""What all training stages share: configuration, learning-rate schedules, the resumable training loop, the log."""

import json
import math
import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm import tqdm

from .checkpoints import load_newest, save_atomically

CHECKPOINT_EVERY = 100
LOG_EVERY = 50
"""Steps between two checkpoints and between two lines of the log."""
FLOOR = 0.02
"""The last learning rate as a share of the greatest one (our choice)."""
CLIP_NORM = 1.0
"""Greatest norm of the gradient."""
COOLING = 0.25
"""Share of the steps in which the learning rate of `trapezoid` falls (our choice)."""


@dataclass(frozen=True)
class TrainingConfig:
    """The options of the command line. All other settings are constants in the modules of the stages."""

    work: Path
    package: Path
    device: torch.device
    threads: int
    pictures: int
    steps: int | None
    """Training steps of every stage, for smoke tests; None: the stage's own number."""
    count: int
    """Number of pictures that the report generates."""
    samples: int | None = None
    """Number of samples that the U-Net is trained on; None: its own number."""
    seconds: int | None = None
    """Time of the training on a GPU; None: its own number of samples."""
    compile: bool = True
    """Whether the training on a GPU compiles the U-Net."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` computes in bfloat16. A CPU that emulates it is twenty times slower than in float32."""
    return device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A context of bfloat16 autocast, if `has_bfloat16(device)`; otherwise without effect."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def use_fast_attention(model: Any, device: torch.device) -> Any:
    """Set the faster attention: unfused in bfloat16 on a CPU, where fused attention has a slow backward pass."""
    unfused = device.type == "cpu" and has_bfloat16(device)
    model.set_attn_processor(AttnProcessor() if unfused else AttnProcessor2_0())
    return model


def channels_last(model: Any, device: torch.device) -> Any:
    """Move `model` to `device` in the channels-last memory format, which is faster for convolutions."""
    return model.to(device, memory_format=torch.channels_last)


def cosine(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: linear warm-up, then a cosine down to `FLOOR * peak`."""
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    return peak * min(1.0, (step + 1) / warmup) * (FLOOR + (1 - FLOOR) * fall)


def trapezoid(step: int, steps: int, peak: float, warmup: int) -> float:
    """Learning rate: warm-up, constant, then linear down to `FLOOR * peak` over the last `COOLING` of the steps.

    The number of steps may change until the rate falls (Hu et al., 2024: WSD).
    """
    fall = min(1.0, (1 - step / steps) / COOLING)
    return peak * min(1.0, (step + 1) / warmup) * (FLOOR + (1 - FLOOR) * fall)


def to_pixels(
    pictures: UInt8[Tensor, "batch height width 3"], device: torch.device
) -> Float[Tensor, "batch 3 height width"]:
    """Pixels in [-1, 1], in the channels-last memory format."""
    pixels = pictures.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def to_bytes(pixels: Float[Tensor, "batch 3 height width"]) -> UInt8[Tensor, "batch height width 3"]:
    """Pictures of pixels in [-1, 1], on the CPU."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 1).byte().cpu()


def world_size() -> int:
    """Number of distributed processes: more than one under torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process."""
    return int(os.environ.get("RANK", "0"))


def first_rank() -> bool:
    """Whether this is the process that writes files."""
    return rank() == 0


def wait() -> None:
    """Wait until all processes have called this."""
    if world_size() > 1:
        torch.distributed.barrier()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """Replace the gradients by their mean over all processes, in one all-reduce."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def adamw(parameters: list[nn.Parameter], **values: Any) -> torch.optim.Optimizer:
    """A fused AdamW optimiser. On a GPU its steps can be captured in a CUDA graph; the rate may be a tensor there."""
    return torch.optim.AdamW(parameters, fused=True, capturable=parameters[0].is_cuda, **values)


Schedule = Callable[[int, int, float, int], float]
"""(step, steps, peak, warm-up) → learning rate."""


class Training:
    """A resumable training run: iterate over it for the remaining steps, and call `update` with each step's loss.

    A checkpoint contains {model, optimiser, ema, step}; the checkpoint before is kept too. Random numbers depend on
    (seed, step, rank) only, so a run that was killed continues with the same results. A finished run yields no steps.
    Under torchrun each batch is distributed over the processes: gradients are averaged, the first process writes.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        config: TrainingConfig,
        *,
        steps: int,
        peak: float,
        warmup: int,
        seed: int,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        ema_decay: float | None = None,
        schedule: Schedule = cosine,
        optimiser: Callable[..., Any] | None = None,
    ) -> None:
        self.name, self.model, self.steps, self.peak, self.warmup = name, model, steps, peak, warmup
        self.path = config.work / f"{name}.checkpoint.pt"
        self.log = config.work / f"{name}.jsonl"
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        values: dict[str, Any] = {"lr": peak, "betas": betas, "weight_decay": weight_decay}
        self.optimiser = optimiser(model, **values) if optimiser else adamw(self.parameters, **values)
        self.ema_decay, self.schedule = ema_decay, schedule
        self.ema = [p.detach().clone() for p in self.parameters] if ema_decay else []
        self.seed, self.world = seed, world_size()
        self.generator, self.rng = torch.Generator(), random.Random()
        self.step = 0
        self.sums: dict[str, float] = {}
        self.summed = 0
        if state := load_newest(self.path):
            self.restore(state)

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        for mean, saved in zip(self.ema, state["ema"], strict=True):
            mean.copy_(saved)
        self.step = state["step"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema,
            "step": self.step,
        }
        save_atomically(state, self.path)

    def __iter__(self) -> Iterator[int]:
        self.model.train()
        self.bar = tqdm(
            total=self.steps,
            initial=self.step,
            desc=self.name,
            file=sys.stdout if first_rank() else open(os.devnull, "w"),
            mininterval=10,
            ascii=True,
        )
        self.started, self.first = time.time(), self.step
        while self.step < self.steps:
            for group in self.optimiser.param_groups:
                group["lr"] = self.schedule(self.step, self.steps, self.peak, self.warmup)
            key = f"{self.seed}/{self.step}/{rank()}"
            self.generator.manual_seed(zlib.crc32(key.encode()))
            self.rng.seed(key)
            yield self.step
            if first_rank() and (self.step % CHECKPOINT_EVERY == 0 or self.step == self.steps):
                self.save()
        self.bar.close()
        self.model.eval()

    def update(self, loss: Tensor, **numbers: float) -> None:
        """One optimiser step on `loss`; the log gets the means of the loss and of `numbers`."""
        self.optimiser.zero_grad()
        loss.backward()
        if self.world > 1:
            average_gradients(self.parameters)
        nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
        self.optimiser.step()
        self.step += 1
        if self.ema_decay:
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.parameters], 1 - decay)
        self.bar.update()
        self.summed += 1
        for key, value in {"loss": loss.item(), **numbers}.items():
            self.sums[key] = self.sums.get(key, 0) + value
        if first_rank() and (self.step % LOG_EVERY == 0 or self.step == self.steps):
            self.write_log()

    def write_log(self) -> None:
        means = {key: round(total / self.summed, 5) for key, total in self.sums.items()}
        pace = (time.time() - self.started) / (self.step - self.first)
        with self.log.open("a") as file:
            file.write(json.dumps({"step": self.step, **means, "seconds_per_step": round(pace, 3)}) + "\n")
        self.bar.set_postfix({key: f"{value:.3f}" for key, value in means.items()}, refresh=False)
        self.sums, self.summed = {}, 0

    def average_into(self, model: nn.Module) -> None:
        """Copy the averaged weights to `model`, a copy of the trained model."""
        copy_weights(model, self.ema)


@torch.no_grad()
def copy_weights(model: nn.Module, weights: list[Tensor]) -> None:
    """Copy `weights`, one for each parameter, to `model`."""
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        parameter.copy_(weight)
