"""Tokenized texts → text states, in one batched pass of each text encoder over the unique (text, layer) pairs.

The pipeline's token embeddings are never changed. A concept's rows belong to the call that encodes them: they travel in
a context variable, which other threads do not see. A hook on the token embedding puts them at the positions of their
placeholders.
"""

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from promptplus.lora import lora_scaled
from promptplus.placeholders import Placeholder, TokenizedText
from promptplus.shared_hooks import HookSet, SharedHook
from promptplus.stock_calls import StockCallWatcher
from promptplus.text_encoders import EncodedTexts, EncoderCall, TextEncoder


class PlannedSlot(NamedTuple):
    """A position of a unique text that holds one vector of a placeholder token, as it is on one layer."""

    row: int
    position: int
    token: str
    layer: int
    vector: int


class PlaceholderRows(NamedTuple):
    """What one call of the text encoder puts in place of its token embeddings.

    Attributes:
        positions: (row, position) pairs of the call's token ids.
        rows: the embedding for each of them.
    """

    positions: Int[Tensor, "slots 2"]
    rows: Float[Tensor, "slots width"]


@dataclass(frozen=True)
class EncodingPlan:
    """The text encoder's input for a batch of per-layer texts, with each unique (text, layer) pair once.

    Attributes:
        ids: token ids of the unique pairs.
        used: how many tokens of each are not padding.
        index: for each prompt and layer, the row of ``ids`` that holds its text; after the layers, of the pooled text.
        slots: the positions that placeholders take.
    """

    ids: Int[Tensor, "unique tokens"]
    used: Int[Tensor, " unique"]
    index: Int[Tensor, "batch layers"]
    slots: tuple[PlannedSlot, ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[TokenizedText]], groups: Mapping[str, tuple[int, ...]]) -> Self:
        """Plan the encoding of ``texts[batch][layer]``.

        Args:
            texts: for each prompt, one text for each layer.
            groups: for each placeholder token, the group of each layer (see ``Placeholder``). The same text on two
                layers is encoded once unless one of its placeholders has different rows there.
        """
        rows: dict[tuple[TokenizedText, tuple[int, ...]], int] = {}
        slots: list[PlannedSlot] = []
        index: list[int] = []
        for layer_texts in texts:
            for layer, text in enumerate(layer_texts):
                key = (text, tuple(groups[token][layer] for token in text.tokens))
                if key not in rows:
                    rows[key] = len(rows)
                    slots += [PlannedSlot(rows[key], s.position, s.token, layer, s.vector) for s in text.slots]
                index.append(rows[key])
        ids = torch.tensor([text.ids for text, _ in rows])
        used = torch.tensor([text.used for text, _ in rows])
        return cls(ids, used, torch.tensor(index).view(len(texts), -1), tuple(slots))

    @property
    def mask(self) -> Int[Tensor, "unique tokens"]:
        """Attention mask: 1 where a token is not padding, else 0."""
        return (torch.arange(self.ids.shape[1]) < self.used[:, None]).long()

    def rows(self, placeholders: Mapping[str, Placeholder]) -> PlaceholderRows | None:
        """The positions that placeholders take, and the embedding rows to put there. None without any."""
        if not self.slots:
            return None
        positions: list[tuple[int, int]] = []
        rows: list[Tensor] = []
        for token, placeholder in placeholders.items():
            slots = [slot for slot in self.slots if slot.token == token]
            if slots:
                positions += [(slot.row, slot.position) for slot in slots]
                device = placeholder.rows.device
                layers, vectors = [slot.layer for slot in slots], [slot.vector for slot in slots]
                rows.append(placeholder.rows[send(layers, device), send(vectors, device)])
        return PlaceholderRows(torch.tensor(positions), torch.cat(rows))


_OUR_CALL: ContextVar[bool] = ContextVar("promptplus_call", default=False)
_ROWS: ContextVar[PlaceholderRows | None] = ContextVar("promptplus_rows", default=None)


class EmbeddingHook(SharedHook):
    """The hook on the token embedding. In our own calls it puts rows at placeholders; gradients flow to them.

    Stock calls pass unchanged; watchers only see their token ids.
    """

    def __init__(self) -> None:
        self.watchers: weakref.WeakSet[StockCallWatcher] = weakref.WeakSet()

    def register(self, module: nn.Module) -> Any:
        return module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """The embeddings of a call, with rows at the positions of placeholders."""
        if not _OUR_CALL.get():
            for watcher in list(self.watchers):
                watcher.see(args[0])
            return None
        replacement = _ROWS.get()
        if replacement is None:
            return None
        rows, scale = replacement.rows, getattr(module, "embed_scale", None)
        if scale is not None:  # Gemma's embedding scales what it looks up
            rows = rows * scale
        return output.index_put(replacement.positions.unbind(1), rows.to(output))

    def __reduce__(self) -> tuple[Any, ...]:
        return EmbeddingHook, ()  # a copy belongs to nobody


def watch(hooks: HookSet, encoder: TextEncoder, watcher: StockCallWatcher) -> None:
    """See to it that the hook is on a text encoder's token embedding, which may have been exchanged."""
    hooks.attach(encoder.embedding, EmbeddingHook()).watchers.add(watcher)


@contextmanager
def our_call(replacement: PlaceholderRows | None) -> Generator[None]:
    """While inside, the text encoder's calls in this thread are ours, with these rows."""
    call, rows = _OUR_CALL.set(True), _ROWS.set(replacement)
    try:
        yield
    finally:
        _ROWS.reset(rows)
        _OUR_CALL.reset(call)


def encode_texts(
    encoder: TextEncoder,
    plan: EncodingPlan,
    placeholders: Mapping[str, Placeholder],
    *,
    clip_skip: int | None = None,
    lora_scale: float | None = None,
    device: torch.device | None = None,
    cut_padding: bool = False,
) -> EncodedTexts:
    """Encode the unique texts of a plan in one call of the text encoder.

    The call is the one of the stock pipeline, so equal shapes give equal bits; with ``cut_padding`` up to rounding.

    Args:
        encoder: a text encoder, with the hook of ``watch``.
        plan: what to encode.
        placeholders: rows of each placeholder token in the plan.
        clip_skip: as in diffusers: 1 takes the last but one layer.
        lora_scale: strength of the text encoder's LoRA layers, as diffusers' ``cross_attention_kwargs["scale"]``.
        device: the device that the encoder runs on, where its weights are elsewhere (offloading).
        cut_padding: leave out tokens that are padding in all texts, where the encoder allows it. Training does: of the
            300 tokens of T5 a caption has about ten, and the others would take nearly all of the memory.

    Raises:
        PromptError: ``clip_skip`` is no whole number, or outside its range.
    """
    target: torch.device = device or encoder.model.device
    found = plan.rows(placeholders)
    replacement = found and PlaceholderRows(send(found.positions, target), found.rows.to(target))
    length = plan.ids.shape[1]
    end = int(plan.used.max()) if cut_padding and encoder.cuts_padding else length
    ids, mask = send(plan.ids[:, :end], target), send(plan.mask[:, :end], target)
    with our_call(replacement), lora_scaled(encoder.model, lora_scale):
        return encoder.encode(EncoderCall(ids, mask, clip_skip, length))


def send(values: Tensor | Sequence[int], device: torch.device) -> Tensor:
    """Copy numbers to a device without waiting for the work that is queued there, as each training step does it."""
    return torch.as_tensor(values).to(device, non_blocking=True)
