"""Muon (Jordan et al., 2024), split over the processes: each matrix moves along its momentum made orthogonal.

``torch.optim.Muon`` takes no convolutions, computes in bfloat16, which this CPU emulates, and repeats the work in every
process. Beside AdamW at half the rate, whose noise is alike, the U-Net's loss fell by .005 in 250 steps (docs/log.md).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from .loop import adamw, rank, world_size

MOMENTUM, ROUNDS = 0.95, 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of Jordan's quintic, which drives singular values towards one."""
ADAMW_SCALE = 0.2
"""Makes an update as large as AdamW's, so that the rate may be shared (Liu et al., 2025)."""
ENDS = ("embeddings", "conv_in", "conv_out")
"""What AdamW keeps, besides vectors."""
AT_ONCE = 4
"""Matrices in one batched product: enough work for a thread, small enough to be shared out evenly."""


class Muon(torch.optim.Optimizer):
    """For weights of two and more dimensions; the trailing ones count as one."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        shapes: dict[torch.Size, list[int]] = defaultdict(list)
        for number, parameter in enumerate(parameters):
            shapes[parameter.flatten(1).shape].append(number)
        batches = [same[i : i + AT_ONCE] for same in shapes.values() for i in range(0, len(same), AT_ONCE)]
        self.mine = share(batches, [parameters[batch[0]].flatten(1).shape for batch in batches])

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move each weight once."""
        (group,) = self.param_groups
        weights, gradients = group["params"], [weight.grad for weight in group["params"]]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
        moves = [torch.zeros(weight.shape) for weight in weights]
        for batch in self.mine:
            matrices = torch.stack([ahead[i].flatten(1) for i in batch])
            for i, matrix in zip(batch, orthogonal(matrices), strict=True):
                moves[i] = matrix * (ADAMW_SCALE * max(matrix.shape) ** 0.5)
        if world_size() > 1:
            moves = gathered(moves)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for weight, move in zip(weights, moves, strict=True):
            weight.add_(move.view(weight.shape), alpha=-group["lr"])


def share(batches: Sequence[list[int]], shapes: Sequence[torch.Size]) -> list[list[int]]:
    """This process's part of the batches, each process with about as much to do."""
    work = [len(batch) * min(shape) ** 2 * max(shape) for batch, shape in zip(batches, shapes, strict=True)]
    loads, mine = [0] * world_size(), []
    for number in sorted(range(len(batches)), key=lambda number: -work[number]):
        least = loads.index(min(loads))
        loads[least] += work[number]
        if least == rank():
            mine.append(batches[number])
    return mine


def gathered(moves: Sequence[Tensor]) -> list[Tensor]:
    """Every process's part together; what another one did is zero here."""
    flat = torch.cat([move.flatten() for move in moves])
    torch.distributed.all_reduce(flat)
    return list(flat.split([move.numel() for move in moves]))


def polynomial(gram: Tensor) -> Tensor:
    """a + b G + c G² of `COEFFICIENTS`, for matrices G [N, A, A]."""
    a, b, c = COEFFICIENTS
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=-2, dim2=-1).add_(a)
    return result


def orthogonal(matrices: Tensor) -> Tensor:
    """[N, A, B] → the nearest orthogonal ones, roughly: singular values end between .7 and 1.2.

    The rounds are done on the small Gram matrix G = M Mᵀ: M → (a + b G + c G²) M is repeated as a product of such
    factors, which commute, and meets M itself but once.
    """
    if matrices.shape[-2] > matrices.shape[-1]:
        return orthogonal(matrices.mT).mT
    matrices = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    gram = matrices @ matrices.mT
    factor = product = polynomial(gram)
    for _ in range(ROUNDS - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        product = factor @ product
    return product @ matrices


class MuonAndAdamW:
    """AdamW for vectors, embeddings and the denoiser's two ends, Muon for the matrices between: one optimiser."""

    def __init__(self, model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        inner = [weight for name, weight in named if weight.ndim > 1 and not any(part in name for part in ENDS)]
        chosen = set(map(id, inner))
        outer = [weight for _, weight in named if id(weight) not in chosen]
        self.adamw = adamw(outer, lr=lr, betas=betas, weight_decay=weight_decay)
        self.muon = Muon(inner, lr, weight_decay)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [*self.adamw.param_groups, *self.muon.param_groups]

    def zero_grad(self) -> None:
        self.adamw.zero_grad()
        self.muon.zero_grad()

    def step(self) -> None:
        self.adamw.step()
        self.muon.step()

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self.adamw.state_dict(), "muon": self.muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.adamw.load_state_dict(state["adamw"])
        self.muon.load_state_dict(state["muon"])
