"""Per-layer prompts and their grammar. Text only: no tensors, no model.

    default text || <layers>: text || <layers>: text

``<layers>`` is anything ``LayerMap.select`` takes; later parts win; a literal ``||`` is written ``\\|\\|``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from promptplus.errors import PromptError
from promptplus.layers import LayerMap

_SEPARATOR = re.compile(r"\|\|")
_PART = re.compile(r"\s*(?P<layers>[\w.\-]+(?:\s*,\s*[\w.\-]+)*)\s*:(?P<text>.*)", re.DOTALL)
_ESCAPED = r"\|\|"


@dataclass(frozen=True)
class PPlusPrompt:
    """One prompt for every cross-attention layer: a default text, and parts that replace it on some layers.

    Attributes:
        default: the text of every layer that no part names.
        parts: (layers, text) pairs; where two name the same layer, the later wins.
    """

    default: str
    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the prompt grammar. Raises PromptError on an empty part or one without layers."""
        default, *rest = _SEPARATOR.split(text)
        if rest and not default.strip():
            raise PromptError(f"the text before the first || is empty in {text!r}; write a default text there")
        parts = tuple(cls._parse_part(part, text) for part in rest)
        return cls(_unescape(default.strip() if rest else default), parts)

    @staticmethod
    def _parse_part(part: str, whole: str) -> tuple[str, str]:
        match = _PART.fullmatch(part)
        if match is None:
            raise PromptError(
                f"{part.strip()!r} in {whole!r} is not '<layers>: text', as in 'coarse: a lizard'; "
                r"a literal || is written \|\|"
            )
        if not match["text"].strip():
            raise PromptError(f"the part for {match['layers']!r} in {whole!r} has no text; give it some or drop it")
        return match["layers"], _unescape(match["text"].strip())

    @classmethod
    def of(cls, value: "str | Mapping[str, str] | PPlusPrompt") -> Self:
        """A prompt from grammar text, from a dict {"default": text, layers: text, …} or from a prompt.

        Texts in a dict are taken as they are (an empty one is allowed, ``||`` needs no escape).
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PromptError(f"a prompt is a text, a dict of texts or a PPlusPrompt, not {value!r}")
        if "default" not in value:
            raise PromptError(f'a dict prompt needs a "default" text for the layers it does not name: {dict(value)!r}')
        return cls(value["default"], tuple((str(k), v) for k, v in value.items() if k != "default"))

    def with_part(self, layers: str, text: str) -> Self:
        """The same prompt with one more part, which wins over the others."""
        return type(self)(self.default, (*self.parts, (layers, text)))

    def texts(self, layers: LayerMap) -> tuple[str, ...]:
        """The text of each layer, in forward order. Raises LayerError for layers the model does not have."""
        texts = [self.default] * len(layers)
        for spec, text in self.parts:
            for index in layers.select(spec):
                texts[index] = text
        return tuple(texts)

    def __iter__(self) -> Iterator[str]:
        """Every text, the default first."""
        yield self.default
        yield from (text for _, text in self.parts)

    def __str__(self) -> str:
        return " || ".join([_escape(self.default), *(f"{spec}: {_escape(text)}" for spec, text in self.parts)])


def _escape(text: str) -> str:
    return text.replace("||", _ESCAPED)


def _unescape(text: str) -> str:
    return text.replace(_ESCAPED, "||")


_LAYER = re.compile(r"(?P<layers>[^=]+)=(?P<text>.*)", re.DOTALL)


def parse_prompt(prompt: str, parts: Iterable[str]) -> PPlusPrompt:
    """The prompt grammar, then ``layers=text`` parts with the same meaning (``--layer coarse="a lizard"``)."""
    parsed = PPlusPrompt.parse(prompt)
    for part in parts:
        match = _LAYER.fullmatch(part)
        if match is None or not match["text"].strip():
            raise PromptError(f'--layer {part!r} is not layers="text", as coarse="a lizard"')
        parsed = parsed.with_part(match["layers"].strip(), match["text"].strip())
    return parsed
