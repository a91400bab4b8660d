"""What is in training: named weights, the draws of the next step, and how a gradient moves them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from promptplus.errors import OutputError
from promptplus.training.batches import Batch
from promptplus.training.settings import TrainingSettings


class Trainable(ABC):
    """Weights in training, their optimiser (AdamW), and how far they are.

    Attributes:
        name: what it is called on screen; its draws depend on it.
        weights: by name; in at least float32, since half precision loses an optimiser's small steps.
        extra: what else changes from step to step.
        step: optimiser steps taken.
        sound: False from the first loss or gradient on that is not finite: from there on no step is taken.
    """

    checkpoint_every = 50  # steps; a kill loses at most these (our choice)

    def __init__(
        self, name: str, weights: Mapping[str, nn.Parameter], settings: TrainingSettings, weight_decay: float
    ) -> None:
        self.name, self.weights, self.settings = name, dict(weights), settings
        self.extra: dict[str, Tensor] = {}
        self.step = 0
        parameters = list(self.weights.values())
        options: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": weight_decay, "fused": True}
        options["betas"] = (settings.beta1, settings.beta2)
        self.optimiser: Any = torch.optim.AdamW(parameters, **options)
        self.sound = torch.ones((), dtype=torch.bool, device=parameters[0].device)

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.sound.device

    @property
    @abstractmethod
    def shares(self) -> Tensor:
        """How much each of a step's samples counts in the loss ``[B]``, float64 on the CPU."""

    @abstractmethod
    def draws(self) -> Batch:
        """The next step's randomness, on the device: a function of seed, name and step."""

    @abstractmethod
    def latents(self, draws: Batch) -> Tensor:
        """Clean latents ``[B, C, h, w]`` for a step's draws."""

    @abstractmethod
    def look(self) -> list[Image.Image]:
        """Preview pictures at fixed seeds, with the weights as they are now."""

    @abstractmethod
    def rescue(self, folder: Path) -> Path:
        """Save the last sound weights of a run that failed."""

    def clear(self) -> None:
        """Forget the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def complete(self) -> None:
        """Give weights without a gradient one of zeros."""
        for weight in self.weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients that lie ready, in the weights' order."""
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    @torch.no_grad()
    def move(self, loss: Tensor) -> None:
        """Take a step along the gradients; none where they or the loss are not finite."""
        finite = [torch.isfinite(gradient).all() for gradient in self.gradients]
        self.sound = self.sound & torch.isfinite(loss) & torch.stack(finite).all()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self.optimiser.found_inf = (~self.sound).float()  # the fused kernel skips the step itself, moments and all
        if self.device.type != "mps" or bool(self.sound):  # MPS' kernel does not know found_inf
            self.optimiser.step()
        self.step += 1

    def state(self) -> dict[str, Tensor]:
        """Weights and extra, as a checkpoint keeps them."""
        return {**self.weights, **self.extra}

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state as ``weight/moment``; empty before the first step."""
        state = ((name, self.optimiser.state.get(weight, {})) for name, weight in self.weights.items())
        return {f"{name}/{moment}": value for name, moments in state for moment, value in moments.items()}

    def restore(self, step: int, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint. Raises OutputError where its weights are others."""
        self.step = step
        shapes = {name: weight.shape for name, weight in self.state().items()}
        if shapes != {name: weight.shape for name, weight in weights.items()}:
            raise OutputError(f"the checkpoint of {self.name} holds other weights; give another folder")
        with torch.no_grad():
            for name, weight in self.state().items():
                weight.copy_(weights[name])
        if moments:
            state: dict[int, dict[str, Tensor]] = {number: {} for number in range(len(self.weights))}
            number_of = {name: number for number, name in enumerate(self.weights)}
            for key, value in moments.items():
                name, moment = key.rsplit("/", 1)
                state[number_of[name]][moment] = value
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})


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
