"""Placeholder tokens: their form, the rows they stand for, and texts that contain them.

The pipeline's tokenizer is never changed. A text is split at its placeholders, and an ordinary token id stands at their
positions.
"""

import copy
import re
import threading
import unicodedata
import weakref
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.errors import ConceptError, PromptError, short

_PLACEHOLDER = re.compile(r"<[^<>\s]+>")
_IN_TEXT = re.compile(r"(?P<escape>\\?)(?P<token><[^<>\s]+>)")
WORD_END = "</w>"  # ends a word's last piece in CLIP's vocabulary
_LORA = re.compile(r"<(lora|lyco|hypernet):(?P<name>[^:<>]+)(:[^<>]*)?>")


@dataclass(frozen=True)
class Placeholder:
    """The embedding rows that a placeholder token stands for.

    Attributes:
        rows: ``[layers, vectors, width]``.
        groups: for each layer, the number of its group. Layers of one group have the same rows, which are then encoded
            only once.
    """

    rows: Float[Tensor, "layers vectors width"]
    groups: tuple[int, ...]

    @property
    def vectors(self) -> int:
        """Rows per layer: the number of positions that the token takes in a text."""
        return self.rows.shape[1]

    def of_columns(self, columns: slice) -> "Placeholder":
        """The same with a part of each row: the rows for one of several text encoders."""
        return Placeholder(self.rows[..., columns], self.groups)

    def with_mean_of(self, layers: Sequence[int]) -> "Placeholder":
        """The same with one more layer, whose rows are the mean of the given layers' rows."""
        chosen = {self.groups[layer] for layer in layers}
        if len(chosen) == 1:  # they are equal: no new group, so that a text is not encoded twice
            return Placeholder(torch.cat([self.rows, self.rows[layers[0]][None]]), (*self.groups, *chosen))
        chosen_rows = self.rows if len(layers) == len(self.groups) else torch.stack([self.rows[i] for i in layers])
        mean = chosen_rows.mean(dim=0, keepdim=True)
        return Placeholder(torch.cat([self.rows, mean]), (*self.groups, max(self.groups) + 1))


class Slot(NamedTuple):
    """A position in a text that holds one vector of a placeholder token."""

    position: int
    token: str
    vector: int


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of one text.

    Attributes:
        ids: token ids, padded to the text encoder's context length.
        used: how many of them are not padding.
        begin, end: how many of these are special tokens at the beginning and at the end.
        slots: the positions that placeholders take.
        cut: the end of the text that did not fit; "" where all did.
    """

    ids: tuple[int, ...]
    used: int
    slots: tuple[Slot, ...] = ()
    cut: str = ""
    begin: int = 1
    end: int = 1

    @property
    def tokens(self) -> tuple[str, ...]:
        """The placeholder tokens in the text, without repetition."""
        return tuple(dict.fromkeys(slot.token for slot in self.slots))


def check_form(token: str) -> str:
    """Check the form of a placeholder token: ``<...>``, lower case, NFC, without white space or slashes.

    Returns the token. Raises ConceptError where it has another form.
    """
    is_text = isinstance(token, str)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not is_text or not _PLACEHOLDER.fullmatch(token) or re.search(r"[/\\]", token):
        raise ConceptError(f"a placeholder token looks like <cat>: brackets, no spaces, no slashes; not {short(token)}")
    if token != normal(token):
        raise ConceptError(f"the tokenizer reads {token!r} as {normal(token)!r}; name the placeholder token so")
    return token


def check_token(token: str, tokenizer: Any) -> str:
    """Check that a token can be a placeholder: its form, and that the tokenizer's vocabulary does not contain it.

    Returns the token. Raises ConceptError otherwise.
    """
    return check_new(token, private_copy(tokenizer).get_vocab())


def check_new(token: str, vocabulary: Container[str]) -> str:
    """Check that a token can be a placeholder, as ``check_token`` does, with the tokenizer's vocabulary itself."""
    check_form(token)
    if token in vocabulary:
        raise ConceptError(f"the tokenizer already has a word {token!r}; choose another placeholder token")
    return token


def normal(text: str) -> str:
    """A text as placeholder tokens are compared: NFC, lower case."""
    return unicodedata.normalize("NFC", text).lower()


_COPIES: "weakref.WeakKeyDictionary[Any, tuple[dict[str, int], Any]]" = weakref.WeakKeyDictionary()
_COPIES_LOCK = threading.Lock()


def private_copy(tokenizer: Any) -> Any:
    """Our own copy of a pipeline's tokenizer, which stock calls in other threads do not touch.

    A fast tokenizer keeps padding and truncation as state and sets them in each call. The copy is always called
    without either. It is made again where words were added to the tokenizer, or taken away.
    """
    if not getattr(tokenizer, "is_fast", False):
        return tokenizer
    with _COPIES_LOCK:
        added, (known, own) = tokenizer.get_added_vocab(), _COPIES.get(tokenizer, ({}, None))
        if own is None or added != known:
            own = copy.deepcopy(tokenizer)
            own("", add_special_tokens=False)  # clears padding and truncation
            _COPIES[tokenizer] = added, own
        return own


@dataclass(frozen=True)
class PlaceholderTokenizer:
    """Tokenizes texts with placeholder tokens, on top of a pipeline's tokenizer, which stays unchanged.

    Attributes:
        tokenizer: the pipeline's tokenizer.
        length: the text encoder's context length in tokens.
    """

    tokenizer: Any
    length: int

    def __call__(self, text: str, vectors: Mapping[str, int]) -> TokenizedText:
        """Tokenize one text.

        Args:
            text: the text, without per-layer parts. A backslash before ``<...>`` makes it plain text.
            vectors: number of positions by placeholder token, for all tokens that may appear.

        Raises:
            PromptError: the text contains a ``<...>`` that is neither a placeholder nor in the vocabulary.
        """
        t = private_copy(self.tokenizer)
        body: list[int] = []
        slots: list[Slot] = []
        begin, end = self._special()
        pieces = list(split_at_placeholders(text, vectors, t.get_added_vocab()))
        for piece, token in pieces:
            words = piece.rstrip() if token else piece  # a space before a placeholder would be a token for T5 and Gemma
            body += t(words, add_special_tokens=False, verbose=False).input_ids if words else []
            for vector in range(vectors[token] if token else 0):
                slots.append(Slot(len(begin) + len(body), token, vector))
                body.append(self.carrier)
        room = self.length - len(begin) - len(end)
        ids = (*begin, *body[:room], *end, *[t.pad_token_id] * (room - len(body)))
        inside = tuple(slot for slot in slots if slot.position < len(begin) + room)
        used = len(begin) + min(len(body), room) + len(end)
        at = {slot.position - len(begin): slot for slot in slots}
        return TokenizedText(ids, used, inside, self._spell(body, room, at), len(begin), len(end))

    def _special(self) -> tuple[list[int], list[int]]:
        """The ids that stand before and after each text: CLIP has both, T5 the latter, Gemma the former."""
        t = private_copy(self.tokenizer)
        ids: list[int] = t("").input_ids
        begins = 1 if ids and ids[0] == t.bos_token_id else 0
        return ids[:begins], ids[begins:]

    def _spell(self, body: list[int], start: int, at: Mapping[int, Slot]) -> str:
        """The text of ``body[start:]``, with placeholders by name; ``at``: their places in ``body``."""
        words: list[str] = []
        for slot, run in groupby(range(start, len(body)), at.get):
            if slot is None:
                plain = private_copy(self.tokenizer).decode([body[i] for i in run])
                words += plain.replace(WORD_END, " ").split()
            elif slot.vector == 0 or at.get(start) == slot:
                words.append(slot.token)
        return " ".join(words)

    @property
    def carrier(self) -> int:
        """The ordinary token id that stands at placeholders' positions.

        It is below EOS, because some text encoders pool at the position of the largest id.
        """
        special = set(self.tokenizer.all_special_ids)
        return next(i for i in range(len(self.tokenizer)) if i not in special)


def split_at_placeholders(text: str, known: Collection[str], added: Container[str]) -> Iterator[tuple[str, str]]:
    """Split a text at its placeholder tokens.

    Yields (text before the placeholder, placeholder token) pairs; the last pair's token is "". A ``<...>`` that is in
    the vocabulary, or that follows a backslash, is text; the backslash is dropped.
    """
    start, before = 0, ""
    for match in _IN_TEXT.finditer(text):
        written = match["token"]
        token = normal(written)
        if match["escape"]:
            before += text[start : match.start()] + written
            start = match.end()
        elif token in known:
            yield before + text[start : match.start()], token
            start, before = match.end(), ""
        elif written not in added and token not in added:
            raise PromptError(_unknown(written, text, known))
    yield before + text[start:], ""


def _unknown(written: str, text: str, known: Iterable[str]) -> str:
    if lora := _LORA.fullmatch(written):
        return (
            f"{written} in {text!r} is the syntax of other tools; load the LoRA's file instead: "
            f"--lora {lora['name']}.safetensors:0.8, or promptplus.lora.add_loras"
        )
    have = ", ".join(sorted(known)) or "none was added"
    return (
        f"no concept defines {written} in {text!r}; known placeholder tokens: {have}; "
        rf"for plain text write \{written}"
    )
