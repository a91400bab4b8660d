"""The stand-in's U-Net: real attention blocks that call patches as ComfyUI's do, from a description of those."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossAttention(nn.Module):
    def __init__(self, width: int, context: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(w, width, bias=False) for w in (width, context, context))
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, value: Tensor | None = None) -> Tensor:
        made = self.to_q(x), self.to_k(context), self.to_v(context if value is None else value)
        q, k, v = (one.unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in made)
        return self.to_out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class BasicTransformerBlock(nn.Module):
    """A layer: self-attention, attention to the text with patches, and a small network."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = CrossAttention(width, width), CrossAttention(width, context)
        self.ff = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        n = self.norm1(x)
        x = x + self.attn1(n, n)
        n, value = self.norm2(x), None
        told = {key: one for key, one in options.items() if key not in ("patches", "patches_replace")}
        for patch in options.get("patches", {}).get("attn2_patch", []):
            value = context if value is None else value
            n, context, value = patch(n, context, value, {**told, "n_heads": 2, "dim_head": n.shape[-1] // 2})
        x = x + self.attn2(n, context, value)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    def __init__(self, width: int, context: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, width)
        self.transformer_blocks = nn.ModuleList(BasicTransformerBlock(width, context) for _ in range(depth))

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        n = self.norm(x).flatten(2).transpose(1, 2)
        for number, block in enumerate(self.transformer_blocks):
            options["block_index"] = number
            n = block(n, context, options)
        return x + n.transpose(1, 2).unflatten(-1, x.shape[2:])


class ResBlock(nn.Module):
    def __init__(self, inside: int, outside: int, time: int) -> None:
        super().__init__()
        self.conv, self.skip = nn.Conv2d(inside, outside, 3, padding=1), nn.Conv2d(inside, outside, 1)
        self.time = nn.Linear(time, outside)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.skip(x) + functional.silu(self.conv(x) + self.time(time)[..., None, None])


class Downsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2)


class Upsample(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2)


class UNetModel(nn.Module):
    """Two residual blocks for each level on the way down, three on the way up; ``depths``: layers of a transformer."""

    def __init__(self, context: int, depths: Sequence[int], middle: int, pooled: int = 0, width: int = 4) -> None:
        super().__init__()
        self.label = nn.Linear(pooled, width) if pooled else None
        self.time = nn.Linear(1, width)

        def stage(inside: int, depth: int) -> list[nn.Module]:
            attention = [SpatialTransformer(width, context, depth)] if depth else []
            return [ResBlock(inside, width, width), *attention]

        down: list[list[nn.Module]] = [[nn.Conv2d(4, width, 3, padding=1)]]
        up: list[list[nn.Module]] = []
        for level, depth in enumerate(depths):
            down += [*([[Downsample()]] if level else []), stage(width, depth), stage(width, depth)]
        for level, depth in reversed(list(enumerate(depths))):
            up += [stage(2 * width, depth) for _ in range(3)]
            up[-1] += [Upsample()] if level else []
        self.input_blocks = nn.ModuleList(nn.ModuleList(block) for block in down)
        self.middle_block = nn.ModuleList([*stage(width, middle), ResBlock(width, width, width)])
        self.output_blocks = nn.ModuleList(nn.ModuleList(block) for block in up)
        self.out = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, y: Tensor | None, options: dict[str, Any]) -> Tensor:
        time = self.time(t[:, None])
        if self.label is not None:
            assert y is not None
            time = time + self.label(y)
        options["transformer_index"] = 0
        skips: list[Tensor] = []
        for number, block in enumerate(self.input_blocks):
            options["block"] = ("input", number)
            x = self._run(block, x, time, context, options)
            skips.append(x)
        options["block"] = ("middle", 0)
        x = self._run(self.middle_block, x, time, context, options)
        for number, block in enumerate(self.output_blocks):
            options["block"] = ("output", number)
            x = self._run(block, torch.cat([x, skips.pop()], dim=1), time, context, options)
        return self.out(x)

    @staticmethod
    def _run(block: Any, x: Tensor, time: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        for module in block:
            if isinstance(module, SpatialTransformer):
                x = module(x, context, options)
                options["transformer_index"] += 1
            else:
                x = module(x, time) if isinstance(module, ResBlock) else module(x)
        return x
