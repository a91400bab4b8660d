"""Constraints on the norm of token rows: none, the norm of words, or the direction alone."""

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
    """What a training step may do to token rows.

    ``none``: anything (paper). ``norm``: after each step the rows are scaled to the vocabulary's mean norm.
    ``direction``: the rows turn on the sphere of that norm and do nothing else, with a weak pull to their first
    direction (Directional Textual Inversion, arXiv 2512.13672, which uses plain gradient descent; ours is AdamW on the
    tangent).

    Attributes:
        norm: the vocabulary's mean norm.
        start: the rows as they began.
    """

    constraint: Constraint
    norm: float
    start: Rows

    @classmethod
    def of(cls, constraint: Constraint, table: Float[Tensor, "words width"], start: Rows) -> Self:
        """``table``: the vocabulary's token embeddings; ``start``: the rows as they begin."""
        norm = float(table.detach().float().norm(dim=-1).mean()) if constraint != "none" else 0.0
        return cls(constraint, norm, start)

    def fit(self, rows: Rows) -> Rows:
        """The nearest allowed rows."""
        if self.constraint == "none":
            return rows
        return rows * (self.norm / rows.norm(dim=-1, keepdim=True))

    def steer(self, rows: Rows, gradient: Rows) -> Rows:
        """The part of a gradient that keeps to the constraint."""
        if self.constraint != "direction":
            return gradient
        outward = torch.nn.functional.normalize(rows, dim=-1)
        pull = PRIOR * torch.nn.functional.normalize(self.start, dim=-1) / self.norm
        gradient = gradient - pull
        return gradient - (gradient * outward).sum(-1, keepdim=True) * outward
