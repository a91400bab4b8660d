"""Constraints on the norm of token rows: none, the norm of words, or the direction alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.choices import Constraint

Rows = Float[Tensor, "rows vectors width"]
PRIOR = 1e-4  # weight of the pull to a row's first direction (our choice; the method's authors have such a term)


@dataclass(frozen=True)
class NormConstraint:
    """What a training step may do to token rows. With two text encoders it holds for each one's part of a row.

    ``none``: anything (paper). ``norm``: after each step the rows are scaled to the vocabulary's mean norm.
    ``direction``: the rows turn on the sphere of that norm and do nothing else, with a weak pull to their first
    direction (Directional Textual Inversion, arXiv 2512.13672, which uses plain gradient descent; ours is AdamW on the
    tangent).

    Attributes:
        norms: the mean norm of each vocabulary's token embeddings, by the widths of the rows' parts.
        start: the rows as they began.
    """

    constraint: Constraint
    norms: tuple[tuple[int, float], ...]
    start: Rows

    @classmethod
    def of(cls, constraint: Constraint, tables: Sequence[Float[Tensor, "words part"]], start: Rows) -> Self:
        """``tables``: the token embeddings of each text encoder; ``start``: the rows as they begin."""
        free = constraint == "none"
        norms = tuple((t.shape[1], 0.0 if free else float(t.detach().float().norm(dim=-1).mean())) for t in tables)
        return cls(constraint, norms, start)

    def fit(self, rows: Rows) -> Rows:
        """The nearest allowed rows."""
        if self.constraint == "none":
            return rows
        parts = zip(self._parts(rows), self.norms, strict=True)
        return torch.cat([part * (norm / part.norm(dim=-1, keepdim=True)) for part, (_, norm) in parts], dim=-1)

    def steer(self, rows: Rows, gradient: Rows) -> Rows:
        """The part of a gradient that keeps to the constraint."""
        if self.constraint != "direction":
            return gradient
        parts = zip(self._parts(rows), self._parts(gradient), self._parts(self.start), self.norms, strict=True)
        return torch.cat([_along_sphere(row, g, start, norm) for row, g, start, (_, norm) in parts], dim=-1)

    def _parts(self, rows: Rows) -> tuple[Tensor, ...]:
        """The rows' part for each text encoder."""
        return rows.split([width for width, _ in self.norms], dim=-1)


def _along_sphere(rows: Rows, gradient: Rows, start: Rows, norm: float) -> Rows:
    """The gradient without what points outward, and with the pull to the first direction."""
    outward = torch.nn.functional.normalize(rows, dim=-1)
    gradient = gradient - PRIOR * torch.nn.functional.normalize(start, dim=-1) / norm
    return gradient - (gradient * outward).sum(-1, keepdim=True) * outward
