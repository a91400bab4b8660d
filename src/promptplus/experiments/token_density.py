"""The study of token density: how densely words lie around learned rows, beside controls (paper section 4, density)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.concept import Concept
from promptplus.density import TokenDensity, common_word_embeddings
from promptplus.experiments.study import Study
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.html import Figure, Section
from promptplus.report.tables import Table
from promptplus.training.batches import generator

CONTROLS = 500  # points of each random control; our choice
LEAD = (
    "The logarithm of the density of words around each row: a Gaussian kernel over the vocabulary's common words, with "
    "the bandwidth of the highest likelihood. A word does not count in its own density. The controls show what a row's "
    "direction and its length each contribute."
)


@dataclass(frozen=True)
class NearestWords:
    """A layer's row, its norm, and the nearest words with their distances."""

    layer: str
    norm: float
    words: tuple[tuple[str, float], ...]


def study(pplus: PPlus, groups: Mapping[str, Sequence[Concept]]) -> Study:
    """Densities of words, controls and groups of concepts; the nearest words of every concept's rows."""
    densities = log_densities(pplus, groups)
    near = {f"{c.token}, {name}": nearest_words(pplus, c) for name, group in groups.items() for c in group}
    drawn = figures.histogram(
        {name: values.tolist() for name, values in densities.items()}, xlabel="log density (natural logarithm)"
    )
    table = _density_table(densities)
    sections = [
        Section("Log density", "", [Figure(drawn, name="log-density")], table),
        *(Section(f"Nearest words of {name}", table=_words_table(rows)) for name, rows in near.items()),
    ]
    density = TokenDensity.over_words(pplus.encoders)
    values = {
        "bandwidth": density.bandwidth,
        "log_density": {name: [round(v, 3) for v in numbers.tolist()] for name, numbers in densities.items()},
        "by_concept": {name: _means_by_concept(density, group) for name, group in groups.items()},
        "nearest": {name: {row.layer: dict(row.words) for row in rows} for name, rows in near.items()},
    }
    return Study("density", "How densely words lie around rows", LEAD, sections, values, {"log-density": table})


def log_densities(
    pplus: PPlus, concepts: Mapping[str, Sequence[Concept]], seed: int = 0
) -> dict[str, Float[Tensor, " points"]]:
    """The log density of words, controls and rows, by name, in float64.

    Controls: the midpoint of two words (not learned, but no word); a random direction at the words' mean norm (as far
    from the origin as a word); each group's rows, rescaled to that norm (without the effect of their length).

    Args:
        concepts: groups by name, such as ``TI`` and ``XTI``. Rows that layers share count once.
    """
    density = TokenDensity.over_words(pplus.encoders)
    words, g = density.points, generator(f"density controls {seed}")
    norm = words.norm(dim=-1).mean()
    pairs = torch.stack([torch.randperm(len(words), generator=g)[:2] for _ in range(CONTROLS)]).to(words.device)
    directions = torch.randn(CONTROLS, words.shape[1], generator=g, dtype=torch.float64).to(words.device)
    densities = {
        "words": density.of_words(),
        "midpoints of two words": density.log_density(words[pairs].mean(1)),
        "random directions": density.log_density(_at_norm(directions, norm)),
    }
    for name, group in concepts.items():
        rows = torch.cat([rows_of(concept) for concept in group]).to(words.device)
        densities[name] = density.log_density(rows)
        densities[f"{name}, at word norm"] = density.log_density(_at_norm(rows, norm))
    return {name: values.cpu() for name, values in densities.items()}


def rows_of(concept: Concept) -> Float[Tensor, "rows width"]:
    """A concept's rows in float64. Rows that layers share are there once."""
    return torch.unique(concept.rows.flatten(0, 1), dim=0).double()


def nearest_words(pplus: PPlus, concept: Concept, count: int = 3) -> list[NearestWords]:
    """The ``count`` words nearest to each row by Euclidean distance; layers in forward order."""
    names, embeddings = common_word_embeddings(pplus.encoders)
    table = embeddings.float().cpu()
    nearest = []
    for layer, rows in zip(concept.layers, concept.rows, strict=True):
        for row in rows:
            distances, order = (table - row).norm(dim=-1).topk(min(count, len(table)), largest=False)
            words = tuple((names[i], d) for i, d in zip(order.tolist(), distances.tolist(), strict=True))
            nearest.append(NearestWords(layer.name, float(row.norm()), words))
    return nearest


def _at_norm(rows: Float[Tensor, "rows width"], norm: Tensor) -> Float[Tensor, "rows width"]:
    return rows * (norm / rows.norm(dim=-1, keepdim=True))


def _means_by_concept(density: TokenDensity, group: Sequence[Concept]) -> dict[str, float]:
    """Each concept's mean log density. Intervals are over concepts, because a concept's rows share a training."""
    device = density.points.device
    return {c.token: float(density.log_density(rows_of(c).to(device)).mean()) for c in group}


def _density_table(densities: Mapping[str, Tensor]) -> Table:
    def quantiles(share: float) -> list[str]:
        return [f"{float(values.quantile(share)):.1f}" for values in densities.values()]

    counts = [len(values) for values in densities.values()]
    columns: Table = {"": list(densities), "rows": counts, "median": quantiles(0.5)}
    return {**columns, "5 %": quantiles(0.05), "95 %": quantiles(0.95)}


def _words_table(rows: Sequence[NearestWords]) -> Table:
    words = [", ".join(f"{word} ({distance:.2f})" for word, distance in row.words) for row in rows]
    return {"layer": [r.layer for r in rows], "norm": [f"{r.norm:.2f}" for r in rows], "nearest (distance)": words}
