"""Where rows may lie in token space: anywhere, or no farther out than words do."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from promptplus.choices import Constraint

PRIOR = 1e-4  # pull towards the direction a row began in (our choice; the method's authors have such a term)


@dataclass(frozen=True)
class NormConstraint:
    """What a step may do to rows ``[row, vector, width]``.

    ``none``: anything (paper). ``norm``: after each step the rows go back to the vocabulary's mean norm. ``direction``:
    the rows turn on the sphere of that norm and nothing else, with a weak pull to where they began (Directional Textual
    Inversion, arXiv 2512.13672; theirs is plain gradient descent, ours AdamW on the tangent).
    """

    constraint: Constraint
    norm: float
    start: Tensor

    @classmethod
    def of(cls, constraint: Constraint, table: Tensor, start: Tensor) -> Self:
        """``table``: the vocabulary's token embeddings ``[words, width]``; ``start``: the rows as they begin."""
        norm = float(table.detach().float().norm(dim=-1).mean()) if constraint != "none" else 0.0
        return cls(constraint, norm, start)

    def fit(self, rows: Tensor) -> Tensor:
        """The nearest rows that are allowed."""
        if self.constraint == "none":
            return rows
        return rows * (self.norm / rows.norm(dim=-1, keepdim=True))

    def steer(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """The part of a gradient that may be followed."""
        if self.constraint != "direction":
            return gradient
        outward = torch.nn.functional.normalize(rows, dim=-1)
        pull = PRIOR * torch.nn.functional.normalize(self.start, dim=-1) / self.norm
        gradient = gradient - pull
        return gradient - (gradient * outward).sum(-1, keepdim=True) * outward
