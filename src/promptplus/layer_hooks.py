"""The forward hooks on a denoiser and its layers, which give each layer its own part of packed text states.

They have no state of a call: all they need travels in the tensor (see ``packing``). So gradient checkpointing may run
them twice, and any number of threads may use them.
"""

import inspect
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.packing import Layout, at_timestep, of_stage, on_grids, stage_index
from promptplus.shared_hooks import SharedHook


class ArgumentsHook(SharedHook):
    """A hook that changes the arguments of a module's calls."""

    def register(self, module: nn.Module) -> Any:
        return module.register_forward_pre_hook(self, with_kwargs=True)

    @abstractmethod
    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that the module is called with, in place of these."""


@dataclass(frozen=True)
class LayerHook(ArgumentsHook):
    """The hook of layer ``index`` of ``layers``."""

    index: int
    layers: int


@dataclass(frozen=True)
class StageChoice(ArgumentsHook):
    """The hook of a U-Net: it takes the states of the stage that holds at the call's timestep, and fits the masks.

    Simple packed states and plain ones pass unchanged.

    Attributes:
        width: of a layer's text states.
        halvings: how many times the grid of the latents is halved before each layer.
    """

    width: int
    halvings: tuple[int, ...]

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the U-Net's call: forward(sample, timestep, encoder_hidden_states, …)."""
        names = ("sample", "timestep", "encoder_hidden_states")
        call: list[Any] = [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]
        sample, timestep, states = call
        if states is None or states.shape[-1] == self.width:
            return args, kwargs
        layout = Layout.of(states.shape[-1], len(self.halvings), self.width)
        if layout.simple:
            return args, kwargs
        if layout.stages > 1:
            states = at_timestep(states, layout, timestep)
        if layout.regions:
            rows, columns = sample.shape[-2:]
            states = on_grids(states, layout, [(-(-rows // 2**n), -(-columns // 2**n)) for n in self.halvings])
        if len(args) > 2:
            return (*args[:2], states, *args[3:]), kwargs
        return args, {**kwargs, "encoder_hidden_states": states}


class RegionArguments(dict[str, Any]):
    """The keyword arguments of one attention call, which also hold the layer's regions for the hook after the call.

    Attributes:
        regions: the arguments of further calls, and the weight of each call's output at every place of the grid.
    """

    regions: Sequence[tuple[dict[str, Any], Float[Tensor, "batch places 1"]]] = ()


class LayerSlice(LayerHook):
    """The hook of a U-Net's layer: it takes the layer's part of the packed states, and lays regions over its output."""

    def register(self, module: nn.Module) -> Any:
        return _Both(super().register(module), RegionOverlay().register(module))

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an attention layer's call, with its own part of the text states."""
        by_position = len(args) > 1  # forward(hidden_states, encoder_hidden_states, …)
        given = args[1] if by_position else kwargs.get("encoder_hidden_states")
        packed, *pictures = given if isinstance(given, tuple) else (given,)  # IP-Adapter passes (text, picture states)
        width: Any = module.cross_attention_dim
        if packed is None or packed.shape[-1] == width:
            return args, kwargs
        layout = Layout.of(packed.shape[-1], self.layers, width)
        size = layout.blocks * width
        blocks = packed[..., self.index * size : (self.index + 1) * size].split(width, dim=-1)
        own = [(block, *pictures) if pictures else block for block in blocks]
        if by_position:
            args = (*args[:1], own[0], *args[2:])
        else:
            kwargs = {**kwargs, "encoder_hidden_states": own[0]}
        if layout.regions:
            kwargs = RegionArguments(kwargs)
            hidden = args[0] if args else kwargs["hidden_states"]
            places = hidden.shape[1]
            weights = [cells.flatten(1)[:, :places, None] for cells in blocks[2::2]]
            inside = [{**kwargs, "encoder_hidden_states": states} for states in own[1::2]]
            kwargs.regions = list(zip(inside, weights, strict=True))
        return args, kwargs


class RegionOverlay(SharedHook):
    """The hook after a layer's call: inside each mask, the output is that of the mask's own text."""

    def register(self, module: nn.Module) -> Any:
        return module.register_forward_hook(self, with_kwargs=True)

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        """The layer's output; None where no mask changes it."""
        if not isinstance(kwargs, RegionArguments):
            return None
        for arguments, weight in kwargs.regions:
            inside = module.forward(*args[:1], **arguments)  # the module itself would run its hooks again
            output = torch.lerp(output, inside, weight)  # exact where the weight is 0 or 1
        return output


@dataclass(frozen=True)
class _Both:
    """The handles of two hooks that come and go together."""

    first: Any
    second: Any

    def remove(self) -> None:
        self.first.remove()
        self.second.remove()


@dataclass(frozen=True)
class TextUnfold(ArgumentsHook):
    """The hook of a diffusion transformer: it takes the stage that holds, and puts the texts of all layers in a row.

    Its layers then always take texts that are packed by tokens, also those of a plain call. So they need not know
    which of both a call is.
    """

    layers: int
    width: int

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the transformer's call, with unfolded text states and mask."""
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        states, mask = (bound.arguments.get(name) for name in ("encoder_hidden_states", "encoder_attention_mask"))
        if states is None:
            return args, kwargs
        if states.shape[-1] != self.width:
            layout = Layout.of(states.shape[-1], self.layers, self.width)
            if layout.stages > 1:
                stage = stage_index(states, layout, bound.arguments["timestep"])
                if mask is not None and mask.shape[-1] == layout.stages * self.layers * states.shape[1]:
                    masks = mask.unflatten(-1, (layout.stages, -1))
                    mask = masks.gather(1, stage.view(-1, 1, 1).expand(-1, 1, masks.shape[-1])).squeeze(1)
                states = of_stage(states, layout, stage)
        bound.arguments["encoder_hidden_states"] = self._by_tokens(states)
        if mask is not None:
            bound.arguments["encoder_attention_mask"] = self._of_all_layers(mask, states.shape[1])
        return bound.args, bound.kwargs

    def _of_all_layers(self, mask: Tensor, tokens: int) -> Tensor:
        """The mask of all layers' texts; a plain call has one for all."""
        if mask.shape[-1] == tokens:
            return mask.repeat(*[1] * (mask.ndim - 1), self.layers)
        if mask.shape[-1] != self.layers * tokens:
            raise ModelError(
                f"the mask has {mask.shape[-1]} tokens; it has {tokens}, as the text states, or that for each "
                f"of {self.layers} layers: pass all that PPlus.encode returns"
            )
        return mask

    def _by_tokens(
        self, states: Float[Tensor, "batch tokens packed_or_plain"]
    ) -> Float[Tensor, "batch packed_tokens width"]:
        if states.shape[-1] == self.width:
            return states.repeat(1, self.layers, 1)
        batch, tokens, _ = states.shape
        parts = states.view(batch, tokens, self.layers, self.width)
        return parts.permute(0, 2, 1, 3).reshape(batch, self.layers * tokens, self.width)


class TokenSlice(LayerHook):
    """The hook of a diffusion transformer's layer: it takes the layer's tokens, and their part of the mask."""

    def __call__(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of an attention layer's call, with its own text and the mask of it."""
        states = kwargs["encoder_hidden_states"]
        length = states.shape[1] // self.layers
        own = slice(self.index * length, (self.index + 1) * length)
        kwargs = {**kwargs, "encoder_hidden_states": states[:, own]}
        if kwargs.get("attention_mask") is not None:
            kwargs["attention_mask"] = kwargs["attention_mask"][..., own]
        return args, kwargs
