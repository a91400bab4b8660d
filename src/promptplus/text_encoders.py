"""The text encoders of a pipeline: how the stock pipeline writes, pads and reads a text with each of them.

Stable Diffusion has one CLIP text encoder. Stable Diffusion XL has two, whose states lie side by side, and the second
one also gives a pooled embedding. PixArt has T5 and Sana has Gemma, both with an attention mask.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from promptplus.errors import ModelError, PromptError
from promptplus.fingerprints import token_table_hash
from promptplus.placeholders import PlaceholderTokenizer, TokenizedText, private_copy

NAMES_OF_TWO = ("clip_l", "clip_g")
"""What kohya's files call the two text encoders of Stable Diffusion XL."""


class EncoderCall(NamedTuple):
    """One call of a text encoder.

    Attributes:
        ids: token ids.
        mask: 1 where a token is not padding.
        clip_skip: as in diffusers: 1 takes the last but one layer.
        length: of the texts before padding that all share was cut off; see ``TextEncoder.cuts_padding``.
        seen: 0 where a CLIP text encoder shall not see a token; None: it sees as the stock pipeline lets it.
    """

    ids: Int[Tensor, "texts tokens"]
    mask: Int[Tensor, "texts tokens"]
    clip_skip: int | None
    length: int
    seen: Int[Tensor, "texts tokens"] | None = None


class EncodedTexts(NamedTuple):
    """What a text encoder gives for some texts.

    Attributes:
        states: the text states.
        mask: 1 where a token counts, 0 where it is padding; None where the denoiser takes no mask.
        pooled: one embedding of each whole text; None where the denoiser takes none.
    """

    states: Float[Tensor, "texts tokens width"]
    mask: Int[Tensor, "texts tokens"] | None = None
    pooled: Float[Tensor, "texts pooled"] | None = None


@dataclass(frozen=True)
class TextEncoder(ABC):
    """One text encoder of a pipeline.

    Attributes:
        name: ``clip_l`` or ``clip_g`` where a pipeline has two; else "".
        model: the text encoder.
        tokenizer: its tokenizer.
        length: the tokens of a text, with padding.
    """

    name: str
    model: Any
    tokenizer: Any
    length: int

    @property
    def width(self) -> int:
        """The width of a token embedding (D)."""
        return self.table.shape[1]

    @property
    def table(self) -> Float[Tensor, "vocabulary width"]:
        """The token embeddings."""
        return self.embedding.weight

    @property
    def embedding(self) -> Any:
        """The module that looks token embeddings up; T5's encoder has one of its own, with the same weights."""
        own = getattr(getattr(self.model, "encoder", None), "embed_tokens", None)
        return own if isinstance(own, nn.Module) else self.model.get_input_embeddings()

    @property
    def pools(self) -> bool:
        """Whether it also gives a pooled embedding."""
        return False

    @property
    def cuts_padding(self) -> bool:
        """Whether padding may be cut off, because the mask hides it from encoder and denoiser."""
        return False

    def tokenize(self, text: str, vectors: Mapping[str, int], *, negative: bool = False) -> TokenizedText:
        """Tokenize one text. Arguments and errors are those of ``PlaceholderTokenizer``.

        ``negative``: whether it is a negative prompt.
        """
        return PlaceholderTokenizer(self.tokenizer, self.length)(text, vectors)

    @abstractmethod
    def encode(self, call: EncoderCall) -> EncodedTexts:
        """Call the model as the stock pipeline does.

        Raises PromptError where ``clip_skip`` is no whole number, or outside its range.
        """


class ClipEncoder(TextEncoder):
    """CLIP, as Stable Diffusion 1 and 2 use it."""

    def encode(self, call: EncoderCall) -> EncodedTexts:
        stock = call.mask if getattr(self.model.config, "use_attention_mask", False) else None
        given = stock if call.seen is None else call.seen
        if (clip_skip := call.clip_skip) is None:
            return EncodedTexts(self.model(call.ids, attention_mask=given)[0])
        hidden = self.model(call.ids, attention_mask=given, output_hidden_states=True).hidden_states
        check_clip_skip(clip_skip, len(hidden) - 1)
        # transformers 5.6 removed the text_model level; diffusers' own clip_skip still uses it
        norm = getattr(self.model, "text_model", self.model).final_layer_norm
        return EncodedTexts(norm(hidden[-(clip_skip + 1)]))


class PenultimateEncoder(TextEncoder):
    """One of the two CLIP text encoders of Stable Diffusion XL: the states before its last layer, and no final norm."""

    @property
    def pools(self) -> bool:
        return hasattr(self.model, "text_projection")

    def encode(self, call: EncoderCall) -> EncodedTexts:
        output = self.model(call.ids, attention_mask=call.seen, output_hidden_states=True)
        if call.clip_skip is not None:
            check_clip_skip(call.clip_skip, len(output.hidden_states) - 2)
        states = output.hidden_states[-(call.clip_skip or 0) - 2]
        return EncodedTexts(states, pooled=output[0] if self.pools else None)


@dataclass(frozen=True)
class MaskedEncoder(TextEncoder):
    """T5, as PixArt uses it: texts in lower case, and a mask that the denoiser takes too.

    Attributes:
        clean: the stock pipeline's cleaning of captions, where it cleans by default and its libraries (ftfy,
            beautifulsoup4) are there. It would take placeholders for HTML, so texts that hold one are not cleaned.
    """

    clean: Callable[[str], str] | None = None

    @property
    def cuts_padding(self) -> bool:
        return True

    def tokenize(self, text: str, vectors: Mapping[str, int], *, negative: bool = False) -> TokenizedText:
        return PlaceholderTokenizer(self.tokenizer, self.length)(self.prepared(text, vectors), vectors)

    def prepared(self, text: str, vectors: Mapping[str, int]) -> str:
        """The text as the stock pipeline gives it to the tokenizer."""
        if self.clean is None or any(token in text for token in vectors):
            return text.lower().strip()
        return self.clean(self.clean(text))  # twice, as the stock pipeline does

    def encode(self, call: EncoderCall) -> EncodedTexts:
        if call.clip_skip is not None:
            raise PromptError(f"clip_skip is for CLIP text encoders, not for {type(self.model).__name__}")
        return EncodedTexts(self.model(call.ids, attention_mask=call.mask)[0], call.mask)


@dataclass(frozen=True)
class InstructedEncoder(MaskedEncoder):
    """Gemma, as Sana uses it: an instruction stands before each prompt, and most of its states are left out after.

    Attributes:
        instruction: the stock pipeline's default ``complex_human_instruction``. Negative prompts have none.
    """

    instruction: str = ""

    def tokenize(self, text: str, vectors: Mapping[str, int], *, negative: bool = False) -> TokenizedText:
        text = self.prepared(text, vectors)
        if negative or not self.instruction:
            return PlaceholderTokenizer(self.tokenizer, self.length)(text, vectors)
        before = len(private_copy(self.tokenizer)(self.instruction).input_ids)
        length = before + self.length - 2  # as the stock pipeline counts
        return PlaceholderTokenizer(self.tokenizer, length)(self.instruction + text, vectors)

    def encode(self, call: EncoderCall) -> EncodedTexts:
        states, first = super().encode(call).states, call.length - self.length + 1
        # as in the stock pipeline: the first token, and the last ones; slices, since an index would wait for the device
        states, mask = (torch.cat([whole[:, :1], whole[:, first:]], dim=1) for whole in (states, call.mask))
        return EncodedTexts(states, mask)


def check_clip_skip(clip_skip: Any, most: int) -> None:
    """Raise PromptError where ``clip_skip`` is no whole number from 0 to ``most``."""
    if type(clip_skip) is not int or not 0 <= clip_skip <= most:
        raise PromptError(f"clip_skip is 0 to {most} for this text encoder, a whole number, not {clip_skip!r}")


def text_encoders_of(pipe: Any) -> tuple[TextEncoder, ...]:
    """The text encoders of a pipeline, in the order in which their states lie side by side.

    Raises ModelError where the pipeline has none that P+ knows.
    """
    for part in ("text_encoder", "tokenizer"):
        if getattr(pipe, part, None) is None:
            raise ModelError(f"{type(pipe).__name__} has no {part}; P+ needs a denoiser and its text encoder")
    stock = _parameters_of_call(type(pipe))
    if getattr(pipe, "text_encoder_2", None) is not None:
        both = (pipe.text_encoder, pipe.tokenizer), (pipe.text_encoder_2, pipe.tokenizer_2)
        return tuple(
            PenultimateEncoder(name, model, tokenizer, _context(model, tokenizer))
            for name, (model, tokenizer) in zip(NAMES_OF_TWO, both, strict=True)
        )
    if "max_sequence_length" in stock:
        length = stock["max_sequence_length"].default
        cleans = stock["clean_caption"].default and _can_clean()
        parts = "", pipe.text_encoder, pipe.tokenizer, length, pipe._clean_caption if cleans else None
        if "complex_human_instruction" in stock:
            return (InstructedEncoder(*parts, "\n".join(stock["complex_human_instruction"].default or ())),)
        return (MaskedEncoder(*parts),)
    return (ClipEncoder("", pipe.text_encoder, pipe.tokenizer, _context(pipe.text_encoder, pipe.tokenizer)),)


@cache  # every encoded prompt asks
def _parameters_of_call(kind: type[Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


@cache
def _can_clean() -> bool:
    """Whether the libraries are there with which the stock pipelines clean captions."""
    return bool(find_spec("bs4") and find_spec("ftfy"))


def _context(model: Any, tokenizer: Any) -> int:
    """The context length of a CLIP text encoder."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        raise ModelError(f"{type(model).__name__} is not a text encoder that P+ knows: CLIP, T5 or Gemma")
    return min(tokenizer.model_max_length, positions)


def device_of(encoder: TextEncoder, pipe: Any) -> torch.device | None:
    """The device an offloaded text encoder runs on; None where it runs where its weights are.

    accelerate's hooks know it. With diffusers' own the pipeline is asked, which takes 4 ms a call.
    """
    grouped = False
    for module in encoder.model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
        grouped |= hasattr(module, "_diffusers_hook")
    return getattr(pipe, "_execution_device", None) if grouped else None


def token_table_of(encoders: Sequence[TextEncoder]) -> str:
    """Hash of the token embeddings of all text encoders; "" where it is not known."""
    hashes = [token_table_hash(encoder.table, encoder.tokenizer) for encoder in encoders]
    return "-".join(hashes) if all(hashes) else ""


def spelled(widths: Mapping[str, int]) -> str:
    """The widths of text encoders, as messages write them."""
    return " + ".join(map(str, widths.values()))
