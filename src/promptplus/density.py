"""How densely words lie in token space: a Gaussian kernel density of token embeddings, and its gradient.

The paper shows that learned tokens lie where words hardly are, and regularises mixing by density; its kernel and
bandwidth are not known. Ours: an isotropic Gaussian whose bandwidth maximises the leave-one-out likelihood, all in
float64 and log-sum-exp, since in 768 dimensions a density itself is no number a computer holds.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from promptplus.errors import SettingsError

GOLDEN = (math.sqrt(5) - 1) / 2
MOST_WORDS = 4096  # whose distances fit into memory, squared
END = "</w>"  # ends a whole word in CLIP's vocabularies
SEARCHED = 40  # golden-section steps: the bandwidth's log to eight digits


@dataclass(frozen=True)
class TokenDensity:
    """A density over token space.

    Attributes:
        points: ``[N, width]`` float64, the token embeddings it stands on.
        bandwidth: standard deviation of the kernel, in the embeddings' own unit.
    """

    points: Tensor = field(repr=False)
    bandwidth: float

    @classmethod
    def fit(cls, points: Tensor) -> Self:
        """The density of ``[N, width]`` token embeddings, N ≥ 3, with the likeliest bandwidth."""
        if points.ndim != 2 or len(points) < 3:
            raise SettingsError(f"a density needs at least three token embeddings [N, width], not {list(points.shape)}")
        points = points.detach().double().cpu()
        squares = _squares(points, points)
        nearest = squares.clone().fill_diagonal_(math.inf).min(1).values.clamp(min=1e-12).sqrt()
        low, high = math.log(float(nearest.min())) - 4, math.log(float(squares.max().sqrt())) + 1

        def score(log_bandwidth: float) -> float:
            return float(_log_density(squares, math.exp(log_bandwidth), points.shape[1], leave_out=True).mean())

        for _ in range(SEARCHED):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            low, high = (low, b) if score(a) > score(b) else (a, high)
        return cls(points, math.exp((low + high) / 2))

    @classmethod
    def over_words(cls, pipe: Any) -> Self:
        """The density of a pipeline's commonest words, on its text encoder's device."""
        table = pipe.text_encoder.get_input_embeddings().weight.detach()
        return cls.fit(table[common_words(pipe.tokenizer)]).to(table.device)

    def to(self, device: torch.device) -> Self:
        """The same density on another device."""
        return replace(self, points=self.points.to(device))

    def log_density(self, rows: Tensor) -> Tensor:
        """Natural log of the density at ``[..., width]`` rows → ``[...]`` float64; differentiable."""
        flat = rows.reshape(-1, rows.shape[-1]).double()
        return _log_density(_squares(flat, self.points), self.bandwidth, rows.shape[-1]).view(rows.shape[:-1])

    def of_words(self) -> Tensor:
        """Log density ``[N]`` of each of its own points among the others (leave-one-out)."""
        return _log_density(_squares(self.points, self.points), self.bandwidth, self.points.shape[1], leave_out=True)


def common_words(tokenizer: Any, most: int = MOST_WORDS) -> list[int]:
    """Ids of whole words of two letters and more, in the order the vocabulary was built, which is by frequency.

    Pieces of words and single signs hold places of their own, and some were never trained.
    """
    words = {id_: piece.removesuffix(END) for piece, id_ in tokenizer.get_vocab().items() if piece.endswith(END)}
    return [id_ for id_, word in sorted(words.items()) if len(word) > 1 and word.isalpha()][:most]


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances ``[A, B]`` of ``[A, D]`` and ``[B, D]``; in float64 this short form is exact enough."""
    return (a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T).clamp(min=0)


def _log_density(squares: Tensor, bandwidth: float, width: int, leave_out: bool = False) -> Tensor:
    exponents = -squares / (2 * bandwidth**2)
    count = squares.shape[1]
    if leave_out:
        exponents = exponents.masked_fill(torch.eye(count, dtype=torch.bool, device=squares.device), -math.inf)
        count -= 1
    return torch.logsumexp(exponents, 1) - math.log(count) - width / 2 * math.log(2 * math.pi * bandwidth**2)
