"""P+: texts and concepts → packed text states, so that each cross-attention layer gets its own text (section 3.1).

The text states of n layers are passed as ordinary ``prompt_embeds`` ``[batch, tokens, layers * width]`` through an
unmodified pipeline. A forward hook on each layer takes that layer's ``[batch, tokens, width]`` (see ``hooks.py``).
With windows or masks the tensor is wider (see ``packing.py``).

Any number of threads may encode, with the same or several ``PPlus`` on one pipeline, beside stock calls and trainings.
"""

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.denoisers import denoiser_of
from promptplus.errors import ConceptError, ModelError, PromptError, PromptPlusError, check_type, one_of, short, warn
from promptplus.hooks import PerLayerHooks, check_denoiser, controlnets
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, TokenizedText, check_token, private_copy
from promptplus.prompt_batch import Encoders, PromptBatch
from promptplus.prompt_encoding import LayerTexts, encode_layer_texts, stock_form
from promptplus.prompts import Prompt, as_prompts, foreign_syntax
from promptplus.stock_calls import StockCallWatcher
from promptplus.text_encoders import TextEncoder, text_encoders_of, token_table_of
from promptplus.text_encoding import watch
from promptplus.text_states import PromptEmbeds, TextStates, to_prompt_embeds


class PPlus:
    """Per-layer text conditioning for a stock diffusers pipeline. It can be removed again.

    Args:
        pipe: a pipeline of Stable Diffusion 1, 2 or XL, PixArt or Sana, for any of their tasks, with ControlNets or
            without; also the pocket model. Hooks are added to its denoiser, its ControlNets and its token embeddings;
            nothing else is changed. They leave with ``remove()``, or when neither the ``PPlus`` nor what it encoded is
            in use. ControlNets of a pipeline that ``from_pipe`` makes later need a PPlus of their own.

    Attributes:
        pipe: the pipeline.
        layers: the LayerMap of its cross-attention layers.

    Raises:
        ModelError: P+ does not support the pipeline, or its denoiser is compiled.
        LayerError: the denoiser has no cross-attention layers that P+ supports.

    Example::

        pplus = PPlus(load("pocket"))
        picture = pplus.pipe(**pplus.encode("a red cube || coarse: a green lizard")).images[0]
    """

    def __init__(self, pipe: Any) -> None:
        denoiser, encoders = denoiser_of(pipe), text_encoders_of(pipe)
        self.pipe = pipe
        self._concepts: dict[str, Concept] = {}  # replaced, never changed: other threads may read it
        check_denoiser(denoiser)
        self.layers = LayerMap.of(denoiser)
        self._stock_calls = StockCallWatcher(self.width * len(self.layers))
        self._denoiser = weakref.ref(denoiser)
        self._hooks = PerLayerHooks(self.layers, leave=True)
        for model in (denoiser, *controlnets(pipe)):
            self._hooks.install(model)
        for encoder in encoders:
            watch(self._hooks, encoder, self._stock_calls)

    def __repr__(self) -> str:
        tokens = ", ".join(self._concepts) or "no concepts"
        return f"PPlus({type(self.pipe).__name__}, {len(self.layers)} layers, {tokens})"

    def remove(self) -> None:
        """Take the hooks out. The pipeline is then as it was before, bit for bit."""
        self._hooks.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy (copy.copy, copy.deepcopy, pickle) has its own hooks, and the same concepts."""
        return _restored, (type(self), self.pipe, tuple(self._concepts.values()), self._hooks.installed)

    @property
    def concepts(self) -> Mapping[str, Concept]:
        """The added concepts by token."""
        return MappingProxyType(self._concepts)

    @property
    def encoders(self) -> tuple[TextEncoder, ...]:
        """The text encoders, whose states lie side by side."""
        return text_encoders_of(self.pipe)  # they may have been exchanged

    @property
    def tokenizer(self) -> Any:
        """A copy of the first text encoder's tokenizer that calls in other threads do not disturb."""
        return private_copy(self.pipe.tokenizer)

    @property
    def widths(self) -> dict[str, int]:
        """The width of a token embedding of each text encoder, by name; of the only one under ""."""
        return {encoder.name: encoder.width for encoder in self.encoders}

    @property
    def width(self) -> int:
        """The width of a token embedding (D); with two text encoders, of both together."""
        return sum(self.widths.values())

    @property
    def positions(self) -> int:
        """The length of a text in tokens (S)."""
        return self.encoders[0].length

    def add(self, concept: Concept) -> None:
        """Make ``concept.token`` usable in prompts: it stands for the concept's rows.

        One whose layers are all tied, as a textual inversion, fits the layers of any model with its widths. Warns where
        it was learned with other token embeddings. To rename it: ``dataclasses.replace(concept, token=…)``.

        Raises:
            ConceptError: the concept's layers or width are those of another model, or the token is in use.
        """
        check_type(concept, Concept, "what is added", ConceptError)
        with concept.naming_file():
            self.check_token(concept.token)
        if concept.token in self._concepts:
            raise ConceptError(f"a concept {concept.token} was added already; forget({concept.token!r}) first")
        concept.check_fits(self.layers, self.widths)
        here = token_table_of(self.encoders)
        if concept.token_table and here and concept.token_table != here:  # "": not known
            warn(
                f"{concept.token} was learned on another text encoder ({concept.base_model}); it may mean nothing here"
            )
        self._stock_calls.expect(concept.token, self.tokenizer(concept.token, add_special_tokens=False).input_ids)
        self._concepts = {**self._concepts, concept.token: concept}

    def check_token(self, token: str) -> str:
        """Check a token as ``placeholders.check_token`` does, for every text encoder. Returns it."""
        for encoder in self.encoders:
            check_token(token, encoder.tokenizer)
        return token

    def forget(self, token: str) -> None:
        """Undo ``add``. Raises ConceptError where no concept with this token was added."""
        if not one_of(token, self._concepts):
            raise ConceptError(f"no concept {short(token)} was added; added: {', '.join(self._concepts) or 'none'}")
        self._stock_calls.forget(token)
        self._concepts = {name: concept for name, concept in self._concepts.items() if name != token}

    @contextmanager
    def added(self, concepts: Sequence[Concept]) -> Generator[None]:
        """Add concepts for the length of a ``with`` block, and forget them at its end. Raises as ``add`` does."""
        tokens: list[str] = []
        try:
            for concept in concepts:
                self.add(concept)
                tokens.append(concept.token)
            yield
        finally:
            for token in tokens:
                self.forget(token)

    def encode(
        self,
        prompt: Prompt | Sequence[Prompt],
        negative: Prompt | Sequence[Prompt] | None = None,
        clip_skip: int | None = None,
        lora_scale: float | None = None,
        pooled_layers: str | None = None,
        states: Mapping[str, Tensor] | None = None,
        compel: bool = False,
    ) -> PromptEmbeds:
        """Encode prompts for the pipeline: ``pipe(**pplus.encode(…))``.

        Args:
            prompt: a text in the prompt grammar (see ``PPlusPrompt``), a dict, a PPlusPrompt, or a list of these.
            negative: negative prompts in the same forms: one for all prompts, or one for each. Default: what the stock
                pipeline takes without one, which is an empty text, or zeros for Stable Diffusion XL.
            clip_skip: as in diffusers, and as there for the prompts only: 1 takes the text encoder's last but one
                layer. Default: the last layer.
            lora_scale: strength of the text encoder's LoRA layers, as ``cross_attention_kwargs={"scale": …}`` sets it
                in the stock pipeline. Default: full strength.
            pooled_layers: the layers whose common text also gives the pooled embedding of Stable Diffusion XL. In it, a
                concept's token stands for the mean of its rows on these layers. Default: the default text, all layers.
            states: text states of your own, by layers: ``{"fine": tensor}``, each ``[tokens, width]``, or ``[prompts,
                tokens, width]``. They replace what the prompts say there, at all times and everywhere.
            compel: whether texts may be long, and their words have weights, as ``(red:1.3)``: the library compel
                encodes them (extra ``promptplus[compel]``; for CLIP text encoders).

        Returns:
            ``prompt_embeds`` and ``negative_prompt_embeds``, both ``[batch, tokens, layers * width]`` (wider where
            parts have windows or masks: see ``packing``), in the text encoder's dtype and on its device; for Stable
            Diffusion XL also pooled embeddings, for PixArt and Sana also attention masks, under the stock pipeline's
            names. Warns of words that do not fit, with their layers, and of syntax of other tools, such as
            ``(red:1.3)``, which is plain text without ``compel``.

        Raises:
            PromptError: a prompt breaks the grammar, a token belongs to no concept, the numbers of prompts and
                negative prompts differ, ``pooled_layers`` have different texts, a mask cannot be read or is for a
                diffusion transformer, or given states have another shape.
            LayerError: a prompt names a layer that the model does not have.
            ModelError: compel is not installed, or the text encoder is no CLIP.
        """
        prompts, negatives = as_prompts(prompt), None if negative is None else as_prompts(negative)
        for text in dict.fromkeys(text for one in (*prompts, *(negatives or ())) for text in one):
            if not compel and (remark := foreign_syntax(text)):
                warn(remark)
        batch = PromptBatch.of(prompts, negatives, self.layers)
        check_type(states or {}, Mapping, "what is given for states", PromptError)
        own = {self.layers.select(spec): given for spec, given in (states or {}).items()}
        pooled = self._pooled_layers(pooled_layers)
        encode = partial(self.text_states, pooled_layers=pooled, clip_skip=clip_skip, lora_scale=lora_scale)
        encode_negative = partial(self.text_states, negative=True, lora_scale=lora_scale)
        with torch.no_grad():
            encoders = Encoders(encode, encode_negative, self.without_negative, self.encoders[-1].model.dtype)
            texts = batch.encode(encoders, pooled, own, self.positions if compel else None)
        timesteps: int = self.pipe.scheduler.config.num_train_timesteps
        embeds = to_prompt_embeds(*(text.packed(batch.frame, timesteps) for text in texts))
        # holds the hooks as long as the result is used
        weakref.finalize(embeds["prompt_embeds"], id, self._hooks).atexit = False
        return embeds

    def _pooled_layers(self, spec: str | None) -> tuple[int, ...]:
        if spec is not None and not any(encoder.pools for encoder in self.encoders):
            raise PromptError("pooled_layers are for Stable Diffusion XL; this model takes no pooled embedding")
        return () if spec is None else self.layers.select(spec)

    def without_negative(self, prompts: TextStates, chunks: int = 0) -> TextStates:
        """What the stock pipeline takes beside prompts without a negative prompt: empty texts, or zeros.

        ``chunks``: as in ``text_states``.
        """
        if self.pipe.config.get("force_zeros_for_empty_prompt"):
            return prompts.zeros()
        empty = self.text_states([[""] * len(self.layers)], negative=True, chunks=chunks)
        return empty.expand(len(prompts)).to(prompts.states.dtype)

    def text_states(
        self,
        texts: Sequence[Sequence[str]],
        placeholders: Mapping[str, Placeholder] | None = None,
        *,
        whole_texts: Sequence[str] | None = None,
        pooled_layers: Sequence[int] = (),
        clip_skip: int | None = None,
        lora_scale: float | None = None,
        negative: bool = False,
        cut_padding: bool = False,
        chunks: int = 0,
    ) -> TextStates:
        """Text states of ``texts[batch][layer]``, before packing. Gradients flow to the placeholders' rows.

        Args:
            texts: for each prompt, one text for each layer in forward order.
            placeholders: rows of further tokens beside the added concepts, such as those that are being trained.
            whole_texts: for each prompt, the text of its pooled embedding. Default: the first layer's.
            pooled_layers: the layers whose rows' mean stands for a token in it. Default: all.
            clip_skip, lora_scale: as in ``encode``.
            negative: whether the texts are negative prompts.
            cut_padding: as in ``text_encoding.encode_texts``.
            chunks: as in ``prompt_encoding.LayerTexts``.
        """
        self._check_in_place()
        known = {token: c.on(self.layers).placeholder for token, c in self._concepts.items()} | dict(placeholders or {})
        whole = whole_texts or [layer_texts[0] for layer_texts in texts]
        pooled = pooled_layers or range(len(self.layers))
        given = LayerTexts(self.layers, texts, whole, pooled, negative, cut_padding, chunks)
        return encode_layer_texts(self.pipe, given, known, clip_skip=clip_skip, lora_scale=lora_scale)

    def _check_in_place(self) -> None:
        """See that the hooks are where the next call needs them."""
        if not self._hooks.installed:
            raise PromptPlusError("this PPlus was removed from its pipeline; make a new one")
        if denoiser_of(self.pipe) is not self._denoiser():
            raise ModelError("the pipeline has another denoiser since P+ was installed; make a new PPlus(pipe)")
        for encoder in self.encoders:
            watch(self._hooks, encoder, self._stock_calls)

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of one text for the first text encoder, including the placeholders of added concepts."""
        vectors = {token: concept.placeholder.vectors for token, concept in self._concepts.items()}
        encoder = self.encoders[0]
        return encoder.tokenize(stock_form(self.pipe, text, encoder), vectors)


def _restored(kind: type[PPlus], pipe: Any, concepts: Sequence[Concept], installed: bool) -> PPlus:
    """A copy of a PPlus, on its own or the same pipeline."""
    made = kind(pipe)
    for concept in concepts:
        made.add(concept)
    if not installed:
        made.remove()
    return made
