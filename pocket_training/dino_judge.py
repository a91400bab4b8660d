"""Training of the judge DINO: a small vision transformer, self-distilled on renders (DINO, Caron et al., 2021).

Student and teacher have to agree on two pictures of the same things on different backgrounds and in different poses,
and on crops of them. So the features describe the things and not the background. Labels, captions and generated
pictures are not used. Architecture and files are those of `facebook/dino-vits16`, with smaller sizes.
"""

import copy
import random
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from promptplus.pocket.world import SIZE

from . import data
from .loop import Training, TrainingConfig, autocast, to_pixels

WIDTH, LAYERS, HEADS, PATCH = 192, 5, 3, 8
PROTOTYPES, HIDDEN, BOTTLENECK = 1024, 512, 96
"""Sizes of the projection head: outputs, hidden layers, last layer before the outputs (our choice)."""
LENGTHS = {"cpu": (2000, 48), "cuda": (12_000, 256)}
"""Steps and batch size, by kind of device (our choice)."""
PEAK, WARMUP, SEED, WEIGHT_DECAY = 8e-4, 100, 6, 0.04
STUDENT, TEACHER = 0.1, 0.05
"""Temperatures: DINO's; the teacher's is a little higher, for small batches (our choice)."""
CENTRE, MOMENTUM = 0.9, 0.992
"""Decay of the moving averages of the centre (DINO's) and of the teacher (lower than DINO's, for fewer steps)."""
GLOBAL_AREA, LOCAL_CROPS, LOCAL_AREA = (0.6, 1.0), 2, (0.25, 0.55)
"""Least and greatest share of the area in a global crop; number and area of local crops, which have half the size in
pixels (our choice)."""
BLURRED, NOISE = 0.4, 0.06
"""Probability of blur; greatest standard deviation of the noise (our choice)."""


def build() -> ViTModel:
    """A vision transformer with random weights."""
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

    def forward(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1024"]:
        """Logits over the prototypes; pixels in [-1, 1], of any size."""
        state = self.vit(pixels, interpolate_pos_encoding=pixels.shape[-1] != SIZE).last_hidden_state[:, 0]
        return F.linear(F.normalize(self.head(state), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


def crop(
    pixels: Float[Tensor, "batch 3 height width"], size: int, area: tuple[float, float], generator: torch.Generator
) -> Float[Tensor, "batch 3 {size} {size}"]:
    """A random square crop of each picture, mirrored with probability 1/2 and resized to `size`.

    `area` is the least and the greatest share of the picture's area.
    """
    batch = len(pixels)
    low, high = area
    side = (low + (high - low) * torch.rand(batch, generator=generator)).sqrt()
    x, y = ((1 - side) * (2 * torch.rand(batch, generator=generator) - 1) for _ in range(2))
    mirror = torch.where(torch.rand(batch, generator=generator) < 0.5, -side, side)
    zero = torch.zeros(batch)
    theta = torch.stack([torch.stack([mirror, zero, x], 1), torch.stack([zero, side, y], 1)], 1).to(pixels.device)
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def view(
    pixels: Float[Tensor, "batch 3 height width"], size: int, area: tuple[float, float], generator: torch.Generator
) -> Float[Tensor, "batch 3 {size} {size}"]:
    """A random crop of each picture (see `crop`), sometimes blurred, with noise."""
    cropped = crop(pixels, size, area, generator)
    soft = (torch.rand(len(pixels), 1, 1, 1, generator=generator) < BLURRED).to(pixels.device)
    cropped = torch.where(soft, F.avg_pool2d(cropped, 3, 1, 1, count_include_pad=False), cropped)
    strength = NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
    return cropped + (strength * torch.randn(cropped.shape, generator=generator)).to(pixels.device)


def distillation_loss(
    student: list[Float[Tensor, "batch prototypes"]],
    teacher: list[Float[Tensor, "batch prototypes"]],
    centre: Float[Tensor, " prototypes"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy between the teacher's view i and the student's view j, over all i ≠ j (DINO, equation 3)."""
    targets = [F.softmax((logits - centre) / TEACHER, -1) for logits in teacher]
    losses = [
        -(target * F.log_softmax(logits / STUDENT, -1)).sum(-1).mean()
        for i, target in enumerate(targets)
        for j, logits in enumerate(student)
        if i != j
    ]
    return torch.stack(losses).mean()


def run(config: TrainingConfig) -> None:
    """Train the judge DINO and write the teacher's transformer to the folder `dino`."""
    torch.manual_seed(SEED)
    device = config.device
    steps, batch = LENGTHS[device.type]
    views = data.views(config.work)
    student = Network().to(device)
    teacher = copy.deepcopy(student).requires_grad_(False)
    state: Any = nn.ModuleDict({"student": student, "teacher": teacher})
    state.register_buffer("centre", torch.zeros(PROTOTYPES, device=device))
    training = Training(
        "dino",
        state,
        config,
        steps=config.steps or steps,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
    )
    for _ in training:
        chosen = torch.randint(len(views), (batch,), generator=training.generator)
        pair = [to_pixels(views[chosen, i], device) for i in random_order(training.rng)]
        global_views = [view(pixels, SIZE, GLOBAL_AREA, training.generator) for pixels in pair]
        local_views = [view(pair[i % 2], SIZE // 2, LOCAL_AREA, training.generator) for i in range(LOCAL_CROPS)]
        with autocast(device):
            with torch.no_grad():
                teacher_logits = teacher(torch.cat(global_views)).float()
            student_logits = [
                *student(torch.cat(global_views)).float().chunk(2),
                *student(torch.cat(local_views)).float().chunk(LOCAL_CROPS),
            ]
        loss = distillation_loss(student_logits, list(teacher_logits.chunk(2)), state.centre)
        spread = teacher_logits.softmax(-1).mean(0)
        entropy = -(F.softmax((teacher_logits - state.centre) / TEACHER, -1).mean(0) + 1e-9).log().mul(spread).sum()
        training.update(loss, entropy=entropy.item())
        with torch.no_grad():
            state.centre.lerp_(teacher_logits.mean(0), 1 - CENTRE)
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - MOMENTUM)
    folder = config.work / "dino"
    teacher.vit.half().save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=half, image_std=half).save_pretrained(folder)


def random_order(rng: random.Random) -> tuple[int, int]:
    """(0, 1) or (1, 0) with equal probability."""
    return (0, 1) if rng.random() < 0.5 else (1, 0)
