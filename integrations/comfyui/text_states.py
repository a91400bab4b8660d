"""Prompts by layer → ComfyUI's conditioning, with the text encoder that ComfyUI loaded.

The text states of all layers travel in one conditioning, side by side: ``[1, tokens, layers * width]``. So everything
that ComfyUI does with a conditioning works: positive and negative, batches, areas, masks, time ranges.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, PromptError
from promptplus.placeholders import split_at_placeholders
from promptplus.prompt_stages import LayerText, stages_of
from promptplus.prompts import PPlusPrompt

from .model_layers import ModelLayers

Conditioning = list[list[Any]]
"""ComfyUI's: pairs of text states ``[1, tokens, width]`` and a dictionary; several where hooks change the encoder."""
Rows = Mapping[str, Float[Tensor, "vectors width"]]
"""The rows of each placeholder token on one layer: ``[vectors, width]``."""

CARRIERS = ("planet", "kitchen", "winter", "bridge", "hotel", "seven", "yellow", "house", "car", "dog", "blue", "cube")
"""Words that are one token in CLIP's vocabulary. One that the text does not contain marks the positions of the rows."""
_LORA = re.compile(r"(?<!\\)<(?:lora|lyco|hypernet):[^<>]*>")


def encode_prompt(clip: Any, model: ModelLayers, prompt: PPlusPrompt, concepts: Sequence[Concept]) -> Conditioning:
    """Encode a prompt for a model with the patch.

    Each different text is encoded once, by ComfyUI's own call: the same text in all layers is the stock conditioning in
    each of them, bit for bit. Parts with windows give one conditioning for each time range. The pooled embedding is the
    default text's, with the mean of a concept's rows; so are the text states for a ControlNet, which has no patch.

    Args:
        clip: ComfyUI's text encoder.
        model: the layers of the model.
        prompt: the prompt.
        concepts: the concepts whose tokens the prompt may contain.

    Raises:
        PromptError: a token belongs to no concept, or cannot be placed; or a part has a mask.
        LayerError: the prompt names layers that the model does not have.
        ConceptError: a concept belongs to another model, or two have one token.
    """
    known = _by_token(concepts)
    for concept in concepts:
        _check_fits(concept, model)
    encoder = _Encoder(clip, {token: concept.rows.shape[1] for token, concept in known.items()}, known)
    whole = encoder(prompt.default, {token: concept.rows.mean(dim=0) for token, concept in known.items()})
    stages = stages_of(prompt, model.layers)
    if any(stage.regions for stage in stages):
        raise PromptError("ComfyUI has masks of its own; leave the #mask out, and use the node Conditioning (Set Mask)")
    ends = [*(stage.start for stage in stages[1:]), 1.0]
    made: Conditioning = []
    for stage, end in zip(stages, ends, strict=True):
        by_layer = [_of_layer(encoder, layer, text, prompt.default, known) for layer, text in enumerate(stage.texts)]
        when = {} if len(stages) == 1 else {"start_percent": stage.start, "end_percent": end}
        made += [
            [pack([one[entry] for one in by_layer]), {**extra, "cross_attn_controlnet": states, **when}]
            for entry, (states, extra) in enumerate(whole)
        ]
    return made


def _of_layer(
    encoder: "_Encoder", layer: int, text: LayerText, default: str, known: Mapping[str, Concept]
) -> list[Float[Tensor, "1 tokens width"]]:
    """The text states of one layer, for each entry of the conditioning: ``default + strength * (part - default)``."""
    rows = {token: concept.rows[layer] for token, concept in known.items()}
    part = [states for states, _ in encoder(text.text, rows)]
    if text.strength == 1:
        return part
    pairs = [_equally_long(below, above) for (below, _), above in zip(encoder(default, rows), part, strict=True)]
    return [below + text.strength * (above - below) for below, above in pairs]


def _equally_long(*states: Float[Tensor, "1 _ width"]) -> list[Float[Tensor, "1 tokens width"]]:
    """Text states, repeated to a common number of tokens, as ComfyUI does it in a batch.

    To see each token twice changes nothing in attention.
    """
    tokens = math.lcm(*(one.shape[1] for one in states))
    return [one.repeat(1, tokens // one.shape[1], 1) for one in states]


def encode_default(clip: Any, prompt: PPlusPrompt, concepts: Sequence[Concept]) -> Conditioning:
    """Encode a prompt's default text as ComfyUI does, for a model whose layers are not known.

    Raises PromptError where it contains a concept's token.
    """
    known = _by_token(concepts)
    for text, token in split_at_placeholders(prompt.default, known, ()):
        if token:
            raise PromptError(f"P+ does not know this model's layers, so {token} after {text!r} cannot be used with it")
    return _Encoder(clip, {}, {})(prompt.default, {})


def pack(states: Sequence[Float[Tensor, "1 _ width"]]) -> Float[Tensor, "1 tokens packed"]:
    """The text states of all layers side by side.

    Args:
        states: for each layer ``[1, tokens, width]``.

    Returns:
        ``[1, tokens, layers * width]``.
    """
    return torch.cat(_equally_long(*states), dim=-1)


@dataclass(frozen=True)
class _Encoder:
    """Encodes texts with placeholder tokens, each different one once.

    Attributes:
        clip: ComfyUI's text encoder.
        vectors: how many rows a token stands for.
        concepts: the concepts by token.
    """

    clip: Any
    vectors: Mapping[str, int]
    concepts: Mapping[str, Concept]
    _done: dict[tuple[str, tuple[bytes, ...]], Conditioning] = field(default_factory=dict, repr=False)

    def __call__(self, text: str, rows: Rows) -> Conditioning:
        if lora := _LORA.search(text):
            raise PromptError(f"{lora[0]} in {text!r} loads nothing here; use ComfyUI's node Load LoRA")
        pieces = [*split_at_placeholders(text, self.vectors, ())]
        tokens = [token for _, token in pieces if token]
        key = (text, tuple(rows[token].numpy().tobytes() for token in dict.fromkeys(tokens)))
        if key not in self._done:
            placed = self._tokenize(pieces, [(token, rows[token]) for token in tokens])
            self._done[key] = self.clip.encode_from_tokens_scheduled(placed)
        return self._done[key]

    def _tokenize(self, pieces: Sequence[tuple[str, str]], rows: Sequence[tuple[str, Tensor]]) -> dict[str, Any]:
        """ComfyUI's tokens of a text, with rows in place of its placeholder tokens.

        An ordinary word stands at their positions while ComfyUI splits the text, so that weights and long texts work.
        """
        if not rows:
            return self.clip.tokenize("".join(text for text, _ in pieces))
        parts = [self._by_encoder(token, own) for token, own in rows]
        for word in CARRIERS:
            marks = [f" {' '.join([word] * self.vectors[token])} " if token else "" for _, token in pieces]
            tokens = self.clip.tokenize("".join(text + mark for (text, _), mark in zip(pieces, marks, strict=True)))
            alone, empty = self.clip.tokenize(word), self.clip.tokenize("")
            carriers = {name: {*_ids(alone[name])} - {*_ids(empty[name])} for name in tokens}
            flat = {name: [row for part in parts for row in _part(part, name)] for name in tokens}
            if all(_fits(tokens[name], carriers[name], len(flat[name])) for name in tokens):
                return {name: _placed(tokens[name], carriers[name], flat[name]) for name in tokens}
        words = ", ".join(CARRIERS)
        raise PromptError(
            f"{rows[0][0]} cannot be placed: P+ needs one of these words that the text does not use: {words}"
        )

    def _by_encoder(self, token: str, rows: Tensor) -> dict[str, Tensor]:
        return self.concepts[token].by_encoder(rows)


def _part(rows: Mapping[str, Tensor], name: str) -> Tensor:
    """The rows of one text encoder: ``clip_l`` is what ComfyUI's tokens call ``l``; ``""`` the only one of a model."""
    return rows[""] if "" in rows else rows[f"clip_{name}"]


def _ids(sections: Sequence[Sequence[Any]]) -> list[Any]:
    """The token ids of a text that ComfyUI tokenized; it splits long texts into sections."""
    return [entry[0] for section in sections for entry in section]


def _fits(sections: Sequence[Sequence[Any]], carrier: set[Any], count: int) -> bool:
    """Whether the carrier is one token, and at exactly the places of the rows."""
    ordinary = [token for token in _ids(sections) if isinstance(token, Integral)]
    return len(carrier) == 1 and sum(token in carrier for token in ordinary) == count


def _placed(sections: Sequence[Sequence[Any]], carrier: set[Any], rows: Sequence[Tensor]) -> list[list[Any]]:
    """The same tokens, with the rows in the places of the carrier. Weights stay."""
    left = iter(rows)

    def place(token: Any, *rest: Any) -> tuple[Any, ...]:
        return (next(left) if isinstance(token, Integral) and token in carrier else token, *rest)

    return [[place(*entry) for entry in section] for section in sections]


def _by_token(concepts: Sequence[Concept]) -> dict[str, Concept]:
    known = {concept.token: concept for concept in concepts}
    if len(known) < len(concepts):
        tokens = ", ".join(concept.token for concept in concepts)
        raise ConceptError(f"two concepts have the same token ({tokens}); give one another in P+ Load Concept")
    return known


def _check_fits(concept: Concept, model: ModelLayers) -> None:
    """Raise ConceptError for a concept of another model."""
    if concept.layers.names != model.layers.names or concept.width != model.width:
        raise ConceptError(
            f"{concept.token} has {len(concept.layers)} layers of width {concept.width}, this model "
            f"{len(model.layers)} of width {model.width}: use a model like the one it was learned on "
            f"({concept.base_model or 'not known'})"
        )
