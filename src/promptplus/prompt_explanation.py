"""What each layer is told by a prompt: its text, strength, window, mask and tokens, and what was cut."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from promptplus.layers import LayerMap
from promptplus.placeholders import TokenizedText
from promptplus.pplus import PPlus
from promptplus.prompt_batch import PromptBatch
from promptplus.prompt_parts import DATA_URI, Box
from promptplus.prompt_stages import LayerText, Stage
from promptplus.prompts import PPlusPrompt
from promptplus.weighted_texts import without_weights

LONGEST = 10_000  # tokens; longer than any prompt
EVERYWHERE = ""
"""Where a text without a mask holds."""


@dataclass(frozen=True)
class LayerExplanation:
    """One text of one layer.

    Attributes:
        layer: the layer's name.
        text: the text.
        strength: see ``Part``.
        window: from where to where in the denoising it holds.
        mask: the file or box inside which it holds, or "a picture"; "" everywhere.
        tokens: the pieces that the first text encoder reads, without special tokens and padding.
        room: how many of these its context has; None: compel gives a long text several contexts.
        cut: the end of the text that did not fit; "" where all did.
    """

    layer: str
    text: str
    strength: float
    window: tuple[float, float]
    mask: str
    tokens: tuple[str, ...]
    room: int | None
    cut: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table."""
        when = "" if self.window == (0, 1) else "–".join(f"{share:g}" for share in self.window)
        strength = "" if self.strength == 1 else f"{self.strength:g}"
        of = f"/{self.room}" if self.room else ""
        return (self.layer, when, self.mask, strength, f"{len(self.tokens)}{of}", self.text, self.cut)

    def describe(self) -> dict[str, Any]:
        """The same in plain values."""
        return asdict(self)


COLUMNS = ("layer", "window", "mask", "strength", "tokens", "text", "cut")


def explain(pplus: PPlus, prompt: PPlusPrompt, *, compel: bool = False) -> list[LayerExplanation]:
    """What a prompt tells each layer, in forward order, and for each layer by time, the uppermost mask last.

    Raises as ``PPlus.encode`` does.
    """
    (staged,) = PromptBatch.of([prompt], None, pplus.layers).staged
    read: dict[str, TokenizedText] = {}
    rows: list[LayerExplanation] = []
    for layer, text, window, mask in _held(staged.stages, pplus.layers):
        plain = without_weights(text.text) if compel else text.text
        if plain not in read:
            read[plain] = _tokenized(pplus, plain, whole=compel)
        tokens = read[plain]
        pieces = _pieces(pplus, tokens)
        room = None if compel else pplus.positions - tokens.begin - tokens.end
        rows.append(LayerExplanation(layer, text.text, text.strength, window, mask, pieces, room, tokens.cut))
    return rows


@dataclass(frozen=True)
class _Held:
    """What holds on a layer from one point of the denoising to another: texts with the place where each holds."""

    texts: tuple[tuple[LayerText, str], ...]
    start: float
    end: float


def _held(stages: Sequence[Stage], layers: LayerMap) -> Iterator[tuple[str, LayerText, tuple[float, float], str]]:
    """(layer, text, window, mask) of all that holds, with stages joined where nothing changes on the layer."""
    ends = [*(stage.start for stage in stages[1:]), 1.0]
    for i, layer in enumerate(layers):
        found: list[_Held] = []
        for stage, end in zip(stages, ends, strict=True):
            inside = [(text, _spelled(region.mask)) for region in stage.regions if (text := region.texts[i])]
            texts = ((stage.texts[i], EVERYWHERE), *inside)
            same = found and found[-1].texts == texts
            start = found.pop().start if same else stage.start
            found.append(_Held(texts, start, end))
        yield from ((layer.name, text, (held.start, held.end), mask) for held in found for text, mask in held.texts)


def _spelled(mask: str | Box) -> str:
    if isinstance(mask, str):
        return "a picture" if mask.startswith(DATA_URI) else mask
    return ",".join(f"{share:g}" for share in mask)


def _tokenized(pplus: PPlus, text: str, whole: bool) -> TokenizedText:
    """The tokens for the first text encoder; ``whole``: of the whole text, however long."""
    if not whole:
        return pplus.tokenize(text)
    vectors = {token: concept.placeholder.vectors for token, concept in pplus.concepts.items()}
    return replace(pplus.encoders[0], length=LONGEST).tokenize(text, vectors)


def _pieces(pplus: PPlus, text: TokenizedText) -> tuple[str, ...]:
    """The pieces of a text, with placeholder tokens by name."""
    slots = {slot.position: slot.token for slot in text.slots}
    inner: Sequence[int] = range(text.begin, text.used - text.end)
    return tuple(slots.get(i) or pplus.tokenizer.convert_ids_to_tokens(text.ids[i]) for i in inner)
