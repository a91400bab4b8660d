"""Per-layer prompts and their grammar. Text only: no tensors, no model.

    default text || <layers>: text || <layers>: text

``<layers>`` is anything that ``LayerMap.select`` takes. Later parts win. A literal ``||`` is written ``\\|\\|``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from promptplus.errors import PromptError
from promptplus.layers import LayerMap

_SEPARATOR = re.compile(r"\|\|")
_PART = re.compile(r"\s*(?P<layers>[\w.\-]+(?:\s*,\s*[\w.\-]+)*)\s*:(?P<text>.*)", re.DOTALL)
_OPTION = re.compile(r"(?P<layers>[^=]+)=(?P<text>.*)", re.DOTALL)
_ESCAPED = r"\|\|"


@dataclass(frozen=True)
class PPlusPrompt:
    """A prompt with a text for every cross-attention layer: a default, and parts that replace it on some layers.

    ``str`` gives the prompt in the grammar: ``"a cat || coarse: a dog"``.

    Attributes:
        default: the text of all layers that no part names.
        parts: (layers, text) pairs. Where two parts name the same layer, the later one wins.
    """

    default: str
    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a prompt in the grammar ``default || <layers>: text || …``.

        Raises PromptError where a text is empty or a part names no layers.
        """
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
        """A prompt from any of the forms that ``PPlus.encode`` takes.

        Args:
            value: a text in the grammar, a dict ``{"default": text, layers: text, …}``, or a PPlusPrompt. The texts of
                a dict are used as they are: they may be empty, and ``||`` needs no escape.

        Raises:
            PromptError: the value has none of these forms, or breaks the grammar.
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
        """The same prompt with one more part at the end, which wins over the earlier ones."""
        return type(self)(self.default, (*self.parts, (layers, text)))

    def texts(self, layers: LayerMap) -> tuple[str, ...]:
        """The text of each layer in forward order. Raises LayerError for layers that the model does not have."""
        texts = [self.default] * len(layers)
        for spec, text in self.parts:
            for index in layers.select(spec):
                texts[index] = text
        return tuple(texts)

    def __iter__(self) -> Iterator[str]:
        """All texts, the default first."""
        yield self.default
        yield from (text for _, text in self.parts)

    def __str__(self) -> str:
        return " || ".join([_escape(self.default), *(f"{spec}: {_escape(text)}" for spec, text in self.parts)])


def parse_prompt(prompt: str, options: Iterable[str]) -> PPlusPrompt:
    """A prompt in the grammar with further parts from the command line: ``--layer coarse="a lizard"``.

    Args:
        prompt: the prompt.
        options: values of ``--layer``, each ``<layers>=text``. They win over the prompt's own parts.

    Raises:
        PromptError: the prompt or an option breaks its grammar.
    """
    parsed = PPlusPrompt.parse(prompt)
    for option in options:
        match = _OPTION.fullmatch(option)
        if match is None or not match["text"].strip():
            raise PromptError(f'--layer {option!r} is not layers="text", as coarse="a lizard"')
        parsed = parsed.with_part(match["layers"].strip(), match["text"].strip())
    return parsed


def _escape(text: str) -> str:
    return text.replace("||", _ESCAPED)


def _unescape(text: str) -> str:
    return text.replace(_ESCAPED, "||")
