"""Placeholder tokens: their form, the rows they stand for, and texts that contain them.

The pipeline's tokenizer is never changed. A text is split at its placeholders, and an ordinary token id stands at their
positions.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from promptplus.errors import ConceptError, PromptError

_PLACEHOLDER = re.compile(r"<[^<>\s]+>")


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
        slots: the positions that placeholders take.
        cut: the end of the text that did not fit; "" where all did.
    """

    ids: tuple[int, ...]
    used: int
    slots: tuple[Slot, ...] = ()
    cut: str = ""

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
        raise ConceptError(f"a placeholder token looks like <cat>: brackets, no spaces, no slashes; not {token!r}")
    if token != _normal(token):
        raise ConceptError(f"the tokenizer reads {token!r} as {_normal(token)!r}; name the placeholder token so")
    return token


def check_token(token: str, tokenizer: Any) -> str:
    """Check that a token can be a placeholder: its form, and that the tokenizer's vocabulary does not contain it.

    Returns the token. Raises ConceptError otherwise.
    """
    check_form(token)
    if token in tokenizer.get_vocab():
        raise ConceptError(f"the tokenizer already has a word {token!r}; choose another placeholder token")
    return token


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


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
            text: the text, without per-layer parts.
            vectors: number of positions by placeholder token, for all tokens that may appear.

        Raises:
            PromptError: the text contains a ``<...>`` that is neither a placeholder nor in the vocabulary.
        """
        t = self.tokenizer
        body: list[int] = []
        slots: list[Slot] = []
        for piece, token in _split(text, vectors, t.get_added_vocab()):
            body += t(piece, add_special_tokens=False, verbose=False).input_ids if piece else []
            for vector in range(vectors[token] if token else 0):
                slots.append(Slot(len(body) + 1, token, vector))  # + 1: the text begins after BOS
                body.append(self.carrier)
        room = self.length - 2
        ids = (t.bos_token_id, *body[:room], t.eos_token_id, *[t.pad_token_id] * (room - len(body)))
        inside = tuple(slot for slot in slots if slot.position <= room)
        used = min(len(body), room) + 2
        return TokenizedText(
            ids, used, inside, self._spell(body, room, {slot.position - 1: slot.token for slot in slots})
        )

    def _spell(self, body: list[int], start: int, placeholders: Mapping[int, str]) -> str:
        """The text of ``body[start:]``, with placeholders by name."""
        rest = range(start, len(body))
        words = (placeholders.get(i) or self.tokenizer.decode([body[i]]) for i in rest)
        return " ".join(word.strip() for word in words)

    @property
    def carrier(self) -> int:
        """The ordinary token id that stands at placeholders' positions.

        It is below EOS, because some text encoders pool at the position of the largest id.
        """
        special = set(self.tokenizer.all_special_ids)
        return next(i for i in range(len(self.tokenizer)) if i not in special)


def _split(text: str, known: Mapping[str, int], added: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(text before the placeholder, placeholder token) pairs; the last pair's token is ""."""
    start = 0
    for match in _PLACEHOLDER.finditer(text):
        token = _normal(match[0])
        if token in known:
            yield text[start : match.start()], token
            start = match.end()
        elif match[0] not in added and token not in added:
            have = ", ".join(sorted(known)) or "none was added"
            raise PromptError(f"no concept defines {match[0]} in {text!r}; known placeholder tokens: {have}")
    yield text[start:], ""
