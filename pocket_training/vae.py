"""The autoencoder: 64 x 64 x 3 pictures to 16 x 16 x 8 latents and back.

Trained in two parts. Between them the latents are whitened (mean, scale and correlation of the channels folded exactly
into the quant convolutions), so that no channel is lost in noise. Left to itself the autoencoder codes outlines and
textures first and paints everything in the background's colours for thousands of steps. So colour comes first: in the
first part a linear probe has to read a 16 x 16 thumbnail of the picture from the latents, and the loss weighs errors
at low resolution more. At the end the latents have mean 0 and deviation 1: the scaling factor is 1.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from promptplus.pocket.world import SIZE

from . import data
from .loop import Options, Training, autocast, channels_last, to_bytes, to_pixels, use_fast_attention

LATENT_CHANNELS = 8
"""Twice Stable Diffusion's: four leave 22 dB of 64 x 64 pictures (docs/log.md)."""
CHANNELS = (32, 48, 64)
LATENT_SIZE = SIZE // 2 ** (len(CHANNELS) - 1)
"""Latents across a picture."""
NORM_GROUPS = 8
SEED, WARMUP = 2, 40
FIRST_STEPS, FIRST_BATCH, FIRST_PEAK, FIRST_KL = 1500, 8, 2e-3, 4e-4
SECOND_STEPS, SECOND_BATCH, SECOND_PEAK, SECOND_KL = 9000, 8, 1.5e-3, 1e-4
"""The spike took batches of 24 to 32; far smaller ones, for more steps in the same time, are our choice."""
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (2.0, -2.0, 0.0), (-1.0, -1.0, 2.0))
"""RGB to brightness, red–green and blue–yellow; the two colour axes doubled, for pictures vary little along them."""
COLOUR = 4.0
"""Weight of the colour probe's squared error in the first part (our choice)."""
SQUARE, LOW_RESOLUTION, EDGES = 3.0, 6.0, 0.15
"""Weights of the squared error, of that after 4 x 4 pooling, of the error's gradient (spike: 3, 3, .15)."""
POSTERIOR_LOG_VARIANCE = -6.0
"""Where the posterior starts after whitening: a deviation of .05 beside latents of 1; spike."""
MEASURED = 1000
"""Pictures that the whitening is measured on."""
SHEET = (12, 3)


def build() -> AutoencoderKL:
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
def encode(vae: Any, pictures: Tensor, device: torch.device, batch: int = 128) -> Tensor:
    """Pictures uint8 [N, 64, 64, 3] → latent means [N, 8, 16, 16], float32 on the CPU."""
    means = []
    for part in pictures.split(batch):
        with autocast(device):
            means.append(vae.encode(to_pixels(part, device)).latent_dist.mean.float().cpu())
    return torch.cat(means)


@torch.no_grad()
def decode(vae: Any, latents: Tensor, device: torch.device, batch: int = 128) -> Tensor:
    """Latents [N, 8, 16, 16] → pictures uint8 [N, 64, 64, 3]."""
    return torch.cat([to_bytes(vae.decode(part.to(device)).sample) for part in latents.split(batch)])


@torch.no_grad()
def whiten(vae: Any, pictures: Tensor, device: torch.device, decorrelate: bool) -> None:
    """Fold the latents' mean and scale (and, `decorrelate`, their correlation: ZCA) into the quant convolutions.

    Reconstructions from the posterior mean do not change. The posterior's variance is scaled along, or, with
    `decorrelate`, which mixes the channels, started anew.
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


def thumbnail(pixels: Tensor) -> Tensor:
    """Pixels [B, 3, 64, 64] → brightness and the two colour axes [B, 3, 16, 16]."""
    small = F.avg_pool2d(pixels, 4)
    return torch.einsum("ij,bjhw->bihw", torch.tensor(OPPONENT, device=pixels.device), small)


def loss_of(pixels: Tensor, restored: Tensor, kl: Tensor, kl_weight: float) -> Tensor:
    error = restored - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    low = thumbnail(error).square().mean()
    return error.abs().mean() + SQUARE * error.square().mean() + LOW_RESOLUTION * low + EDGES * edges + kl_weight * kl


def train(
    training: Training, vae: Any, probe: nn.Module | None, pictures: Tensor, batch: int, kl_weight: float
) -> None:
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
        loss = loss_of(pixels, restored, kl, kl_weight)
        if probe is not None:
            loss = loss + COLOUR * F.mse_loss(probe(latents), thumbnail(pixels))
        psnr = 10 * math.log10(4 / F.mse_loss(restored, pixels).item())
        low = F.mse_loss(thumbnail(restored), thumbnail(pixels)).item()
        training.update(loss, psnr=psnr, low_resolution=low, kl=kl.item())


def save_sheet(options: Options, pictures: Tensor, restored: Tensor) -> None:
    """Rows of renders and, below each, their reconstructions."""
    columns, rows = SHEET
    strips = [
        torch.cat(list(source[r * columns : (r + 1) * columns]), 1)
        for r in range(rows)
        for source in (pictures, restored)
    ]
    Image.fromarray(torch.cat(strips).numpy()).save(options.work / "previews" / "vae.png")


def run(options: Options) -> None:
    """Train, and write the AutoencoderKL folder `vae`."""
    torch.manual_seed(SEED)
    (options.work / "previews").mkdir(exist_ok=True)
    vae = channels_last(build(), options.device)
    use_fast_attention(vae, options.device)
    pictures = data.pictures(options.work, "train")
    probe = nn.Conv2d(LATENT_CHANNELS, 3, 1).to(options.device)
    steps = options.steps
    first = Training(
        "vae1",
        nn.ModuleList([vae, probe]),
        options,
        steps=steps or FIRST_STEPS,
        peak=FIRST_PEAK,
        warmup=WARMUP,
        seed=SEED,
    )
    train(first, vae, probe, pictures, FIRST_BATCH, FIRST_KL)
    if not (options.work / "vae2.checkpoint.pt").exists():
        whiten(vae, pictures, options.device, decorrelate=True)
    second = Training("vae2", vae, options, steps=steps or SECOND_STEPS, peak=SECOND_PEAK, warmup=WARMUP, seed=SEED + 1)
    train(second, vae, None, pictures, SECOND_BATCH, SECOND_KL)
    whiten(vae, pictures, options.device, decorrelate=False)
    vae.save_pretrained(options.work / "vae")
    shown = data.pictures(options.work, "validation")
    latents = encode(vae, shown, options.device)
    restored = decode(vae, latents, options.device)
    save_sheet(options, shown, restored)
    psnr = 10 * math.log10(255**2 / (restored.float() - shown.float()).square().mean().item())
    moments = [[round(v, 2) for v in row.tolist()] for row in (latents.mean((0, 2, 3)), latents.std((0, 2, 3)))]
    print(f"vae: {psnr:.2f} dB on validation renders, latent mean and deviation {moments}", flush=True)
