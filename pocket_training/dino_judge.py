"""The judge of likeness: a small vision transformer trained by self-distillation (DINO, Caron et al., 2021) on renders.

Two pictures of the same things, drawn anew on other backgrounds and in other poses, are the two views whose student and
teacher have to agree; with crops of them, blur and noise. So what counts is the things, not what lies behind them. No
label, caption or generated picture is seen. Architecture and folder are those of `facebook/dino-vits16`, in small.
"""

import copy
import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from promptplus.pocket.world import SIZE

from . import data
from .loop import Options, Training, autocast, to_pixels

WIDTH, LAYERS, HEADS, PATCH = 192, 5, 3, 8
PROTOTYPES, HIDDEN, BOTTLENECK = 1024, 512, 96
LENGTHS = {"cpu": (2000, 48), "cuda": (12_000, 256)}
"""Steps and batch on each kind of device."""
PEAK, WARMUP, SEED, WEIGHT_DECAY = 8e-4, 100, 6, 0.04
STUDENT, TEACHER = 0.1, 0.05
"""Temperatures (DINO's, the teacher's a little softer for small batches)."""
CENTRE, MOMENTUM = 0.9, 0.992
"""Of the centre's and of the teacher's moving averages; the teacher's for a shorter training than DINO's."""
WHOLE, PIECES, PIECE = (0.6, 1.0), 2, (0.25, 0.55)
"""Area of the large crops, number and area of the small ones (half as large in pixels)."""
NOISE = 0.06


def build() -> ViTModel:
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=SIZE,
        patch_size=PATCH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return ViTModel(config, add_pooling_layer=False)


class Network(nn.Module):
    """The transformer and DINO's projection head: pixels → logits over prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = build()
        self.head = nn.Sequential(
            nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, BOTTLENECK)
        )
        self.prototypes = nn.Linear(BOTTLENECK, PROTOTYPES, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, H, W] in [-1, 1], of any size → [B, 1024]."""
        state = self.vit(pixels, interpolate_pos_encoding=pixels.shape[-1] != SIZE).last_hidden_state[:, 0]
        return F.linear(F.normalize(self.head(state), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


def crop(pixels: Tensor, size: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """A random square of each picture, `area` of it, mirrored or not, resized to `size`."""
    batch = len(pixels)
    low, high = area
    side = (low + (high - low) * torch.rand(batch, generator=generator)).sqrt()
    x, y = ((1 - side) * (2 * torch.rand(batch, generator=generator) - 1) for _ in range(2))
    mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -side, side)
    zero = torch.zeros(batch)
    theta = torch.stack([torch.stack([mirror, zero, x], 1), torch.stack([zero, side, y], 1)], 1).to(pixels.device)
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def view(pixels: Tensor, size: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """A crop, half of the time blurred, with a little noise."""
    cropped = crop(pixels, size, area, generator)
    soft = (torch.rand(len(pixels), 1, 1, 1, generator=generator) < 0.4).to(pixels.device)
    cropped = torch.where(soft, F.avg_pool2d(cropped, 3, 1, 1, count_include_pad=False), cropped)
    strength = NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    return cropped + (strength * torch.randn(cropped.shape, generator=generator)).to(pixels.device)


def distillation(student: list[Tensor], teacher: list[Tensor], centre: Tensor) -> Tensor:
    """Mean cross-entropy between every teacher view and every student view of another picture or crop."""
    targets = [F.softmax((logits - centre) / TEACHER, -1) for logits in teacher]
    losses = [
        -(target * F.log_softmax(logits / STUDENT, -1)).sum(-1).mean()
        for i, target in enumerate(targets)
        for j, logits in enumerate(student)
        if i != j
    ]
    return torch.stack(losses).mean()


def run(options: Options) -> None:
    """Train, and write the teacher's transformer to the folder `dino`."""
    torch.manual_seed(SEED)
    device = options.device
    steps, batch = LENGTHS[device.type]
    views = data.views(options.work)
    student = Network().to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    state: Any = nn.ModuleDict({"student": student, "teacher": teacher})
    state.register_buffer("centre", torch.zeros(PROTOTYPES, device=device))
    training = Training(
        "dino",
        state,
        options,
        steps=options.steps or steps,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(views), (batch,), generator=training.generator)
        pair = [to_pixels(views[chosen, i], device) for i in random_order(training.rng)]
        wholes = [view(pixels, SIZE, WHOLE, training.generator) for pixels in pair]
        pieces = [view(pair[i % 2], SIZE // 2, PIECE, training.generator) for i in range(PIECES)]
        with autocast(device):
            with torch.no_grad():
                taught = teacher(torch.cat(wholes)).float()
            learned = [*student(torch.cat(wholes)).float().chunk(2), *student(torch.cat(pieces)).float().chunk(PIECES)]
        loss = distillation(learned, list(taught.chunk(2)), state.centre)
        spread = taught.softmax(-1).mean(0)
        entropy = -(F.softmax((taught - state.centre) / TEACHER, -1).mean(0) + 1e-9).log().mul(spread).sum()
        training.update(loss, entropy=entropy.item())
        with torch.no_grad():
            state.centre.lerp_(taught.mean(0), 1 - CENTRE)
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - MOMENTUM)
    folder = options.work / "dino"
    teacher.vit.half().save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=half, image_std=half).save_pretrained(folder)


def random_order(rng: random.Random) -> tuple[int, int]:
    return (0, 1) if rng.random() < 0.5 else (1, 0)
