"""Where layers look: how much of each cross-attention layer's attention falls on which words (paper section 3.1).

Attention is recomputed from what ``to_q`` and ``to_k`` give, so any attention processor may be in use; only hooks are
installed, and they go again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from promptplus.errors import PromptError
from promptplus.generation import BATCH, denoise, quiet
from promptplus.layers import LayerMap
from promptplus.placeholders import TokenizedText
from promptplus.pplus import PPlus
from promptplus.profiles import usual_sampling

KINDS = ("object", "after the object", "appearance", "other words", "start", "end and padding")
"""“After the object”: the one token that follows, for a causal text encoder tells it what it follows (docs/log.md)."""
WORDS = 4  # the first kinds are words, the others are not


@dataclass(frozen=True)
class AskedPrompt:
    """A text, its object's word, and the words that say how it looks: ``("red", "striped", "pixel art")``."""

    text: str
    object: str
    appearance: tuple[str, ...] = ()


@dataclass
class Recorder:
    """Sums each layer's attention, averaged over heads: ``sums[layer]`` ``[B, pixels, S]``, after ``calls`` calls."""

    guided: bool
    sums: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    parts: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def keep(self, layer: int, name: str) -> Any:
        """The hook of ``to_q`` or ``to_k``."""
        return lambda _module, _inputs, output: self.parts.__setitem__((layer, name), output)

    def add(self, layer: int) -> Any:
        """The hook of the attention itself."""

        def hook(attention: nn.Module, *_: object) -> None:
            weights = attention_weights(attention, self.parts.pop((layer, "q")), self.parts.pop((layer, "k")))
            mean = weights.mean(1)[len(weights) // 2 if self.guided else 0 :].cpu()  # the second half is the prompt's
            self.sums[layer] = self.sums.get(layer, 0) + mean
            self.calls[layer] = self.calls.get(layer, 0) + 1

        return hook

    @property
    def maps(self) -> list[Tensor]:
        """Each layer's mean over calls, ``[B, pixels, S]``: every pixel's sum to 1."""
        return [self.sums[layer] / self.calls[layer] for layer in sorted(self.sums)]


def attention_weights(attention: Any, query: Tensor, key: Tensor) -> Tensor:
    """Softmax of scaled products: ``[B, pixels, heads·d]`` and ``[B, S, heads·d]`` → ``[B, heads, pixels, S]``."""
    query, key = (x.float().unflatten(-1, (attention.heads, -1)).transpose(1, 2) for x in (query, key))
    return (query @ key.transpose(-1, -2) * attention.scale).softmax(-1)


@contextmanager
def recorded(unet: nn.Module, layers: LayerMap, guided: bool) -> Iterator[Recorder]:
    """While inside, the denoiser's calls are recorded; ``guided``: each batch is the negatives, then the prompts."""
    recorder, handles = Recorder(guided), []
    for number, path in enumerate(layers.module_paths()):
        attention: Any = unet.get_submodule(path)
        handles += [
            attention.to_q.register_forward_hook(recorder.keep(number, "q")),
            attention.to_k.register_forward_hook(recorder.keep(number, "k")),
            attention.register_forward_hook(recorder.add(number)),
        ]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def attention_maps(
    pplus: PPlus, text: str, seeds: Sequence[int], *, steps: int | None = None, guidance: float | None = None
) -> tuple[list[Tensor], list[Any]]:
    """One text for all layers: each layer's attention ``[seed, pixels, S]``, mean over steps and heads; pictures."""
    steps, guidance = usual_sampling(pplus.pipe, steps, guidance)
    kwargs = pplus.encode([text] * len(seeds))
    with recorded(pplus.pipe.unet, pplus.layers, guided=guidance > 1) as recorder, quiet(pplus.pipe):
        pictures = denoise(pplus.pipe, kwargs, seeds, steps=steps, guidance=guidance)
    return recorder.maps, pictures


def attention_shares(
    pplus: PPlus,
    prompts: Sequence[AskedPrompt],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    guidance: float | None = None,
) -> Tensor:
    """Shares of attention ``[prompt, layer, kind]`` on KINDS, mean over pixels, heads, steps, seeds; they sum to 1."""
    found = []
    for prompt in prompts:
        columns = kinds_of(pplus.tokenize(prompt.text), prompt, pplus)
        membership = torch.stack([columns == kind for kind in range(len(KINDS))], 1).float()
        parts = []
        for start in range(0, len(seeds), BATCH):
            maps, _ = attention_maps(pplus, prompt.text, seeds[start : start + BATCH], steps=steps, guidance=guidance)
            parts.append(torch.stack([(layer.mean(1) @ membership) for layer in maps], 1))
        found.append(torch.cat(parts).mean(0))
    return torch.stack(found)


def of_words(shares: Tensor) -> Tensor:
    """Shares of the words' attention alone: ``[…, kind]`` → ``[…, WORDS]``, which sum to 1."""
    words = shares[..., :WORDS]
    return words / words.sum(-1, keepdim=True)


def kinds_of(text: TokenizedText, prompt: AskedPrompt, pplus: PPlus) -> Tensor:
    """Which of KINDS each position ``[S]`` is. Raises PromptError where a word is not in the text."""
    kinds = torch.full((len(text.ids),), KINDS.index("other words"))
    kinds[positions(text, prompt.object, pplus).stop] = KINDS.index("after the object")
    kinds[0], kinds[text.used - 1 :] = KINDS.index("start"), KINDS.index("end and padding")
    for kind, phrases in (("object", (prompt.object,)), ("appearance", prompt.appearance)):
        for phrase in phrases:
            kinds[list(positions(text, phrase, pplus))] = KINDS.index(kind)
    return kinds


def positions(text: TokenizedText, phrase: str, pplus: PPlus) -> range:
    """Where a phrase stands in a text. Raises PromptError where it does not."""
    part = pplus.tokenize(phrase)
    wanted = _signs(part)[1 : part.used - 1]
    inside = _signs(text)[: text.used - 1]
    for start in range(1, len(inside) - len(wanted) + 1):
        if inside[start : start + len(wanted)] == wanted:
            return range(start, start + len(wanted))
    raise PromptError(f"{phrase!r} is no part of the text that was asked about")


def _signs(text: TokenizedText) -> list[object]:
    """Ids, and placeholders by name."""
    placed: dict[int, object] = {position: (token, vector) for position, token, vector in text.slots}
    return [placed.get(position, id_) for position, id_ in enumerate(text.ids)]
