"""P+: texts and concepts → packed text states, so that each cross-attention layer gets its own text (section 3.1).

The text states of n layers are passed as ordinary ``prompt_embeds`` ``[batch, tokens, layers * width]`` through an
unmodified pipeline. A forward hook on each layer takes that layer's ``[batch, tokens, width]`` (see ``hooks.py``).

Any number of threads may encode, with the same or several ``PPlus`` on one pipeline, beside stock calls and trainings.
"""

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Self, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, ModelError, PromptError, PromptPlusError, check_type, one_of, short, warn
from promptplus.fingerprints import token_table_hash
from promptplus.hooks import PerLayerHooks, check_denoiser, controlnets, pack
from promptplus.layers import LayerMap
from promptplus.placeholders import Placeholder, PlaceholderTokenizer, TokenizedText, check_token, private_copy
from promptplus.prompts import PPlusPrompt, foreign_syntax
from promptplus.stock_calls import StockCallWatcher
from promptplus.text_encoding import EncodingPlan, encode_texts, execution_device, watch

Prompt = str | Mapping[str, str] | PPlusPrompt


class PromptEmbeds(TypedDict):
    """Keyword arguments of a diffusers pipeline, as ``PPlus.encode`` returns them: ``pipe(**pplus.encode(…))``."""

    prompt_embeds: Float[Tensor, "batch tokens packed"]
    negative_prompt_embeds: Float[Tensor, "batch tokens packed"]


class PPlus:
    """Per-layer text conditioning for a stock diffusers pipeline. It can be removed again.

    Args:
        pipe: a pipeline with one CLIP text encoder and a ``UNet2DConditionModel`` (Stable Diffusion 1.x and 2.x, and
            the pocket model), with ControlNets or without. Hooks are added to its U-Net, its ControlNets and its token
            embedding; nothing else is changed. They leave with ``remove()``, or when neither the ``PPlus`` nor what it
            encoded is in use. ControlNets of a pipeline made later, by ``from_pipe``, need a PPlus of their own.

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
        for part in ("unet", "text_encoder", "tokenizer"):
            if getattr(pipe, part, None) is None:
                raise ModelError(f"{type(pipe).__name__} has no {part}; P+ needs a U-Net and its text encoder")
        if getattr(pipe, "text_encoder_2", None) is not None:
            raise ModelError(f"{type(pipe).__name__} has two text encoders; P+ works with one so far")
        positions = getattr(pipe.text_encoder.config, "max_position_embeddings", None)
        if positions is None:
            raise ModelError(f"{type(pipe.text_encoder).__name__} is not a CLIP text encoder; P+ knows no other so far")
        self.pipe = pipe
        self._concepts: dict[str, Concept] = {}  # replaced, never changed: other threads may read it
        check_denoiser(pipe.unet)
        self.layers = LayerMap.of(pipe.unet)
        self._stock_calls = StockCallWatcher(self.width * len(self.layers))
        self._denoiser = weakref.ref(pipe.unet)
        self._hooks = PerLayerHooks(self.layers, leave=True)
        for model in (pipe.unet, *controlnets(pipe)):
            self._hooks.install(model)
        watch(self._hooks, pipe.text_encoder, self._stock_calls)

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
    def tokenizer(self) -> Any:
        """A copy of the pipeline's tokenizer that calls in other threads do not disturb."""
        return private_copy(self.pipe.tokenizer)

    @property
    def width(self) -> int:
        """The width of a token embedding (D)."""
        return self.pipe.text_encoder.get_input_embeddings().weight.shape[1]

    @property
    def positions(self) -> int:
        """The text encoder's context length in tokens (S)."""
        return min(self.pipe.tokenizer.model_max_length, self.pipe.text_encoder.config.max_position_embeddings)

    @property
    def _tokenize(self) -> PlaceholderTokenizer:
        return PlaceholderTokenizer(self.pipe.tokenizer, self.positions)  # both may have been exchanged

    def add(self, concept: Concept) -> None:
        """Make ``concept.token`` usable in prompts: it stands for the concept's rows.

        Warns where the concept was learned on a text encoder with other token embeddings. Another name for its token:
        ``dataclasses.replace(concept, token="<other>")``.

        Raises:
            ConceptError: the concept's layers or width are those of another model, or the token is in use.
        """
        check_type(concept, Concept, "what is added", ConceptError)
        check_token(concept.token, self.pipe.tokenizer)
        if concept.token in self._concepts:
            raise ConceptError(f"a concept {concept.token} was added already; forget({concept.token!r}) first")
        if concept.width != self.width or concept.layers.names != self.layers.names:
            raise ConceptError(
                f"{concept.token} has {len(concept.layers)} layers of width {concept.width}, this model "
                f"{len(self.layers)} of width {self.width}: use the model it was learned on ({concept.base_model})"
            )
        here = token_table_hash(self.pipe.text_encoder, self.pipe.tokenizer)
        if concept.token_table and here and concept.token_table != here:  # "": not known
            warn(
                f"{concept.token} was learned on another text encoder ({concept.base_model}); it may mean nothing here"
            )
        self._stock_calls.expect(concept.token, self.tokenizer(concept.token, add_special_tokens=False).input_ids)
        self._concepts = {**self._concepts, concept.token: concept}

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
        negative: Prompt | Sequence[Prompt] | None = "",
        clip_skip: int | None = None,
        lora_scale: float | None = None,
    ) -> PromptEmbeds:
        """Encode prompts for the pipeline: ``pipe(**pplus.encode(…))``.

        Args:
            prompt: a text in the prompt grammar (see ``PPlusPrompt``), a dict, a PPlusPrompt, or a list of these.
            negative: negative prompts in the same forms: one for all prompts, or one for each. None: an empty text.
            clip_skip: as in diffusers, and as there for the prompts only: 1 takes the text encoder's last but one
                layer. Default: the last layer.
            lora_scale: strength of the text encoder's LoRA layers, as ``cross_attention_kwargs={"scale": …}`` sets it
                in the stock pipeline. Default: full strength.

        Returns:
            ``prompt_embeds`` and ``negative_prompt_embeds``, both ``[batch, tokens, layers * width]``, in the text
            encoder's dtype and on its device. Warns where a text is longer than the text encoder's context; the
            warning names the layers and the words that are left out. Warns of syntax of other tools, such as
            ``(red:1.3)``, which is plain text here.

        Raises:
            PromptError: a prompt breaks the grammar, a token belongs to no concept, or the numbers of prompts and
                negative prompts differ.
            LayerError: a prompt names a layer that the model does not have.
        """
        prompts, negatives = _as_list(prompt), _as_list("" if negative is None else negative)
        if len(negatives) == 1:
            negatives *= len(prompts)
        if len(negatives) != len(prompts):
            raise PromptError(f"{len(prompts)} prompts but {len(negatives)} negatives; give one, or one for each")
        for text in dict.fromkeys(text for one in (*prompts, *negatives) for text in one):
            if remark := foreign_syntax(text):
                warn(remark)
        with torch.no_grad():
            embeds: PromptEmbeds = {
                "prompt_embeds": self._encode(prompts, clip_skip, lora_scale),
                "negative_prompt_embeds": self._encode(negatives, None, lora_scale),
            }
        # holds the hooks as long as the result is used
        weakref.finalize(embeds["prompt_embeds"], id, self._hooks).atexit = False
        return embeds

    def _encode(
        self, prompts: list[PPlusPrompt], clip_skip: int | None, lora_scale: float | None
    ) -> Float[Tensor, "batch tokens packed"]:
        texts = [prompt.texts(self.layers) for prompt in prompts]
        states = self.states(texts, clip_skip=clip_skip, lora_scale=lora_scale)
        return pack(states).to(self.pipe.text_encoder.dtype)

    def states(
        self,
        texts: Sequence[Sequence[str]],
        placeholders: Mapping[str, Placeholder] | None = None,
        clip_skip: int | None = None,
        lora_scale: float | None = None,
    ) -> Float[Tensor, "batch layers tokens width"]:
        """Text states of ``texts[batch][layer]``, before packing. Gradients flow to the placeholders' rows.

        Args:
            texts: for each prompt, one text for each layer in forward order.
            placeholders: rows of further tokens beside the added concepts, such as those that are being trained.
            clip_skip, lora_scale: as in ``encode``.

        Returns:
            ``[batch, layers, tokens, width]``.
        """
        self._check_in_place()
        known = {token: c.placeholder for token, c in self._concepts.items()} | dict(placeholders or {})
        vectors = {token: p.vectors for token, p in known.items()}
        unique = dict.fromkeys(text for layer_texts in texts for text in layer_texts)
        tokenize = self._tokenize
        tokenized_by_text = {text: tokenize(self._stock_form(text), vectors) for text in unique}
        tokenized = [[tokenized_by_text[text] for text in layer_texts] for layer_texts in texts]
        for layer_texts in tokenized:
            self._warn_of_cuts(layer_texts)
        plan = EncodingPlan.of(tokenized, {token: p.groups for token, p in known.items()})
        device = execution_device(self.pipe)
        return encode_texts(
            self.pipe.text_encoder, plan, known, clip_skip=clip_skip, lora_scale=lora_scale, device=device
        )

    def _check_in_place(self) -> None:
        """See that the hooks are where the next call needs them."""
        if not self._hooks.installed:
            raise PromptPlusError("this PPlus was removed from its pipeline; make a new one")
        if self.pipe.unet is not self._denoiser():
            raise ModelError("the pipeline has another U-Net since P+ was installed; make a new PPlus(pipe)")
        watch(self._hooks, self.pipe.text_encoder, self._stock_calls)

    def tokenize(self, text: str) -> TokenizedText:
        """The tokens of one text, including the placeholders of added concepts."""
        vectors = {token: concept.placeholder.vectors for token, concept in self._concepts.items()}
        return self._tokenize(self._stock_form(text), vectors)

    def _stock_form(self, text: str) -> str:
        """Spell out the multi-vector textual inversions that were loaded into the stock pipeline."""
        convert = getattr(self.pipe, "maybe_convert_prompt", None)
        return convert(text, self.tokenizer) if convert else text

    def _warn_of_cuts(self, layer_texts: Sequence[TokenizedText]) -> None:
        """Warn about the words that did not fit into the context, with the layers whose text they belong to."""
        cuts: dict[str, list[int]] = {}
        for index, text in enumerate(layer_texts):
            if text.cut:
                cuts.setdefault(text.cut, []).append(index)
        for cut, indices in cuts.items():
            where = self.layers.describe(tuple(indices))
            warn(f"the text of {where} was cut to {self.positions} tokens; left out: {cut!r}")


def _restored(kind: type[PPlus], pipe: Any, concepts: Sequence[Concept], installed: bool) -> PPlus:
    """A copy of a PPlus, on its own or the same pipeline."""
    made = kind(pipe)
    for concept in concepts:
        made.add(concept)
    if not installed:
        made.remove()
    return made


def _as_list(value: Prompt | Sequence[Prompt]) -> list[PPlusPrompt]:
    if isinstance(value, str | Mapping | PPlusPrompt):
        return [PPlusPrompt.of(value)]
    if not isinstance(value, Sequence) or not value:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PromptError(f"a prompt is a text, a dict, a PPlusPrompt or a list of these, not {value!r}")
    return [PPlusPrompt.of(item) for item in value]
