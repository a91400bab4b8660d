"""The study of attention: how much of each cross-attention layer's attention falls on which words (paper section 3.1).

Attention is recomputed from the outputs of ``to_q`` and ``to_k``, so it works with any attention processor. Only hooks
are installed, and they are removed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from promptplus.denoisers import denoiser_of
from promptplus.errors import ModelError, PromptError
from promptplus.evaluation.metrics import mean_interval
from promptplus.experiments.study import Study
from promptplus.experiments.takeover import FORM, draw_pairs, fill_form
from promptplus.fingerprints import weights_hash
from promptplus.generation import BATCH, denoise
from promptplus.kept_pictures import kept_tensor
from promptplus.layers import LayerMap
from promptplus.placeholders import TokenizedText
from promptplus.pplus import PPlus
from promptplus.profiles import SamplingOptions, Words, default_sampling
from promptplus.report import figures
from promptplus.report.figures import Curve
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table
from promptplus.text_encoders import InstructedEncoder

KINDS = ("object", "after the object", "appearance", "other words", "start", "end and padding")
"""Kinds of tokens. "After the object" is the next token: a causal text encoder tells it the object (docs/log.md)."""
WORDS = 4  # the first four kinds are words, the others are not
LEAD = (
    "The share of each layer's cross-attention that falls on each kind of token: the mean over heads, pixels, "
    "denoising steps and seeds. The token after the object's word is a kind of its own, because a causal text encoder "
    "writes the object into it as well. Bands: 95 %, bootstrap over prompts."
)


@dataclass(frozen=True)
class LabelledPrompt:
    """A text, the word for its object, and the words for its appearance: ``("red", "striped", "pixel art")``."""

    text: str
    object: str
    appearance: tuple[str, ...] = ()


def draw_prompts(words: Words, count: int, seed: int = 0) -> list[LabelledPrompt]:
    """Random prompts of the paper's form. Raises SettingsError where an attribute has fewer than two words."""
    drawn = [pair.first for pair in draw_pairs(words, count, seed)]
    return [
        LabelledPrompt(fill_form(FORM, values), values["object"], (values["colour"], values["style"]))
        for values in drawn
    ]


def study(
    pplus: PPlus, prompts: Sequence[LabelledPrompt], seeds: Sequence[int], **sampling: Unpack[SamplingOptions]
) -> Study:
    """Shares by layer, of all tokens and of the words alone; maps of the first prompt's words over its picture."""
    shares = attention_shares(pplus, prompts, seeds, **sampling)
    words = shares_of_words(shares)
    layers = pplus.layers.names
    of_all, of_words = _curves(shares, KINDS), _curves(words, KINDS[:WORDS])
    drawn = {
        name: figures.curves(curves, layers, xlabel="layer, forward order", ylabel=f"share of {name}", slanted=True)
        for name, curves in (("all attention", of_all), ("the words' attention", of_words))
    }
    maps, shown = attention_grid(pplus, prompts[0], seeds[0], **sampling)
    caption = f"“{prompts[0].text}”. A row for each of: {', '.join(shown)}. A column for each layer."
    word_figure = Figure(drawn["the words' attention"], name="words")
    sections = [
        Section("Of all tokens", "", [Figure(drawn["all attention"], name="all-tokens")]),
        Section("Of the words alone", "", [word_figure], _table(layers, of_words)),
        Section("Maps", caption, [Figure(maps, name="maps")]),
    ]
    values = {
        "prompts": [prompt.text for prompt in prompts],
        "seeds": list(seeds),
        "of_all": {kind: [round(float(v), 5) for v in curve.values] for kind, curve in of_all.items()},
        "of_words": {kind: [round(float(v), 5) for v in curve.values] for kind, curve in of_words.items()},
        "coarse_less_fine": {kind: _coarse_less_fine(words, kind, pplus.layers) for kind in KINDS[:2]},
    }
    tables: dict[str, Table] = {"of-all": _table(layers, of_all), "of-words": _table(layers, of_words)}
    return Study("attention", "Where each layer looks", LEAD, sections, values, tables)


def _coarse_less_fine(words: Float[Tensor, "prompt layer kind"], kind: str, layers: LayerMap) -> list[float]:
    """A kind's mean share in the coarse layers minus that in the fine layers: (value, low, high) over prompts."""
    shares = words[..., KINDS.index(kind)]
    coarse, fine = (shares[:, list(layers.group(name))].mean(1) for name in (layers.bands[0], layers.bands[-1]))
    interval = mean_interval((coarse - fine).tolist())
    return [interval.value, interval.low, interval.high]


def attention_grid(
    pplus: PPlus, prompt: LabelledPrompt, seed: int, **sampling: Unpack[SamplingOptions]
) -> tuple[Image.Image, list[str]]:
    """Attention over the picture: a row for each word, a column for each layer. Also returns the rows' words."""
    maps, (picture,) = attention_maps(pplus, prompt.text, [seed], **sampling)
    text = pplus.tokenize(prompt.text)
    places = {word: positions(text, word, pplus) for word in (prompt.object, *prompt.appearance)}
    after = places[prompt.object].stop
    if kinds_of(text, prompt, pplus)[after] == KINDS.index("after the object"):
        places[f"after {prompt.object}"] = range(after, after + 1)
    rows = [
        [picture, *(figures.overlay(picture, layer[0, :, where.start : where.stop].sum(-1).numpy()) for layer in maps)]
        for where in places.values()
    ]
    words = list(places)
    return labelled_grid(rows, row_labels=words, column_labels=["picture", *pplus.layers.names], cell=72), words


def _curves(shares: Float[Tensor, "prompt layer kind"], kinds: Sequence[str]) -> dict[str, Curve]:
    """For each kind, the mean share and its band over layers."""
    curves = {}
    for number, kind in enumerate(kinds):
        ends = [mean_interval(shares[:, layer, number].tolist()) for layer in range(shares.shape[1])]
        curves[kind] = Curve([i.value for i in ends], [i.low for i in ends], [i.high for i in ends])
    return curves


def _table(layers: Sequence[str], curves: dict[str, Curve]) -> Table:
    return {"layer": layers, **{kind: [f"{v:.3f}" for v in curve.values] for kind, curve in curves.items()}}


@dataclass
class AttentionRecorder:
    """Sums the attention of each layer, averaged over heads.

    Attributes:
        guided: whether each batch is the negative prompts, then the prompts; only the prompts' half is recorded.
        sums: by layer's number, over its calls, ``[batch, pixels, tokens]``.
        calls: the number of calls by layer's number.
        outputs: of ``to_q`` and ``to_k``, until the layer's own hook uses them.
    """

    guided: bool
    sums: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[int, int] = field(default_factory=dict)
    outputs: dict[tuple[int, str], Tensor] = field(default_factory=dict)

    def keep(self, layer: int, name: str) -> Callable[..., None]:
        """The forward hook of ``to_q`` or ``to_k``."""
        return lambda _module, _inputs, output: self.outputs.__setitem__((layer, name), output)

    def add(self, layer: int) -> Callable[..., None]:
        """The forward hook of the attention layer, with keyword arguments."""

        def hook(attention: nn.Module, _args: object, kwargs: dict[str, Any], _output: object) -> None:
            query, key = (self.outputs.pop((layer, name)) for name in ("q", "k"))
            weights = attention_weights(attention, query, key, kwargs.get("attention_mask"))
            mean = weights.mean(1)[len(weights) // 2 if self.guided else 0 :].cpu()
            self.sums[layer] = self.sums.get(layer, 0) + mean
            self.calls[layer] = self.calls.get(layer, 0) + 1

        return hook

    @property
    def maps(self) -> list[Float[Tensor, "batch pixels tokens"]]:
        """The mean over calls of each layer; every pixel's attention sums to 1."""
        return [self.sums[layer] / self.calls[layer] for layer in sorted(self.sums)]


def attention_weights(
    attention: Any,
    query: Float[Tensor, "batch pixels width"],
    key: Float[Tensor, "batch tokens width"],
    bias: Float[Tensor, "batch 1 tokens"] | None = None,
) -> Float[Tensor, "batch heads pixels tokens"]:
    """The softmax of the scaled products of queries and keys, as the attention layer computes it.

    ``bias``: the mask of padding, as diffusers passes it on: very small where a token does not count.
    """
    query, key = (x.float().unflatten(-1, (attention.heads, -1)).transpose(1, 2) for x in (query, key))
    scores = query @ key.transpose(-1, -2) * attention.scale
    return (scores if bias is None else scores + bias.float()[:, None]).softmax(-1)


@contextmanager
def record_attention(unet: nn.Module, layers: LayerMap, guided: bool) -> Iterator[AttentionRecorder]:
    """While inside, the denoiser's attention is recorded. ``guided``: see ``AttentionRecorder``."""
    recorder, handles = AttentionRecorder(guided), []
    for number, path in enumerate(layers.module_paths()):
        attention: Any = unet.get_submodule(path)
        handles += [
            attention.to_q.register_forward_hook(recorder.keep(number, "q")),
            attention.to_k.register_forward_hook(recorder.keep(number, "k")),
            attention.register_forward_hook(recorder.add(number), with_kwargs=True),
        ]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def attention_maps(
    pplus: PPlus, text: str, seeds: Sequence[int], *, steps: int | None = None, guidance: float | None = None
) -> tuple[list[Float[Tensor, "seed pixels tokens"]], list[Image.Image]]:
    """The attention of each layer, mean over steps and heads, and the pictures. All layers get the same text.

    Raises ModelError for Sana, whose text follows an instruction that attention cannot be told apart from.
    """
    _refuse_instructions(pplus)
    steps, guidance = default_sampling(pplus.pipe, steps, guidance)
    kwargs = pplus.encode([text] * len(seeds))
    with record_attention(denoiser_of(pplus.pipe), pplus.layers, guided=guidance > 1) as recorder:
        pictures = denoise(pplus.pipe, kwargs, seeds, steps=steps, guidance=guidance, keep=False)
    return recorder.maps, pictures


def attention_shares(
    pplus: PPlus,
    prompts: Sequence[LabelledPrompt],
    seeds: Sequence[int],
    *,
    steps: int | None = None,
    guidance: float | None = None,
) -> Float[Tensor, "prompt layer kind"]:
    """Shares of attention on ``KINDS``, which sum to 1; mean over pixels, heads, steps and seeds."""
    _refuse_instructions(pplus)
    steps, guidance = default_sampling(pplus.pipe, steps, guidance)
    made_by = [weights_hash(denoiser_of(pplus.pipe)), list(seeds), steps, guidance]

    def share(prompt: LabelledPrompt) -> Float[Tensor, "layer kind"]:
        kinds = kinds_of(pplus.tokenize(prompt.text), prompt, pplus)
        membership = torch.stack([kinds == kind for kind in range(len(KINDS))], 1).float()
        batches = []
        for start in range(0, len(seeds), BATCH):
            maps, _ = attention_maps(pplus, prompt.text, seeds[start : start + BATCH], steps=steps, guidance=guidance)
            batches.append(torch.stack([(layer.mean(1) @ membership) for layer in maps], 1))
        return torch.cat(batches).mean(0)

    return torch.stack([kept_tensor(f"attention {made_by} {prompt}", partial(share, prompt)) for prompt in prompts])


def _refuse_instructions(pplus: PPlus) -> None:
    if any(isinstance(encoder, InstructedEncoder) for encoder in pplus.encoders):
        raise ModelError("attention maps are not made for Sana: an instruction of its own stands before each prompt")


def shares_of_words(shares: Float[Tensor, "... kind"]) -> Float[Tensor, "... words"]:
    """Shares of the words' attention alone, for the first ``WORDS`` kinds; they sum to 1."""
    words = shares[..., :WORDS]
    return words / words.sum(-1, keepdim=True)


def kinds_of(text: TokenizedText, prompt: LabelledPrompt, pplus: PPlus) -> Int[Tensor, " tokens"]:
    """The kind of each token, as an index of ``KINDS``. Raises PromptError where a word is not in the text."""
    kinds = torch.full((len(text.ids),), KINDS.index("other words"))
    kinds[positions(text, prompt.object, pplus).stop] = KINDS.index("after the object")
    kinds[: text.begin], kinds[text.used - text.end :] = KINDS.index("start"), KINDS.index("end and padding")
    for kind, phrases in (("object", (prompt.object,)), ("appearance", prompt.appearance)):
        for phrase in phrases:
            kinds[list(positions(text, phrase, pplus))] = KINDS.index(kind)
    return kinds


def positions(text: TokenizedText, phrase: str, pplus: PPlus) -> range:
    """The positions of a phrase's tokens in a text. Raises PromptError where the phrase is not in it."""
    part = pplus.tokenize(phrase)
    wanted = _symbols(part)[part.begin : part.used - part.end]
    inside = _symbols(text)[: text.used - text.end]
    for start in range(text.begin, len(inside) - len(wanted) + 1 if wanted else 0):
        if inside[start : start + len(wanted)] == wanted:
            return range(start, start + len(wanted))
    raise PromptError(f"{phrase!r} is no part of the text; name words of the prompt")


def _symbols(text: TokenizedText) -> list[object]:
    """The tokens' ids; for a concept's token, its name and the vector's number."""
    placed: dict[int, object] = {position: (token, vector) for position, token, vector in text.slots}
    return [placed.get(position, id_) for position, id_ in enumerate(text.ids)]
