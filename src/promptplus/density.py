"""Kernel density estimate of token embeddings, with gradients.

The paper shows that learned tokens lie where the density of words is low, and uses the density as a regulariser for
mixing. It does not give kernel and bandwidth. Our choice: an isotropic Gaussian kernel, whose bandwidth maximises the
leave-one-out likelihood. All is computed as logarithms in float64, because in 768 dimensions the density itself
underflows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from promptplus.errors import SettingsError
from promptplus.text_encoders import TextEncoder

GOLDEN = (math.sqrt(5) - 1) / 2
MOST_WORDS = 4096  # the matrix of their distances fits into memory
END, BEGIN = "</w>", "▁"  # of whole words: CLIP marks the end, T5 and Gemma the beginning
SEARCH_STEPS = 40  # of the golden-section search: eight digits of the bandwidth's logarithm


@dataclass(frozen=True)
class TokenDensity:
    """A kernel density estimate over the space of token embeddings.

    Attributes:
        points: the token embeddings that it is estimated from, in float64.
        bandwidth: standard deviation of the kernel, in the unit of the embeddings.
    """

    points: Float64[Tensor, "points width"] = field(repr=False)
    bandwidth: float

    @classmethod
    def fit(cls, points: Float[Tensor, "*points width"]) -> Self:
        """Estimate the density of token embeddings, with the bandwidth of the highest leave-one-out likelihood.

        Raises SettingsError where ``points`` is not ``[points, width]`` with at least three points.
        """
        if points.ndim != 2 or len(points) < 3:
            raise SettingsError(f"a density needs at least three token embeddings [N, width], not {list(points.shape)}")
        points = points.detach().double().cpu()
        squares = _squares(points, points)
        nearest = squares.clone().fill_diagonal_(math.inf).min(1).values.clamp(min=1e-12).sqrt()
        low, high = math.log(float(nearest.min())) - 4, math.log(float(squares.max().sqrt())) + 1

        def score(log_bandwidth: float) -> float:
            return float(_log_density(squares, math.exp(log_bandwidth), points.shape[1], leave_out=True).mean())

        for _ in range(SEARCH_STEPS):
            a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            low, high = (low, b) if score(a) > score(b) else (a, high)
        return cls(points, math.exp((low + high) / 2))

    @classmethod
    def over_words(cls, encoders: Sequence[TextEncoder]) -> Self:
        """Estimate the density of the most frequent words, on the text encoders' device.

        With two text encoders a word's embeddings lie side by side, as in a concept's rows.
        """
        _, embeddings = common_word_embeddings(encoders)
        return cls.fit(embeddings).to(embeddings.device)

    def to(self, device: torch.device) -> Self:
        """The same density on another device."""
        return replace(self, points=self.points.to(device))

    def log_density(self, rows: Float[Tensor, "*any width"]) -> Float64[Tensor, "*any"]:
        """Natural logarithm of the density at each embedding row. It is differentiable."""
        flat = rows.reshape(-1, rows.shape[-1]).double()
        return _log_density(_squares(flat, self.points), self.bandwidth, rows.shape[-1]).view(rows.shape[:-1])

    def of_words(self) -> Float64[Tensor, " points"]:
        """Log density at each of the points it was estimated from, estimated without that point (leave-one-out)."""
        return _log_density(_squares(self.points, self.points), self.bandwidth, self.points.shape[1], leave_out=True)


def common_words(tokenizer: Any, most: int = MOST_WORDS) -> list[int]:
    """Token ids of the most frequent words of a vocabulary, which is ordered by frequency.

    Only whole words of two letters and more count: the embeddings of word pieces and single characters lie elsewhere,
    and some were never trained.
    """
    words = {number: word for token, number in tokenizer.get_vocab().items() if (word := whole_word(token))}
    return [number for number, word in sorted(words.items()) if len(word) > 1 and word.isalpha()][:most]


def whole_word(token: str) -> str:
    """The word of a token that is a whole word; "" for pieces. CLIP marks a word's end, T5 and Gemma its beginning."""
    if token.endswith(END):
        return token.removesuffix(END)
    return token.removeprefix(BEGIN) if token.startswith(BEGIN) else ""


def common_word_embeddings(encoders: Sequence[TextEncoder]) -> tuple[list[str], Float[Tensor, "words width"]]:
    """The most frequent words that all text encoders have, with embeddings side by side as in a concept's rows."""
    first = encoders[0]
    tokens = first.tokenizer.convert_ids_to_tokens(common_words(first.tokenizer))
    vocabularies = [encoder.tokenizer.get_vocab() for encoder in encoders]
    shared = [token for token in tokens if all(token in vocabulary for vocabulary in vocabularies)]
    ids = [[vocabulary[token] for token in shared] for vocabulary in vocabularies]
    parts = [encoder.table.detach()[own] for encoder, own in zip(encoders, ids, strict=True)]
    return [whole_word(token) for token in shared], torch.cat([part.to(parts[0].device) for part in parts], dim=-1)


def _squares(a: Float64[Tensor, "a width"], b: Float64[Tensor, "b width"]) -> Float64[Tensor, "a b"]:
    """Squared distances; in float64 this short form is exact enough."""
    return (a.square().sum(-1)[:, None] + b.square().sum(-1) - 2 * a @ b.T).clamp(min=0)


def _log_density(
    squares: Float64[Tensor, "rows points"], bandwidth: float, width: int, leave_out: bool = False
) -> Float64[Tensor, " rows"]:
    """Log density from squared distances; ``leave_out`` omits the diagonal."""
    exponents = -squares / (2 * bandwidth**2)
    count = squares.shape[1]
    if leave_out:
        exponents = exponents.masked_fill(torch.eye(count, dtype=torch.bool, device=squares.device), -math.inf)
        count -= 1
    return torch.logsumexp(exponents, 1) - math.log(count) - width / 2 * math.log(2 * math.pi * bandwidth**2)
