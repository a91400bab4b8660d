"""Where learned rows lie among words: log densities beside honest controls, and each row's nearest words (paper 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.density import END, TokenDensity, common_words
from promptplus.training.batches import generator

DRAWN = 500  # of the controls that are drawn; our choice


@dataclass(frozen=True)
class Nearest:
    """A layer's row, its norm, and the words that lie nearest, with their distances."""

    layer: str
    norm: float
    words: tuple[tuple[str, float], ...]


def log_densities(pipe: Any, concepts: Mapping[str, Sequence[Concept]], seed: int = 0) -> dict[str, Tensor]:
    """Log density of words, controls and rows: by name, ``[number]`` float64.

    Controls: the midpoint of two words (nothing learned, yet no word), a random direction at the words' mean norm (as
    far out, but nowhere), and each group's rows rescaled to that norm (what is left when length does not count).
    ``concepts``: groups of rows by name, as ``TI`` and ``XTI``; rows that layers share count once.
    """
    density = TokenDensity.over_words(pipe)
    words, g = density.points, generator(f"density controls {seed}")
    norm = words.norm(dim=-1).mean()
    pairs = torch.stack([torch.randperm(len(words), generator=g)[:2] for _ in range(DRAWN)]).to(words.device)
    directions = torch.randn(DRAWN, words.shape[1], generator=g, dtype=torch.float64).to(words.device)
    found = {
        "words": density.of_words(),
        "midpoints of two words": density.log_density(words[pairs].mean(1)),
        "random directions": density.log_density(_at(directions, norm)),
    }
    for name, group in concepts.items():
        rows = torch.cat([rows_of(concept) for concept in group]).to(words.device)
        found[name] = density.log_density(rows)
        found[f"{name}, at word norm"] = density.log_density(_at(rows, norm))
    return {name: values.cpu() for name, values in found.items()}


def rows_of(concept: Concept) -> Tensor:
    """A concept's rows ``[row, width]`` in float64; those that layers share once."""
    return torch.unique(concept.rows.flatten(0, 1), dim=0).double()


def nearest_words(pipe: Any, concept: Concept, count: int = 3) -> list[Nearest]:
    """The words nearest to each layer's rows (Euclidean), forward order; ``count`` for each."""
    ids = common_words(pipe.tokenizer)
    table = pipe.text_encoder.get_input_embeddings().weight.detach().float().cpu()[ids]
    names = [piece.removesuffix(END) for piece in pipe.tokenizer.convert_ids_to_tokens(ids)]
    found = []
    for layer, rows in zip(concept.layers, concept.rows, strict=True):
        for row in rows:
            distances, order = (table - row).norm(dim=-1).topk(min(count, len(table)), largest=False)
            words = tuple((names[i], d) for i, d in zip(order.tolist(), distances.tolist(), strict=True))
            found.append(Nearest(layer.name, float(row.norm()), words))
    return found


def _at(rows: Tensor, norm: Tensor) -> Tensor:
    return rows * (norm / rows.norm(dim=-1, keepdim=True))
