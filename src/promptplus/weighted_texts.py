"""Texts with weights, and texts longer than the text encoder's context, through the library compel (extra ``compel``).

compel reads ``(word:1.3)``, ``(word)1.3``, ``word++`` and its other syntax, and cuts long texts into chunks that are
encoded one by one. Placeholder tokens keep their rows, which differ from layer to layer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptplus.errors import ModelError, PromptError, PromptPlusError, first_line, short
from promptplus.lora import lora_scaled
from promptplus.placeholders import (
    WORD_END,
    Placeholder,
    PlaceholderTokenizer,
    private_copy,
    split_at_placeholders,
)
from promptplus.text_encoders import ClipEncoder, EncoderCall, PenultimateEncoder, TextEncoder
from promptplus.text_encoding import PlaceholderRows, our_call

_NUMBER = r"(?:\d+\.?\d*|\.\d+)"
_COLON_WEIGHT = re.compile(rf":\s*([-+]?)({_NUMBER})\s*\)")
_BRACKET = re.compile(r"(?<!\\)[()]")
_MARKS = re.compile(rf"(?<!\\)\)(?:{_NUMBER}(?![\w.])|\++|-+)?|(?<=\w)(?:\++|-{{2,}})(?!\w)|(?<!\\)\(")
_ESCAPED = re.compile(r"\\([()])")
MOST_NESTED = 4
"""Brackets inside brackets. compel's parser takes four times as long for each further one: with five 2 s."""
Rows = Mapping[str, Float[Tensor, "vectors width"]]


class WeightedStates(NamedTuple):
    """The states of some texts, all of one length.

    Attributes:
        states: of the unique texts.
        row_of: for each prompt and layer the row of its text.
    """

    states: Float[Tensor, "unique tokens width"]
    row_of: Int[Tensor, "batch layers"]


def to_compel(text: str) -> str:
    """A text with weights in compel's form: ``(word:1.3)`` becomes ``(word)1.3``.

    Raises PromptError where a weight is negative, or brackets are nested too deep.
    """
    start = 0
    while match := _COLON_WEIGHT.search(text, start):
        start = match.end()
        if _depth(text[: match.start()]) > 0:
            if match[1] == "-":
                raise PromptError(f"a weight is 0 or more, not {match[1]}{match[2]} in {short(text)}")
            text = f"{text[: match.start()]}){match[2].rstrip('.')}{text[start:]}"
            start = match.start() + 1 + len(match[2].rstrip("."))
    if (deepest := max((_depth(text[: m.end()]) for m in _BRACKET.finditer(text)), default=0)) > MOST_NESTED:
        raise PromptError(
            f"brackets are {deepest} deep in {short(text)}; compel reads up to {MOST_NESTED} in short time"
        )
    return text


def _depth(text: str) -> int:
    """How many brackets are open at the end of a text."""
    return sum(-1 if bracket[0] == ")" else 1 for bracket in _BRACKET.finditer(text))


def without_weights(text: str) -> str:
    """The plain words of a text with weights. compel's functions, as ``.blend``, are not read."""
    return " ".join(_ESCAPED.sub(r"\1", _MARKS.sub("", to_compel(text))).split())


@dataclass(frozen=True)
class WeightedEncoder:
    """Encodes texts with one CLIP text encoder through compel.

    Attributes:
        encoder: the text encoder, with the hook of ``text_encoding.watch``.
        device: where it runs.
        clip_skip, lora_scale: as in ``PPlus.encode``.
    """

    encoder: TextEncoder
    device: torch.device
    clip_skip: int | None = None
    lora_scale: float | None = None

    def __call__(
        self, texts: Sequence[Sequence[str]], placeholders: Mapping[str, Placeholder], chunks: int = 1
    ) -> WeightedStates:
        """Encode ``texts[batch][layer]``, each text with the same rows once.

        Args:
            placeholders: rows of each token that the texts may hold.
            chunks: the least length, in contexts of the text encoder. Shorter texts are followed by empty ones.

        Raises:
            PromptError: compel cannot read a text, or it holds a token that no concept defines.
            ModelError: compel is not installed, or the text encoder is no CLIP.
        """
        self.check()
        found: dict[tuple[str, tuple[int, ...]], tuple[int, Rows]] = {}
        index: list[list[int]] = []
        vectors = {token: placeholder.vectors for token, placeholder in placeholders.items()}
        added = private_copy(self.encoder.tokenizer).get_added_vocab()
        for layer_texts in texts:
            row: list[int] = []
            for layer, text in enumerate(layer_texts):
                tokens = [token for _, token in split_at_placeholders(text, vectors, added) if token]
                key = (text, tuple(placeholders[token].groups[layer] for token in tokens))
                rows = {token: placeholders[token].rows[layer] for token in tokens}
                row.append(found.setdefault(key, (len(found), rows))[0])
            index.append(row)
        encoded = [self._encode(text, rows, vectors) for (text, _), (_, rows) in found.items()]
        empty = self._encode("", {}, {})
        length = max(chunks * len(empty), *map(len, encoded))
        padded = [torch.cat([one, *[empty] * ((length - len(one)) // len(empty))]) for one in encoded]
        return WeightedStates(torch.stack(padded), torch.tensor(index))

    def check(self) -> None:
        """Raise ModelError where compel is not installed, or the text encoder is no CLIP."""
        if not isinstance(self.encoder, ClipEncoder | PenultimateEncoder):
            raise ModelError(
                f"weights and long texts are for CLIP text encoders, not for {type(self.encoder.model).__name__}, "
                "which takes long texts anyway; leave compel out"
            )
        _compel()

    def _encode(self, text: str, rows: Rows, vectors: Mapping[str, int]) -> Float[Tensor, "tokens width"]:
        compel = _compel()
        numbered = _NumberedTokens(self.encoder, {token: vectors[token] for token in rows})
        model = _EncoderOfLayer(self, numbered, rows)
        weighted = compel.Compel(
            tokenizer=numbered, text_encoder=model, truncate_long_prompts=False, device=str(self.device)
        )
        try:
            states: Tensor = weighted.build_conditioning_tensor(to_compel(text))
        except PromptPlusError:
            raise
        except Exception as error:  # pyparsing's and compel's own
            raise PromptError(
                f"compel cannot read {short(text)}: {first_line(error)}; give brackets words and a weight, as (red:1.3)"
            ) from error
        return states[0]


class _NumberedTokens:
    """A tokenizer for compel: placeholder tokens get numbers above the vocabulary, one for each vector."""

    def __init__(self, encoder: TextEncoder, vectors: Mapping[str, int]) -> None:
        self._own = private_copy(encoder.tokenizer)
        self.carrier = PlaceholderTokenizer(encoder.tokenizer, encoder.length).carrier
        self.bos_token_id, self.eos_token_id = self._own.bos_token_id, self._own.eos_token_id
        self.pad_token_id, self.model_max_length = self._own.pad_token_id, encoder.length
        slots = [(token, vector) for token, count in vectors.items() for vector in range(count)]
        first = max(len(self._own), encoder.table.shape[0])
        self.slots = {first + i: slot for i, slot in enumerate(slots)}
        self._numbers = {slot: number for number, slot in self.slots.items()}
        self._vectors = vectors

    def __call__(self, texts: Sequence[str], **_: Any) -> dict[str, list[list[int]]]:
        """The numbers of each text, between the special tokens; never padded or cut."""
        return {"input_ids": [[self.bos_token_id, *self._body(text), self.eos_token_id] for text in texts]}

    def convert_ids_to_tokens(self, numbers: Sequence[int]) -> list[str]:
        """The pieces of words; compel cuts a long text where a piece ends a sentence, a phrase or a word."""
        return [self._piece(number) for number in numbers]

    def _piece(self, number: int) -> str:
        if number not in self.slots:
            return self._own.convert_ids_to_tokens([number])[0]
        token, vector = self.slots[number]
        return token + (WORD_END if vector == self._vectors[token] - 1 else "")

    def _body(self, text: str) -> list[int]:
        body: list[int] = []
        for piece, token in split_at_placeholders(text, self._vectors, self._own.get_added_vocab()):
            body += self._own(piece, add_special_tokens=False, verbose=False).input_ids if piece else []
            body += [self._numbers[token, vector] for vector in range(self._vectors[token] if token else 0)]
        return body


class _Output(NamedTuple):
    """The part of a text encoder's output that compel reads."""

    last_hidden_state: Float[Tensor, "texts tokens width"]


class _EncoderOfLayer:
    """The text encoder for compel, as it reads placeholder tokens on one layer."""

    def __init__(self, weighted: WeightedEncoder, numbered: _NumberedTokens, rows: Rows) -> None:
        self._weighted, self._numbered, self._rows = weighted, numbered, rows
        self.device, self.dtype = weighted.device, weighted.encoder.model.dtype

    def __call__(self, ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> _Output:
        """The states of token numbers; ``attention_mask``: 0 hides a word that a weight below 1 takes away."""
        slots, encoder = self._numbered.slots, self._weighted.encoder
        numbers: list[list[int]] = ids.tolist()  # pyright: ignore[reportUnknownMemberType]
        places = [(i, j, slots[n]) for i, row in enumerate(numbers) for j, n in enumerate(row) if n in slots]
        plain = [[self._numbered.carrier if n in slots else n for n in row] for row in numbers]
        replacement = None
        if places:
            rows = torch.stack([self._rows[token][vector] for _, _, (token, vector) in places])
            replacement = PlaceholderRows(
                torch.tensor([place[:2] for place in places]).to(ids.device), rows.to(ids.device)
            )
        everything = attention_mask is None or bool(attention_mask.all())
        call = EncoderCall(
            ids=torch.tensor(plain, device=ids.device),
            mask=torch.ones_like(ids),
            clip_skip=self._weighted.clip_skip,
            length=ids.shape[1],
            seen=None if everything else attention_mask,
        )
        with our_call(replacement), lora_scaled(encoder.model, self._weighted.lora_scale):
            return _Output(encoder.encode(call).states)


def _compel() -> Any:
    try:
        import compel
    except ImportError:
        raise ModelError("weights and long texts need compel: pip install 'promptplus[compel]'") from None
    return compel
