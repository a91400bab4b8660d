"""What a training moves: named weights, their optimiser, their data, and what is saved in the end."""

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor, nn

from promptplus.denoiser_calls import DenoiserCall
from promptplus.errors import OutputError
from promptplus.text_states import TextStates
from promptplus.training.batches import Batch, BatchRule
from promptplus.training.checkpoint import MOMENTS, ROWS_BYTES
from promptplus.training.result import TrainingResult
from promptplus.training.settings import TrainingSettings

R = TypeVar("R", bound=TrainingResult)


class Trainable(ABC, Generic[R]):
    """Weights in training with AdamW, and all that depends on what kind of weights they are.

    The constructor only notes what was asked. ``prepare`` encodes the pictures and makes the weights: a run that
    turns out to be finished does not need it.

    Attributes:
        name: what the subject is called in prompts. The random numbers of its batches depend on it.
        settings: how it is trained.
        weights: by name, in at least float32: half precision would lose an optimiser's small steps.
        averages: tensors that change with every step beside the weights, by name.
        step: optimiser steps taken.
        finite: False from the first loss or gradient that is not finite. After that no step is taken.
        denoiser: the calls of the denoiser, which may be compiled.
    """

    checkpoint_every = 50  # steps; a kill loses at most these (our choice)
    checkpoint_bytes = ROWS_BYTES  # the largest checkpoint file that is read
    keeps_previous = True  # whether the checkpoint before the newest one is kept, for the case that that is damaged
    memory_advice = "use half precision (--dtype float16)"
    precision: AbstractContextManager[Any] = nullcontext()
    """The denoiser runs inside."""

    denoiser: DenoiserCall
    weights: dict[str, nn.Parameter]
    averages: dict[str, Tensor]
    optimiser: Any
    finite: Tensor

    def __init__(self, name: str, settings: TrainingSettings) -> None:
        self.name, self.settings, self.step = name, settings, 0

    @abstractmethod
    def prepare(self, timesteps: int) -> None:
        """Encode the pictures and make the weights; ends with a call of ``start_optimiser``.

        Args:
            timesteps: how many timesteps the noise schedule has.
        """

    @property
    @abstractmethod
    def sample_weights(self) -> Float64[Tensor, " batch"]:
        """How much each sample of a step counts in the loss; on the CPU."""

    @abstractmethod
    def next_batch(self) -> Batch:
        """The next step's random numbers, on the device: a function of seed, name and step."""

    @abstractmethod
    def latents(self, batch: Batch) -> Float[Tensor, "batch channels height width"]:
        """Clean latents of a batch."""

    @classmethod
    @abstractmethod
    def encode_captions(cls, trainables: Sequence[Any], batches: Sequence[Batch]) -> tuple[TextStates, list[int]]:
        """Text states of the unique captions of one step, and the caption's number for every sample.

        ``trainables``: those that take the step, all of this class.
        """

    def add_penalty_gradients(self) -> None:
        """Add to the gradients what does not come from the denoiser. Default: nothing."""

    @abstractmethod
    def preview(self) -> list[Image.Image]:
        """Pictures at fixed seeds, with the weights as they are now."""

    @abstractmethod
    def class_word_preview(self) -> list[Image.Image]:
        """Pictures of the class word at the same seeds, from the untrained model."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What was asked, for people: the content of ``settings.json``."""

    @abstractmethod
    def rescue(self, folder: Path) -> Path:
        """Save the last finite weights of a run that failed. Returns the path."""

    def save_stopped(self, folder: Path) -> Path | None:
        """Write what a stopped run has learned so far, for use. None where only the checkpoint holds it."""
        return None

    @abstractmethod
    def result(self, base: TrainingResult) -> R:
        """The result of a training that has just ended; ``base``: what every result has."""

    @abstractmethod
    def save(self, folder: Path, result: R) -> None:
        """Write what was learned into the run folder."""

    @abstractmethod
    def no_effect(self, result: R) -> str:
        """A warning for a training that hardly changed the weights; empty for any other."""

    @abstractmethod
    def saved_result(self, folder: Path, base: TrainingResult) -> R | None:
        """The result as an earlier call saved it in a run folder; None where it is missing or of fewer steps."""

    def start_optimiser(self, weights: Mapping[str, nn.Parameter], weight_decay: float) -> None:
        """Take the weights and make their AdamW."""
        self.weights, self.averages = dict(weights), {}
        parameters = list(self.weights.values())
        options: dict[str, Any] = {"lr": self.settings.learning_rate, "weight_decay": weight_decay, "fused": True}
        options["betas"] = (self.settings.beta1, self.settings.beta2)
        self.optimiser = torch.optim.AdamW(parameters, **options)
        self.finite = torch.ones((), dtype=torch.bool, device=parameters[0].device)

    def batch_rule(self, timesteps: int, templates: int, one_template: bool = False) -> BatchRule:
        """How the settings want samples to be drawn."""
        settings = self.settings
        return BatchRule(
            batch=settings.batch_size,
            timesteps=timesteps,
            templates=templates,
            flip=settings.flip,
            one_template=one_template,
            stratified=settings.stratified,
            antithetic=settings.antithetic,
            timestep_bias=settings.timestep_bias,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.finite.device

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients that there are, in the weights' order."""
        return [weight.grad for weight in self.weights.values() if weight.grad is not None]

    def clear_gradients(self) -> None:
        """Drop the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def fill_gradients(self) -> None:
        """Give weights without a gradient one of zeros."""
        for weight in self.weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)

    @torch.no_grad()
    def move(self, loss: Float[Tensor, ""]) -> None:
        """Take an optimiser step along the gradients; no step where they or the loss are not finite."""
        finite = [torch.isfinite(gradient).all() for gradient in self.gradients]
        self.finite = self.finite & torch.isfinite(loss) & torch.stack(finite).all()
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self.optimiser.found_inf = (~self.finite).float()  # the fused kernel skips the step itself, moments and all
        if self.device.type != "mps" or bool(self.finite):  # MPS' kernel does not know found_inf
            self.optimiser.step()
        self.step += 1

    def state(self) -> dict[str, Tensor]:
        """Weights and averages, as a checkpoint keeps them."""
        return {**self.weights, **self.averages}

    def moments(self) -> dict[str, Tensor]:
        """The optimiser's state as ``weight/moment``; empty before the first step."""
        state = ((name, self.optimiser.state.get(weight, {})) for name, weight in self.weights.items())
        return {f"{name}/{moment}": value for name, moments in state for moment, value in moments.items()}

    def restore(self, step: int, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint.

        Raises OutputError where its weights have other names, shapes or types, are not finite, or lack the optimiser's
        state.
        """
        self.step = step
        forms = {name: (weight.shape, weight.dtype) for name, weight in self.state().items()}
        if forms != {name: (weight.shape, weight.dtype) for name, weight in weights.items()}:
            raise OutputError(f"the checkpoint of {self.name} holds other weights; give another folder")
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise OutputError(f"the checkpoint of {self.name} holds weights that are not finite; give another folder")
        if moments.keys() != {f"{name}/{moment}" for name in self.weights for moment in MOMENTS if step}:
            raise OutputError(f"the checkpoint of {self.name} lacks the optimiser's state; give another folder")
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


_FREEZING = threading.Lock()
_FROZEN: "weakref.WeakKeyDictionary[nn.Module, _Frozen]" = weakref.WeakKeyDictionary()


class _Frozen:
    """What a module was like before it was frozen, and by how many trainings it is."""

    def __init__(self, module: nn.Module) -> None:
        self.count = 0
        self.weights = [weight for weight in module.parameters() if weight.requires_grad]
        self.training = [part for part in module.modules() if part.training]

    def put_back(self) -> None:
        for weight in self.weights:
            weight.requires_grad_(True)
        for module in self.training:
            module.training = True


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """While inside, the modules' weights take no gradient and the modules are in evaluation mode.

    Both are put back when the last of several trainings of one model has ended.
    """
    with _FREEZING:
        for module in modules:
            if module not in _FROZEN:
                _FROZEN[module] = _Frozen(module)
            _FROZEN[module].count += 1
            module.requires_grad_(False).eval()
    try:
        yield
    finally:
        with _FREEZING:
            for module in modules:
                state = _FROZEN[module]
                state.count -= 1
                if not state.count:
                    state.put_back()
                    del _FROZEN[module]
