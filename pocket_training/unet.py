"""Training of the U-Net: the topology of Stable Diffusion 1.4 with its sixteen cross-attention layers, but smaller.

It is trained on latents of pictures that are drawn during training (`pool`). Every step makes new captions; some are
empty, for classifier-free guidance. The text encoder, trained before (`text_encoder`), is trained further together with
the U-Net. Settings are our choice where no source is given.
"""

import copy
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from promptplus.pocket.world import caption

from . import data
from .denoising import NOISES, DenoisingLoss
from .loop import Training, TrainingConfig, channels_last, first_rank, trapezoid, use_fast_attention, world_size
from .muon import MuonAndAdamW
from .pool import Pool, pool_size
from .text_encoder import WIDTH
from .vae import LATENT_CHANNELS, LATENT_SIZE
from .validation import ValidationLoss, check_colours, log_validation

CHANNELS = (64, 80, 112, 80)
"""Wider outside than the weights before (48, 64, 96, 96), narrower in the middle, which decides little: 7.65 million
parameters instead of 6.15, as fast with two heads as those with four (docs/log.md)."""
HEADS = 2
"""Attention heads. Four heads, as in the weights before, take a sixth more time per sample (docs/log.md)."""
NORM_GROUPS = 16
LENGTHS = {"cpu": (3_000_000, 32), "cuda": (6_000_000, 256)}
"""Number of samples and batch size, by kind of device. Three million are ten times the number of the weights before
(docs/log.md)."""
PEAK, WARMUP, SEED = 6e-4, 100, 4
WEIGHT_DECAY, EMA = 1e-3, 0.9985
DROP = 0.1
"""Probability of an empty caption."""
VALIDATE_EVERY = 1500
"""Steps between two validations, which take a fiftieth of the time (our choice)."""


def build() -> UNet2DConditionModel:
    """A U-Net with random weights."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=2,
        block_out_channels=CHANNELS,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,  # this class takes the number of heads here
        norm_num_groups=NORM_GROUPS,
    )


def initial_unet(config: TrainingConfig) -> UNet2DConditionModel:
    """A U-Net with the weights of the folder `start`, or with random weights if there is no such folder."""
    unet, start = build(), config.work / "start"
    if start.exists():
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start).state_dict())
    return unet


def build_pipeline(
    vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> Any:
    """A pipeline of the four parts and DPM-Solver++ (Lu et al., 2022), which starts from pure noise."""
    scheduler: Any = DPMSolverMultistepScheduler(**NOISES, timestep_spacing="trailing", steps_offset=1)
    absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def new_training(model: nn.Module, config: TrainingConfig) -> Training:
    """The training run. Its number of steps may change until the learning rate falls."""
    samples, batch = LENGTHS[config.device.type]
    return Training(
        "unet",
        model,
        config,
        steps=config.steps or (config.samples or samples) // batch,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
        ema_decay=EMA,
        schedule=trapezoid,
        optimiser=MuonAndAdamW,
    )


def training_step(training: Training, loss: DenoisingLoss, pool: Pool, count: int) -> None:
    """One training step on `count` samples."""
    pool.grow(pool_size(training.step))
    chosen = torch.randint(pool_size(training.step), (count,), generator=training.generator)
    clean = pool[chosen]
    noise = torch.randn(clean.shape, generator=training.generator)
    times = loss.timesteps(count, training.generator)
    texts = [caption(data.scene_of(data.SEEDS["train"] + i), training.rng) for i in chosen.tolist()]
    texts = ["" if training.rng.random() < DROP else words for words in texts]
    errors, weights = loss.errors(training.model, clean, noise, times, texts)
    training.update((errors * weights).mean(), mse=errors.mean().item())


def run(config: TrainingConfig) -> None:
    """Train, then write the averaged U-Net to the folder `unet` and the averaged text encoder to `text`."""
    torch.manual_seed(SEED)
    device, (_, batch) = config.device, LENGTHS[config.device.type]
    vae: Any = channels_last(AutoencoderKL.from_pretrained(config.work / "vae"), device).eval()
    check_colours(config, vae)
    tokenizer = CLIPTokenizer.from_pretrained(config.work / "clip")
    text: Any = CLIPTextModel.from_pretrained(config.work / "clip")
    model: Any = nn.ModuleDict({"unet": channels_last(initial_unet(config), device), "text": text.to(device)})
    average: Any = copy.deepcopy(model).requires_grad_(False).eval()
    for parts in (model, average):
        use_fast_attention(parts["unet"], device)
    pipeline = build_pipeline(vae, average["text"], tokenizer, average["unet"])
    training, loss = new_training(model, config), DenoisingLoss(tokenizer, device)
    pool, validation = Pool(config.work / "latents.pool", vae, device), ValidationLoss(loss, vae)
    for _ in training:
        training_step(training, loss, pool, batch // world_size())
        if first_rank() and (training.step % VALIDATE_EVERY == 0 or training.step == training.steps):
            training.average_into(average)
            log_validation(config, pipeline, validation, training.step, training.step * batch)
    if not first_rank():
        return
    training.average_into(average)
    average["unet"].save_pretrained(config.work / "unet")
    average["text"].save_pretrained(config.work / "text")
