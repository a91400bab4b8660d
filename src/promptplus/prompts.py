"""Per-layer prompts and their grammar. Text only: no tensors, no model.

    default text || <layers>[*strength][@from-to][#mask]: text || …

``<layers>`` is anything that ``LayerMap.select`` takes; see ``Part`` for the options. Later parts win. A literal ``||``
is written ``\\|\\|``, also in the name of a mask's file. A value with spaces or one of ``: * @ # =`` stands in quotes,
where ``""`` is a quote. White space around a text is dropped; a backslash between it and the border keeps it. A single
backslash is an empty text.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from promptplus.errors import PromptError, short
from promptplus.layers import LayerMap
from promptplus.prompt_parts import DATA_URI, FORM, Part, read_head

_PIPES = re.compile(r"(?P<slashes>\\*)(?P<pipes>\|+)")
_FOREIGN = (
    (re.compile(r"(?<!\\)\((?:[^()]|\([^()]*\))*:\s*[-+]?\d*\.?\d+\s*\)"), "a weight"),
    (re.compile(r"\([^()]*\)(?:\++|-+)(?!\w)"), "a weight"),
    (re.compile(r"(?<!\\)\[[^\[\]]*:\s*\d*\.?\d+\s*\]"), "prompt editing"),
    (re.compile(r"(?<!\\)[\[{][^\[\]{}|]*\|[^\[\]{}]*[\]}]"), "alternatives"),
    (re.compile(r"\bBREAK\b"), "a break between chunks"),
    (re.compile(r"(?<=\s)AND(?=\s)"), "two prompts at once"),
    (re.compile(r"\bembedding:\w+|__[\w/-]+__"), "a file's content"),
)
"""Syntax of other tools that would be read as plain text, and what it means there."""


@dataclass(frozen=True)
class PPlusPrompt:
    """A prompt with a text for every cross-attention layer: a default, and parts that replace it on some layers.

    ``str`` gives the prompt in the grammar: ``"a cat || coarse: a dog"``.

    Attributes:
        default: the text of all layers that no part names.
        parts: Part values, or (layers, text) pairs. Where two parts hold on the same layer, the later one wins; one
            with a mask is laid over what holds below it.
    """

    default: str
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.default, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PromptError(f"the texts of a prompt are strings, not {self.default!r}")
        parts: Any = self.parts
        if not isinstance(parts, Iterable) or isinstance(parts, str | Mapping):
            raise PromptError(
                f"the parts of a prompt are a tuple, as (Part('fine', 'a car'),), not {short(self.parts)}"
            )
        object.__setattr__(self, "parts", tuple(_as_part(part) for part in cast(Iterable[Any], parts)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a prompt in the grammar.

        Raises PromptError where a text is empty, a part names no layers, or an option has no value of its form.
        """
        default, *rest = _split(text)
        if not rest:
            return cls(default)
        if not default.strip():
            raise PromptError(
                f"the text before the first || is empty in {short(text)}; write a default text there, or \\ for none"
            )
        parts = tuple(cls._parse_part(part, text) for part in rest)
        return cls(_without_border(default), parts)

    @staticmethod
    def _parse_part(part: str, whole: str) -> Part:
        head = read_head(part)
        if head is None or part[head.end : head.end + 1] != ":":
            raise PromptError(
                f"{short(part.strip())} in {short(whole)} is not '<layers>: text', as in 'coarse: a lizard', or with "
                r"options 'fine*0.7@0.6-1#left.png: oil'; a literal || is written \|\|"
            )
        text = part[head.end + 1 :]
        if not text.strip():
            raise PromptError(
                f"the part for {head.layers!r} in {short(whole)} has no text; give it some, drop it, or write \\"
            )
        return Part(head.layers, _without_border(text), **head.options)

    @classmethod
    def of(cls, value: "str | Mapping[str, str] | PPlusPrompt") -> Self:
        """A prompt from any of the forms that ``PPlus.encode`` takes.

        Args:
            value: a text in the grammar, a dict ``{"default": text, layers: text, …}``, or a PPlusPrompt. The texts of
                a dict are used as they are: they may be empty, and ``||`` needs no escape. The layers may have options,
                as ``"fine*0.7"``.

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
        return cls(value["default"], tuple(_headed(str(k), v) for k, v in value.items() if k != "default"))

    def with_part(self, head: str, text: str) -> Self:
        """The same prompt with one more part at the end, which wins over the earlier ones.

        ``head``: layers, also with options, as they stand before a part's colon.
        """
        return type(self)(self.default, (*self.parts, _headed(head, text)))

    def texts(self, layers: LayerMap) -> tuple[str, ...]:
        """The text of each layer in forward order: of the last part that names it, whatever the part's options.

        Raises LayerError for layers that the model does not have.
        """
        texts = [self.default] * len(layers)
        for part in self.parts:
            for index in layers.select(part.layers):
                texts[index] = part.text
        return tuple(texts)

    @property
    def mask_files(self) -> tuple[str, ...]:
        """The files of its parts' masks, without repetition."""
        masks = (part.mask for part in self.parts if isinstance(part.mask, str))
        return tuple(dict.fromkeys(mask for mask in masks if not mask.startswith(DATA_URI)))

    def __iter__(self) -> Iterator[str]:
        """All texts, the default first."""
        yield self.default
        yield from (part.text for part in self.parts)

    def __str__(self) -> str:
        if not self.parts:
            return _escape(self.default)
        parts = [f"{_escape(part.head)}: {_with_border(_escape(part.text))}" for part in self.parts]
        return " || ".join([_with_border(_escape(self.default)), *parts])


def _as_part(value: Any) -> Part:
    """A part, also from a (layers, text) pair."""
    if isinstance(value, Part):
        return value
    if not isinstance(value, Sequence) or isinstance(value, str) or len(cast(Sequence[Any], value)) != 2:
        raise PromptError(f"a part of a prompt is a Part, or a pair of layers and text, not {value!r}")
    layers, text = cast(Sequence[Any], value)
    return Part(layers, text)


def _headed(head: str, text: str) -> Part:
    """A part whose layers and options are one text. Raises PromptError where they break the grammar."""
    read = read_head(head)
    if read is None or read.end != len(head):
        raise PromptError(f"{head!r} is not {FORM}, as 'coarse', '4-9,12' or 'fine*0.7@0.6-1'")
    return Part(read.layers, text, **read.options)


def parse_prompt(prompt: str, options: Iterable[str]) -> PPlusPrompt:
    """A prompt in the grammar with further parts from the command line: ``--layer coarse="a lizard"``.

    Args:
        prompt: the prompt.
        options: values of ``--layer``, each ``<layers>=text``, also with a part's options. They win over the prompt's
            own parts.

    Raises:
        PromptError: the prompt or an option breaks its grammar.
    """
    parsed = PPlusPrompt.parse(prompt)
    for option in options:
        head = read_head(option)
        text = "" if head is None else option[head.end + 1 :].strip()
        if head is None or option[head.end : head.end + 1] != "=" or not text:
            raise PromptError(f'--layer {option!r} is not layers="text", as coarse="a lizard" or fine*0.7@0.6-1="oil"')
        parsed = parsed.with_part(option[: head.end], text)
    return parsed


def foreign_syntax(text: str) -> str:
    """What a text has of other tools' syntax, which is read as plain text here, and the remedy; empty without any."""
    for pattern, meaning in _FOREIGN:
        if match := pattern.search(text):
            return (
                f"{match[0]!r} in {text!r} means {meaning} in other tools and is plain text here; leave it out, "
                "or give some layers their own text: 'a car || fine: a red car'"
            )
    return ""


def _split(text: str) -> list[str]:
    """Split a text at ``||``, with escaped pipes unescaped: an odd number of backslashes makes a pipe plain text."""
    texts, end = [""], 0
    for match in _PIPES.finditer(text):
        slashes, pipes = len(match["slashes"]), len(match["pipes"])
        plain = slashes % 2
        texts[-1] += text[end : match.start()] + "\\" * (slashes // 2) + "|" * plain
        separators, left = divmod(pipes - plain, 2)
        texts += [""] * separators
        texts[-1] += "|" * left
        end = match.end()
    texts[-1] += text[end:]
    return texts


def _escape(text: str) -> str:
    """Escape the pipes that ``_split`` would read as separators or as escaped."""

    def escape(match: re.Match[str]) -> str:
        if not match["slashes"] and len(match["pipes"]) == 1:
            return match[0]
        return 2 * match["slashes"] + r"\|" * len(match["pipes"])

    return _PIPES.sub(escape, text)


def _with_border(text: str) -> str:
    """A text with backslashes that keep its outer white space, or its emptiness."""
    start = "\\" if re.match(r"\\*(\s|\Z)", text) else ""
    end = "\\" if re.search(r"\s\\*\Z", text) else ""
    return start + text + end


def _without_border(text: str) -> str:
    """The inverse of ``_with_border``, after white space that people put around a text."""
    text = text.strip()
    if re.match(r"\\+(\s|\Z)", text):
        text = text[1:]
    return text[:-1] if re.search(r"\s\\+\Z", text) else text


Prompt = str | Mapping[str, str] | PPlusPrompt
"""What is taken as a prompt."""


def as_prompts(value: Prompt | Sequence[Prompt]) -> list[PPlusPrompt]:
    """One prompt or several, as a list. Raises PromptError where one cannot be read."""
    if isinstance(value, str | Mapping | PPlusPrompt):
        return [PPlusPrompt.of(value)]
    if not isinstance(value, Sequence) or not value:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PromptError(f"a prompt is a text, a dict, a PPlusPrompt or a list of these, not {value!r}")
    return [PPlusPrompt.of(item) for item in value]
