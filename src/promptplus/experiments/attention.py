"""Where layers look: attention on the object's word and on the words of its looks, by layer (paper section 3.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from promptplus.evaluation.metrics import mean_interval
from promptplus.experiments.attention_maps import (
    KINDS,
    WORDS,
    AskedPrompt,
    attention_maps,
    attention_shares,
    kinds_of,
    of_words,
    positions,
)
from promptplus.experiments.study import Study
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.figures import Curve
from promptplus.report.html import Figure, Section
from promptplus.report.picture_grid import labelled_grid
from promptplus.report.tables import Table

LEAD = (
    "Cross-attention mass, recomputed from queries and keys: the mean over heads, pixels, denoising steps and seeds. "
    "The token after the object's word counts by itself, for a causal text encoder tells it what it follows. "
    "Bands: 95 %, bootstrap over prompts."
)


def study(pplus: PPlus, prompts: Sequence[AskedPrompt], seeds: Sequence[int], **sampling: Any) -> Study:
    """Shares by layer, of all tokens and of the words alone; maps of the first prompt's words over its picture."""
    shares = attention_shares(pplus, prompts, seeds, **sampling)
    words = of_words(shares)
    layers = pplus.layers.names
    whole, part = _curves(shares, KINDS), _curves(words, KINDS[:WORDS])
    drawn = {
        name: figures.curves(found, layers, xlabel="layer, forward order", ylabel=f"share of {name}", slanted=True)
        for name, found in (("all attention", whole), ("the words' attention", part))
    }
    maps, words_shown = overlays(pplus, prompts[0], seeds[0], **sampling)
    sections = [
        Section("Of all tokens", "", [Figure(drawn["all attention"])]),
        Section("Of the words alone", "", [Figure(drawn["the words' attention"])], _table(layers, part)),
        Section("Maps", f"“{prompts[0].text}”: {', '.join(words_shown)}; each layer by itself.", [Figure(maps)]),
    ]
    values = {
        "prompts": [prompt.text for prompt in prompts],
        "seeds": list(seeds),
        "of_all": {kind: [round(float(v), 5) for v in curve.values] for kind, curve in whole.items()},
        "of_words": {kind: [round(float(v), 5) for v in curve.values] for kind, curve in part.items()},
        "coarse_less_fine": {kind: _coarse_less_fine(words, kind, pplus) for kind in KINDS[:2]},
    }
    tables: dict[str, Table] = {"of-all": _table(layers, whole), "of-words": _table(layers, part)}
    return Study("attention", "Where layers look", LEAD, sections, values, tables)


def _coarse_less_fine(words: Tensor, kind: str, pplus: PPlus) -> list[float]:
    """How much larger a kind's share is in coarse layers than in fine ones, with its interval over prompts."""
    own = words[..., KINDS.index(kind)]
    coarse, fine = (own[:, list(pplus.layers.group(name))].mean(1) for name in ("coarse", "fine"))
    found = mean_interval((coarse - fine).tolist())
    return [found.value, found.low, found.high]


def overlays(pplus: PPlus, prompt: AskedPrompt, seed: int, **sampling: Any) -> tuple[Image.Image, list[str]]:
    """A row for each word, a column for each layer: its attention over the picture. Also the rows' words."""
    maps, (picture,) = attention_maps(pplus, prompt.text, [seed], **sampling)
    text = pplus.tokenize(prompt.text)
    places = {word: positions(text, word, pplus) for word in (prompt.object, *prompt.appearance)}
    after = places[prompt.object].stop
    if kinds_of(text, prompt, pplus)[after] == KINDS.index("after the object"):
        places[f"after {prompt.object}"] = range(after, after + 1)
    rows = [[picture, *(figures.overlay(picture, _map(layer, where)) for layer in maps)] for where in places.values()]
    words = list(places)
    return labelled_grid(rows, row_labels=words, column_labels=["picture", *pplus.layers.names], cell=72), words


def _map(layer: Tensor, where: range) -> np.ndarray:
    return layer[0, :, where.start : where.stop].sum(-1).numpy()


def _curves(shares: Tensor, kinds: Sequence[str]) -> dict[str, Curve]:
    """A curve over layers for each kind: ``[prompt, layer, kind]`` → means and bands."""
    found = {}
    for number, kind in enumerate(kinds):
        ends = [mean_interval(shares[:, layer, number].tolist()) for layer in range(shares.shape[1])]
        found[kind] = Curve([i.value for i in ends], [i.low for i in ends], [i.high for i in ends])
    return found


def _table(layers: Sequence[str], curves: dict[str, Curve]) -> Table:
    return {"layer": layers, **{kind: [f"{v:.3f}" for v in curve.values] for kind, curve in curves.items()}}
