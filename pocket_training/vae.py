"""Training of the autoencoder: 64 x 64 x 3 pictures to 16 x 16 x 8 latents and back.

Training has two parts. After the first, the latents are whitened, so that no channel is lost in noise: mean, scale and
correlation of the channels are folded exactly into the quant convolutions. Without further measures the autoencoder
learns outlines and textures first and paints everything in the background's colours for thousands of steps. Therefore,
in the first part, a linear probe has to predict a 16 x 16 thumbnail of the picture from the latents; in both parts
errors at low resolution have a larger weight. At the end the latents have mean 0 and standard deviation 1, so the
scaling factor is 1. Settings are our choice where no source is given.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from promptplus.pocket.world import SIZE

from . import data
from .loop import Training, TrainingConfig, autocast, channels_last, to_bytes, to_pixels, use_fast_attention

LATENT_CHANNELS = 8
"""Twice Stable Diffusion's number: with four channels the PSNR of reconstructions is 22 dB (docs/log.md)."""
CHANNELS = (32, 48, 64)
LATENT_SIZE = SIZE // 2 ** (len(CHANNELS) - 1)
"""Width and height of the latents."""
NORM_GROUPS = 8
SEED, WARMUP = 2, 40
FIRST_STEPS, FIRST_BATCH, FIRST_PEAK, FIRST_KL = 1500, 8, 2e-3, 4e-4
SECOND_STEPS, SECOND_BATCH, SECOND_PEAK, SECOND_KL = 9000, 8, 1.5e-3, 1e-4
"""Steps, batch size, greatest learning rate and weight of the KL divergence, in the first and second part. Small
batches allow more steps in the same time."""
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (2.0, -2.0, 0.0), (-1.0, -1.0, 2.0))
"""RGB to brightness, red–green and blue–yellow. The two colour axes are doubled, because they vary less."""
COLOUR = 4.0
"""Weight of the colour probe's squared error in the first part (our choice)."""
SQUARE, LOW_RESOLUTION, EDGES = 3.0, 6.0, 0.15
"""Weights of the squared error, of the squared error after 4 x 4 pooling, and of the error's differences between
neighbouring pixels."""
POSTERIOR_LOG_VARIANCE = -6.0
"""The posterior's log variance after whitening: a standard deviation of .05, where latents have 1."""
MEASURED = 1000
"""Number of pictures from which the whitening is computed."""
SHEET = (12, 3)
"""Columns and rows of the preview."""


def build() -> AutoencoderKL:
    """An autoencoder with random weights."""
    shape: dict[str, Any] = {
        "block_out_channels": CHANNELS,
        "down_block_types": ("DownEncoderBlock2D",) * len(CHANNELS),
        "up_block_types": ("UpDecoderBlock2D",) * len(CHANNELS),
    }
    return AutoencoderKL(
        latent_channels=LATENT_CHANNELS,
        layers_per_block=1,
        norm_num_groups=NORM_GROUPS,
        sample_size=SIZE,
        scaling_factor=1.0,
        **shape,
    )


@torch.no_grad()
def encode(
    vae: Any, pictures: UInt8[Tensor, "pictures 64 64 3"], device: torch.device, batch: int = 128
) -> Float[Tensor, "pictures 8 16 16"]:
    """The means of the latents, float32 on the CPU."""
    means = []
    for part in pictures.split(batch):
        with autocast(device):
            means.append(vae.encode(to_pixels(part, device)).latent_dist.mean.float().cpu())
    return torch.cat(means)


@torch.no_grad()
def decode(
    vae: Any, latents: Float[Tensor, "pictures 8 16 16"], device: torch.device, batch: int = 128
) -> UInt8[Tensor, "pictures 64 64 3"]:
    """The pictures of latents, on the CPU."""
    return torch.cat([to_bytes(vae.decode(part.to(device)).sample) for part in latents.split(batch)])


@torch.no_grad()
def whiten(vae: Any, pictures: UInt8[Tensor, "pictures 64 64 3"], device: torch.device, decorrelate: bool) -> None:
    """Fold the mean and scale of the latents into the quant convolutions; with `decorrelate` their correlation (ZCA).

    Reconstructions from the posterior's mean do not change. The posterior's variance is scaled like the latents. With
    `decorrelate`, which mixes the channels, it is reset to `POSTERIOR_LOG_VARIANCE`.
    """
    latents = encode(vae, pictures[:MEASURED], device).permute(1, 0, 2, 3).flatten(1)
    mean, covariance = latents.mean(1), torch.cov(latents)
    if decorrelate:
        values, vectors = torch.linalg.eigh(covariance)
        forward = vectors @ torch.diag(values.clamp(min=0.02) ** -0.5) @ vectors.T
    else:
        forward = torch.diag(covariance.diagonal() ** -0.5)
    forward, mean = forward.to(device), mean.to(device)
    before, after = vae.quant_conv, vae.post_quant_conv
    n = LATENT_CHANNELS
    before.weight[:n] = torch.einsum("ij,jkhw->ikhw", forward, before.weight[:n])
    before.bias[:n] = forward @ (before.bias[:n] - mean)
    if decorrelate:
        before.weight[n:] = 0
        before.bias[n:] = POSTERIOR_LOG_VARIANCE
    else:
        before.bias[n:] += 2 * forward.diagonal().log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight.copy_(torch.einsum("ijhw,jk->ikhw", after.weight, torch.linalg.inv(forward)))


def thumbnail(pixels: Float[Tensor, "batch 3 64 64"]) -> Float[Tensor, "batch 3 16 16"]:
    """Brightness and the two colour axes (see `OPPONENT`) at a quarter of the resolution."""
    small = F.avg_pool2d(pixels, 4)
    return torch.einsum("ij,bjhw->bihw", torch.tensor(OPPONENT, device=pixels.device), small)


def reconstruction_loss(
    pixels: Float[Tensor, "batch 3 64 64"],
    restored: Float[Tensor, "batch 3 64 64"],
    kl: Float[Tensor, ""],
    kl_weight: float,
) -> Float[Tensor, ""]:
    """Absolute, squared, low-resolution and edge errors of `restored`, plus the weighted KL divergence."""
    error = restored - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    low = thumbnail(error).square().mean()
    return error.abs().mean() + SQUARE * error.square().mean() + LOW_RESOLUTION * low + EDGES * edges + kl_weight * kl


def train(
    training: Training, vae: Any, probe: nn.Module | None, pictures: Tensor, batch: int, kl_weight: float
) -> None:
    """One part of the training; with `probe`, its error on thumbnails is part of the loss."""
    device = vae.device
    for _ in training:
        chosen = torch.randint(len(pictures), (batch,), generator=training.generator)
        pixels = to_pixels(pictures[chosen], device)
        with autocast(device):
            posterior = vae.encode(pixels).latent_dist
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            noise = torch.randn(mean.shape, generator=training.generator).to(device)
            latents = mean + (log_variance / 2).exp() * noise
            restored = vae.decode(latents).sample.float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = reconstruction_loss(pixels, restored, kl, kl_weight)
        if probe is not None:
            loss = loss + COLOUR * F.mse_loss(probe(latents), thumbnail(pixels))
        psnr = 10 * math.log10(4 / F.mse_loss(restored, pixels).item())
        low = F.mse_loss(thumbnail(restored), thumbnail(pixels)).item()
        training.update(loss, psnr=psnr, low_resolution=low, kl=kl.item())


def save_sheet(config: TrainingConfig, pictures: Tensor, restored: Tensor) -> None:
    """Write a preview: rows of renders, and their reconstructions below each."""
    columns, rows = SHEET
    strips = [
        torch.cat(list(source[r * columns : (r + 1) * columns]), 1)
        for r in range(rows)
        for source in (pictures, restored)
    ]
    Image.fromarray(torch.cat(strips).numpy()).save(config.work / "previews" / "vae.png")


def run(config: TrainingConfig) -> None:
    """Train the autoencoder and write the folder `vae`."""
    torch.manual_seed(SEED)
    (config.work / "previews").mkdir(exist_ok=True)
    vae = channels_last(build(), config.device)
    use_fast_attention(vae, config.device)
    pictures = data.pictures(config.work, "train")
    probe = nn.Conv2d(LATENT_CHANNELS, 3, 1).to(config.device)
    steps = config.steps
    first = Training(
        "vae1",
        nn.ModuleList([vae, probe]),
        config,
        steps=steps or FIRST_STEPS,
        peak=FIRST_PEAK,
        warmup=WARMUP,
        seed=SEED,
    )
    train(first, vae, probe, pictures, FIRST_BATCH, FIRST_KL)
    if not (config.work / "vae2.checkpoint.pt").exists():
        whiten(vae, pictures, config.device, decorrelate=True)
    second = Training("vae2", vae, config, steps=steps or SECOND_STEPS, peak=SECOND_PEAK, warmup=WARMUP, seed=SEED + 1)
    train(second, vae, None, pictures, SECOND_BATCH, SECOND_KL)
    whiten(vae, pictures, config.device, decorrelate=False)
    vae.save_pretrained(config.work / "vae")
    shown = data.pictures(config.work, "validation")
    latents = encode(vae, shown, config.device)
    restored = decode(vae, latents, config.device)
    save_sheet(config, shown, restored)
    psnr = 10 * math.log10(255**2 / (restored.float() - shown.float()).square().mean().item())
    moments = [[round(v, 2) for v in row.tolist()] for row in (latents.mean((0, 2, 3)), latents.std((0, 2, 3)))]
    print(f"vae: {psnr:.2f} dB on validation renders, latent mean and deviation {moments}", flush=True)
