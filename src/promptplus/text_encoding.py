"""Texts with placeholder tokens → text states, one batched pass over the unique (text, layer) rows.

The pipeline's tokenizer and embedding table are never changed: a text is split at its placeholders, their positions
carry an ordinary id, and a forward hook puts the concept's rows there while the text encoder runs.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from promptplus.errors import ConceptError, PromptError

_PLACEHOLDER = re.compile(r"<[^<>\s]+>")


@dataclass(frozen=True)
class Placeholder:
    """What stands for a placeholder token: rows ``[layer, vector, width]``, and which layers share a row.

    ``groups[i]`` is the number of layer i's row; equal numbers mean the same row, which is then encoded only once.
    """

    rows: Tensor
    groups: tuple[int, ...]

    @property
    def vectors(self) -> int:
        """Rows per layer; the token takes as many positions in a text."""
        return self.rows.shape[1]


@dataclass(frozen=True)
class TokenizedText:
    """Token ids ``[S]`` of one text, how many are not padding, its placeholders, and the text that did not fit."""

    ids: tuple[int, ...]
    used: int
    slots: tuple[tuple[int, str, int], ...] = ()  # (position, token, vector)
    cut: str = ""

    @property
    def tokens(self) -> tuple[str, ...]:
        """The placeholder tokens in the text, each once."""
        return tuple(dict.fromkeys(token for _, token, _ in self.slots))


def check_form(token: str) -> str:
    """The token, if it has a placeholder's form: ``<...>``, NFC, lower case, no white space, no slash."""
    if not isinstance(token, str) or not _PLACEHOLDER.fullmatch(token) or re.search(r"[/\\]", token):
        raise ConceptError(f"a placeholder token looks like <cat>: brackets, no spaces, no slashes; not {token!r}")
    if token != _normal(token):
        raise ConceptError(f"the tokenizer reads {token!r} as {_normal(token)!r}; name the placeholder token so")
    return token


def check_token(token: str, tokenizer: Any) -> str:
    """The token, if it can be a placeholder in this tokenizer's texts: of the right form, and no word of it."""
    check_form(token)
    if token in tokenizer.get_vocab():
        raise ConceptError(f"the tokenizer already has a word {token!r}; choose another placeholder token")
    return token


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


@dataclass(frozen=True)
class PlaceholderTokenizer:
    """A private view of a pipeline's tokenizer that also knows placeholder tokens.

    Attributes:
        tokenizer: the pipeline's own, only read.
        length: S, the text encoder's context length.
    """

    tokenizer: Any
    length: int

    def __call__(self, text: str, vectors: Mapping[str, int]) -> TokenizedText:
        """Tokenize one text; ``vectors`` gives how many positions each placeholder token takes.

        Raises PromptError for a ``<...>`` that is neither a placeholder nor a token of the tokenizer.
        """
        t = self.tokenizer
        body: list[int] = []
        slots = []
        for piece, token in _split(text, vectors, t.get_added_vocab()):
            body += t(piece, add_special_tokens=False, verbose=False).input_ids if piece else []
            for vector in range(vectors[token] if token else 0):
                slots.append((len(body) + 1, token, vector))  # + 1: the text begins after BOS
                body.append(self.carrier)
        room = self.length - 2
        ids = (t.bos_token_id, *body[:room], t.eos_token_id, *[t.pad_token_id] * (room - len(body)))
        inside = tuple(slot for slot in slots if slot[0] <= room)
        used = min(len(body), room) + 2
        return TokenizedText(ids, used, inside, self._spell(body, room, {p - 1: token for p, token, _ in slots}))

    def _spell(self, body: list[int], start: int, placeholders: Mapping[int, str]) -> str:
        """The text of ``body[start:]``, placeholders by name."""
        rest = range(start, len(body))
        words = (placeholders.get(i) or self.tokenizer.decode([body[i]]) for i in rest)
        return " ".join(word.strip() for word in words)

    @property
    def carrier(self) -> int:
        """An ordinary id below EOS that holds a placeholder's position (an added id would hijack argmax pooling)."""
        special = set(self.tokenizer.all_special_ids)
        return next(i for i in range(len(self.tokenizer)) if i not in special)


def _split(text: str, known: Mapping[str, int], added: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """(text before, placeholder token) pairs; the last token is ""."""
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


@dataclass(frozen=True)
class EncodingPlan:
    """What the text encoder must see for a batch of per-layer texts: each unique (text, layer) pair once.

    Attributes:
        ids: ``[R, S]`` token ids of the unique rows; ``used`` ``[R]``: how many of each are not padding.
        index: ``[B, n]`` unique row of every (text, layer) pair.
        slots: where placeholders stand: (row, position, token, layer, vector).
    """

    ids: Tensor
    used: Tensor
    index: Tensor
    slots: tuple[tuple[int, int, str, int, int], ...]

    @classmethod
    def of(cls, texts: Sequence[Sequence[TokenizedText]], groups: Mapping[str, tuple[int, ...]]) -> "EncodingPlan":
        """Plan ``texts[batch][layer]``; a layer matters only where a placeholder's row differs there."""
        seen: dict[tuple[TokenizedText, tuple[int, ...]], int] = {}
        slots: list[tuple[int, int, str, int, int]] = []
        index = []
        for per_layer in texts:
            for layer, text in enumerate(per_layer):
                key = (text, tuple(groups[token][layer] for token in text.tokens))
                if key not in seen:
                    seen[key] = len(seen)
                    slots += [(seen[key], position, token, layer, v) for position, token, v in text.slots]
                index.append(seen[key])
        ids = torch.tensor([text.ids for text, _ in seen])
        used = torch.tensor([text.used for text, _ in seen])
        return cls(ids, used, torch.tensor(index).view(len(texts), -1), tuple(slots))

    @property
    def mask(self) -> Tensor:
        """``[R, S]``: 1 where a token is not padding."""
        return (torch.arange(self.ids.shape[1]) < self.used[:, None]).long()

    def rows(self, placeholders: Mapping[str, Placeholder]) -> tuple[Tensor, Tensor] | None:
        """Where the concept rows go ``[K, 2]`` (unique row, position) and the rows ``[K, width]`` themselves."""
        if not self.slots:
            return None
        where, rows = [], []
        for token, placeholder in placeholders.items():
            mine = [slot for slot in self.slots if slot[2] == token]
            if mine:
                where += [slot[:2] for slot in mine]
                device = placeholder.rows.device
                layers, vectors = [slot[3] for slot in mine], [slot[4] for slot in mine]
                rows.append(placeholder.rows[send(layers, device), send(vectors, device)])
        return torch.tensor(where), torch.cat(rows)


@contextmanager
def swapped(embedding: nn.Module, where: Tensor, rows: Tensor) -> Iterator[None]:
    """While inside, the token embedding gives ``rows`` ``[K, D]`` at ``where`` ``[K, 2]``; gradients reach them."""

    def swap(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output.index_put((where[:, 0], where[:, 1]), rows.to(output))

    handle = embedding.register_forward_hook(swap)
    try:
        yield
    finally:
        handle.remove()


def encode_texts(
    text_encoder: Any,
    plan: EncodingPlan,
    placeholders: Mapping[str, Placeholder],
    *,
    clip_skip: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Text states ``[B, n, S, D]`` of a plan, in one call of the text encoder.

    ``clip_skip`` as in diffusers: 1 takes the layer before the last. ``device``: where the encoder runs, if its weights
    are elsewhere (offloading). The call is the stock pipeline's own (no mask
    unless the encoder's configuration asks for one), so equal shapes give equal bits.
    """
    place: torch.device = device or text_encoder.device
    ids = send(plan.ids, place)
    mask = send(plan.mask, place) if getattr(text_encoder.config, "use_attention_mask", False) else None
    swap = plan.rows(placeholders)
    if swap is None:
        states = _states(text_encoder, ids, mask, clip_skip)
    else:
        where, rows = swap
        with swapped(text_encoder.get_input_embeddings(), send(where, place), rows.to(place)):
            states = _states(text_encoder, ids, mask, clip_skip)
    return states[send(plan.index, place)]


def send(values: Tensor | Sequence[int], device: torch.device) -> Tensor:
    """Numbers on a device, without waiting for the work it has: a plain copy would, in every training step."""
    return torch.as_tensor(values).to(device, non_blocking=True)


def _states(text_encoder: Any, ids: Tensor, mask: Tensor | None, clip_skip: int | None) -> Tensor:
    if clip_skip is None:
        return text_encoder(ids, attention_mask=mask)[0]
    hidden = text_encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    if not 0 <= clip_skip < len(hidden):
        raise PromptError(f"clip_skip is 0 to {len(hidden) - 1} for this text encoder, not {clip_skip}")
    # transformers 5.6 took the text_model level away; diffusers' own clip_skip still asks for it
    norm = getattr(text_encoder, "text_model", text_encoder).final_layer_norm
    return norm(hidden[-(clip_skip + 1)])
