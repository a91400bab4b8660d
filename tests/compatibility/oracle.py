"""A text of its own for every layer, without P+: what the tests of compatibility compare with.

Each cross-attention layer gets an attention processor around the one it had, which is called with the layer's own text
states in place of those that are passed. Each text is encoded alone, by the stock pipeline. Layers are numbered in the
order in which a stock call runs them. Nothing here imports promptplus.
"""

import inspect
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Text(NamedTuple):
    """States of one text, as a cross-attention layer takes them, and what it adds to its scores for padding."""

    states: Tensor
    bias: Tensor | None


class Texts(NamedTuple):
    """A prompt and a negative prompt."""

    prompt: Text
    negative: Text


@dataclass(frozen=True)
class OwnTexts:
    """An attention processor around another: the layer attends to its own texts, whatever it is passed.

    Attributes:
        inner: the processor that was there.
        passed: the texts of the stock call. A row of the batch that comes with the negative one is the negative's.
        own: this layer's texts.
    """

    inner: Any
    passed: Texts
    own: Texts

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        states, *pictures = (
            encoder_hidden_states if isinstance(encoder_hidden_states, tuple) else [encoder_hidden_states]
        )
        rows = [self.own[self._which(row)] for row in states]
        states = torch.cat([row.states for row in rows])
        bias = None if rows[0].bias is None else torch.cat([row.bias for row in rows])
        own = (states, *pictures) if pictures else states
        return self.inner(attn, hidden_states, own, bias, *args, **kwargs)

    def _which(self, row: Tensor) -> int:
        """0 for the stock call's prompt, 1 for its negative prompt."""
        distances = [(row - text.states[0]).abs().max() for text in self.passed]
        return int(distances[1] < distances[0])


def denoisers(pipe: Any) -> list[Any]:
    """The denoiser of a pipeline, and its ControlNets."""
    control = getattr(pipe, "controlnet", None)
    nets = [] if control is None else list(getattr(control, "nets", [control]))
    return [pipe.unet if hasattr(pipe, "unet") else pipe.transformer, *nets]


def layers(model: nn.Module) -> list[Any]:
    """All cross-attention layers, in any order."""
    return [module for name, module in model.named_modules() if name.endswith("attn2")]


def draw(
    pipe: Any, stock: tuple[str, str], own: Sequence[tuple[str, str]], call: Callable[[Any, str, str], Tensor]
) -> tuple[Tensor, Tensor]:
    """What a pipeline draws from its stock call, and where each layer has its own prompt and negative prompt.

    Args:
        pipe: the pipeline. It is left as it was.
        stock: prompt and negative prompt of the stock call. In the other one they are for all that is no such layer.
        own: prompt and negative prompt of each layer.
        call: draws with a pipeline, a prompt and a negative prompt.
    """
    with _recorded(pipe) as order:
        picture = call(pipe, *stock)
    passed, encoded = _encode(pipe, *stock), [_encode(pipe, *texts) for texts in own]
    before = [(attention, attention.get_processor()) for attentions in order for attention in attentions]
    try:
        for attentions in order:
            strict = attentions is order[0]  # a ControlNet has the first ones
            for attention, texts in zip(attentions, encoded, strict=strict):
                attention.set_processor(OwnTexts(attention.get_processor(), passed, texts))
        return picture, call(pipe, *stock)
    finally:
        for attention, processor in before:
            attention.set_processor(processor)


@contextmanager
def _recorded(pipe: Any) -> Generator[list[dict[Any, None]]]:
    """While inside, record the order in which each denoiser runs its cross-attention layers."""
    order: list[dict[Any, None]] = [{} for _ in denoisers(pipe)]
    hooks = [
        attention.register_forward_pre_hook(lambda module, _, seen=seen: seen.update({module: None}))
        for model, seen in zip(denoisers(pipe), order, strict=True)
        for attention in layers(model)
    ]
    yield order
    for hook in hooks:
        hook.remove()


def _encode(pipe: Any, prompt: str, negative: str) -> Texts:
    """One prompt and one negative prompt by the stock pipeline, as its cross-attention layers take them."""
    call: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative, "do_classifier_free_guidance": True}
    if hasattr(pipe, "unet"):
        states, negative_states, *_ = pipe.encode_prompt(**call, device=pipe.device, num_images_per_prompt=1)
        return Texts(Text(states, None), Text(negative_states, None))
    instruction = inspect.signature(pipe.__call__).parameters.get("complex_human_instruction")
    if instruction:  # Sana's; in front of each prompt
        call["complex_human_instruction"] = instruction.default
    states, mask, negative_states, negative_mask = pipe.encode_prompt(**call)
    return Texts(_project(pipe.transformer, states, mask), _project(pipe.transformer, negative_states, negative_mask))


@torch.no_grad()
def _project(transformer: Any, states: Tensor, mask: Tensor) -> Text:
    """What a transformer does to text states and their mask before its blocks."""
    for name in ("caption_projection", "caption_norm"):
        if hasattr(transformer, name):
            states = getattr(transformer, name)(states.to(transformer.dtype))
    return Text(states, ((1 - mask.to(transformer.dtype)) * -10000.0).unsqueeze(1))
