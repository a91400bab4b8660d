"""P+: text and concepts → packed text states → each cross-attention layer its own (paper section 3.1).

The states of n layers travel packed on the feature axis, ``[B, S, n·D]``, as ordinary ``prompt_embeds`` through an
unmodified pipeline; a forward hook on each layer takes its own ``[B, S, D]``. Unpacked states pass untouched.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, ModelError, PromptError, PromptPlusError
from promptplus.fingerprints import token_table_hash
from promptplus.hooks import pack, per_layer
from promptplus.prompts import PPlusPrompt
from promptplus.text_encoding import (
    EncodingPlan,
    Placeholder,
    PlaceholderTokenizer,
    TokenizedText,
    check_token,
    encode_texts,
)

Prompt = str | Mapping[str, str] | PPlusPrompt


class PPlus:
    """Per-layer text conditioning for a stock diffusers pipeline, installed from outside and reversible.

    Args:
        pipe: a pipeline with one CLIP text encoder and a ``UNet2DConditionModel`` (Stable Diffusion 1.x, 2.x, pocket).

    Attributes:
        pipe: the pipeline, which stays stock.
        layers: the LayerMap of its cross-attention layers.
    """

    def __init__(self, pipe: Any) -> None:
        for part in ("unet", "text_encoder", "tokenizer"):
            if getattr(pipe, part, None) is None:
                raise ModelError(f"{type(pipe).__name__} has no {part}; P+ needs a U-Net and its text encoder")
        if getattr(pipe, "text_encoder_2", None) is not None:
            raise ModelError(f"{type(pipe).__name__} has two text encoders; P+ works with one so far")
        positions = getattr(pipe.text_encoder.config, "max_position_embeddings", None)
        if positions is None:
            raise ModelError(f"{type(pipe.text_encoder).__name__} is not a CLIP text encoder; P+ knows no other so far")
        self.pipe = pipe
        self._tokenize = PlaceholderTokenizer(pipe.tokenizer, min(pipe.tokenizer.model_max_length, positions))
        self._concepts: dict[str, Concept] = {}
        self._hooks = per_layer(pipe.unet)
        self.layers = self._hooks.layers

    def __repr__(self) -> str:
        tokens = ", ".join(self._concepts) or "no concepts"
        return f"PPlus({type(self.pipe).__name__}, {len(self.layers)} layers, {tokens})"

    def remove(self) -> None:
        """Take the hooks out; the pipeline is as it was before, bit for bit."""
        self._hooks.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def concepts(self) -> Mapping[str, Concept]:
        """The added concepts by token."""
        return MappingProxyType(self._concepts)

    @property
    def width(self) -> int:
        """D, the width of a token embedding."""
        return self.pipe.text_encoder.get_input_embeddings().weight.shape[1]

    @property
    def positions(self) -> int:
        """S, the text encoder's context length."""
        return self._tokenize.length

    def add(self, concept: Concept) -> None:
        """Let ``concept.token`` stand for the concept's rows in any prompt.

        Raises ConceptError where the layers or width are another model's, or the token is taken; warns where the
        token table differs from the one the concept was learned on.
        """
        check_token(concept.token, self.pipe.tokenizer)
        if concept.token in self._concepts:
            raise ConceptError(f"a concept {concept.token} was added already; forget({concept.token!r}) first")
        if concept.width != self.width or concept.layers.names != self.layers.names:
            raise ConceptError(
                f"{concept.token} has {len(concept.layers)} layers of width {concept.width}, this model "
                f"{len(self.layers)} of width {self.width}: use the model it was learned on ({concept.base_model})"
            )
        if concept.token_table not in ("", token_table_hash(self.pipe.text_encoder, self.pipe.tokenizer)):
            warnings.warn(
                f"{concept.token} was learned on another text encoder ({concept.base_model}); it may mean nothing here",
                stacklevel=2,
            )
        self._concepts[concept.token] = concept

    def forget(self, token: str) -> None:
        """Undo ``add``."""
        if self._concepts.pop(token, None) is None:
            raise ConceptError(f"no concept {token!r} was added; added: {', '.join(self._concepts) or 'none'}")

    def encode(
        self,
        prompt: Prompt | Sequence[Prompt],
        negative: Prompt | Sequence[Prompt] = "",
        clip_skip: int | None = None,
    ) -> dict[str, Tensor]:
        """Packed text states for ``pipe(**pplus.encode(…))``.

        Args:
            prompt: a text in the prompt grammar, a dict, a PPlusPrompt, or a list of B of these.
            negative: the same; one for all or one for each.
            clip_skip: as in diffusers (and as there only for the prompt): 1 takes the layer before the last.

        Returns:
            ``prompt_embeds`` and ``negative_prompt_embeds``, both ``[B, S, n·D]`` in the text encoder's dtype and
            on the pipeline's device. Warns, naming the layers, where a text was cut to the encoder's context length.
        """
        prompts, negatives = _as_list(prompt), _as_list(negative)
        if len(negatives) == 1:
            negatives *= len(prompts)
        if len(negatives) != len(prompts):
            raise PromptError(f"{len(prompts)} prompts but {len(negatives)} negatives; give one, or one for each")
        with torch.no_grad():
            return {
                "prompt_embeds": self._encode(prompts, clip_skip),
                "negative_prompt_embeds": self._encode(negatives, None),
            }

    def _encode(self, prompts: list[PPlusPrompt], clip_skip: int | None) -> Tensor:
        states = self.states([prompt.texts(self.layers) for prompt in prompts], clip_skip=clip_skip)
        return pack(states).to(self.pipe.text_encoder.dtype)

    def states(
        self,
        texts: Sequence[Sequence[str]],
        placeholders: Mapping[str, Placeholder] | None = None,
        clip_skip: int | None = None,
    ) -> Tensor:
        """Text states ``[B, n, S, D]`` of ``texts[batch][layer]``; gradients flow to the placeholders' rows.

        ``placeholders`` are tokens besides the added concepts, as a training's own rows.
        """
        if not self._hooks.installed:
            raise PromptPlusError("this PPlus was removed from its pipeline; make a new one")
        known = {token: c.placeholder for token, c in self._concepts.items()} | dict(placeholders or {})
        vectors = {token: p.vectors for token, p in known.items()}
        unique = dict.fromkeys(text for per_layer in texts for text in per_layer)
        ready = {text: self._tokenize(self._stock_form(text), vectors) for text in unique}
        tokenized = [[ready[text] for text in per_layer] for per_layer in texts]
        for layer_texts in tokenized:
            self._warn_of_cuts(layer_texts)
        plan = EncodingPlan.of(tokenized, {token: p.groups for token, p in known.items()})
        device = _execution_device(self.pipe)
        return encode_texts(self.pipe.text_encoder, plan, known, clip_skip=clip_skip, device=device)

    def tokenize(self, text: str) -> TokenizedText:
        """One text's tokens, added concepts' placeholders among them."""
        vectors = {token: concept.placeholder.vectors for token, concept in self._concepts.items()}
        return self._tokenize(self._stock_form(text), vectors)

    def _stock_form(self, text: str) -> str:
        """Spell out multi-vector textual inversions that were loaded into the stock pipeline."""
        convert = getattr(self.pipe, "maybe_convert_prompt", None)
        return convert(text, self.pipe.tokenizer) if convert else text

    def _warn_of_cuts(self, per_layer: Sequence[TokenizedText]) -> None:
        cuts: dict[str, list[int]] = {}
        for index, text in enumerate(per_layer):
            if text.cut:
                cuts.setdefault(text.cut, []).append(index)
        for cut, indices in cuts.items():
            where = self.layers.describe(tuple(indices))
            warnings.warn(
                f"the text of {where} was cut to {self._tokenize.length} tokens; left out: {cut!r}", stacklevel=5
            )


def _execution_device(pipe: Any) -> torch.device | None:
    """Where an offloaded text encoder runs; None where it runs where its weights are.

    Only the offloaded ask the pipeline, whose answer walks through every module of every part: 4 ms a call.
    """
    hooks = ("_hf_hook", "_diffusers_hook")  # accelerate's and diffusers' own
    offloaded = any(hasattr(module, hook) for module in pipe.text_encoder.modules() for hook in hooks)
    return getattr(pipe, "_execution_device", None) if offloaded else None


def _as_list(value: Prompt | Sequence[Prompt]) -> list[PPlusPrompt]:
    if isinstance(value, str | Mapping | PPlusPrompt):
        return [PPlusPrompt.of(value)]
    if not isinstance(value, Sequence) or not value:
        raise PromptError(f"a prompt is a text, a dict, a PPlusPrompt or a list of these, not {value!r}")
    return [PPlusPrompt.of(item) for item in value]


@contextmanager
def added_concepts(pplus: PPlus, concepts: Sequence[Concept]) -> Iterator[None]:
    """While inside, these concepts' tokens have a meaning."""
    added: list[str] = []
    try:
        for concept in concepts:
            pplus.add(concept)
            added.append(concept.token)
        yield
    finally:
        for token in added:
            pplus.forget(token)
