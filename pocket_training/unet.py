"""The U-Net: Stable Diffusion 1.4's topology with its sixteen cross-attention layers, in miniature.

Trained on latents of pictures that are drawn meanwhile; captions are made anew at every step, and dropped now and then
for classifier-free guidance. The text encoder, which CLIP has taught what the words mean, learns on beside it how to
say it. Numbers from the pocket spike unless they say otherwise.
"""

import copy
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from promptplus.pocket.world import caption

from . import data
from .denoising import NOISES, Denoising
from .loop import Options, Training, channels_last, first_rank, trapezoid, use_fast_attention, world_size
from .muon import MuonAndAdamW
from .pool import Pool, size
from .text_encoder import WIDTH
from .vae import LATENT_CHANNELS, LATENT_SIZE
from .watch import Unseen, check_colours, note

CHANNELS = (48, 64, 96, 96)
HEADS = 2
"""In every attention: four, the third weights' number, take a sixth more time per picture (docs/log.md)."""
NORM_GROUPS = 16
LENGTHS = {"cpu": (3_000_000, 32), "cuda": (6_000_000, 256)}
"""Looks at a picture in all, and batch, on each kind of device: three million were asked for, ten times the third
weights' (docs/log.md)."""
PEAK, WARMUP, SEED = 6e-4, 100, 4
WEIGHT_DECAY, EMA = 1e-3, 0.9985
DROP = 0.1
"""Share of empty captions."""
NOTE_EVERY = 1500
"""Steps between two looks at what has been learned: one minute in fifty (our choice)."""


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=2,
        block_out_channels=CHANNELS,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,  # in this class the number of heads, whatever it is called
        norm_num_groups=NORM_GROUPS,
    )


def begin(options: Options) -> UNet2DConditionModel:
    """A U-Net with the weights of the folder `start`, or with random ones if there is none."""
    unet, start = build(), options.work / "start"
    if start.exists():
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start).state_dict())
    return unet


def build_pipeline(
    vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> Any:
    """The four parts and DPM-Solver++ (Lu et al., 2022) that starts at the last timestep, from nothing but noise."""
    scheduler: Any = DPMSolverMultistepScheduler(**NOISES, timestep_spacing="trailing", steps_offset=1)
    absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def training_of(model: nn.Module, options: Options) -> Training:
    """The run, of a length that may change until the rate falls."""
    looks, batch = LENGTHS[options.device.type]
    return Training(
        "unet",
        model,
        options,
        steps=options.steps or (options.looks or looks) // batch,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
        ema_decay=EMA,
        schedule=trapezoid,
        optimiser=MuonAndAdamW,
    )


def learn(training: Training, denoising: Denoising, pool: Pool, share: int) -> None:
    """One step on `share` pictures."""
    pool.grow(size(training.step))
    chosen = torch.randint(size(training.step), (share,), generator=training.generator)
    clean = pool[chosen]
    noise = torch.randn(clean.shape, generator=training.generator)
    times = denoising.timesteps(share, training.generator)
    texts = [caption(data.scene_of(data.SEEDS["train"] + i), training.rng) for i in chosen.tolist()]
    texts = ["" if training.rng.random() < DROP else words for words in texts]
    errors, weights = denoising.errors(training.model, clean, noise, times, texts)
    training.update((errors * weights).mean(), mse=errors.mean().item())


def run(options: Options) -> None:
    """Train, and write the averaged U-Net to the folder `unet`, the text encoder beside it to `text`."""
    torch.manual_seed(SEED)
    device, (_, batch) = options.device, LENGTHS[options.device.type]
    vae: Any = channels_last(AutoencoderKL.from_pretrained(options.work / "vae"), device).eval()
    check_colours(options, vae)
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "clip")
    text: Any = CLIPTextModel.from_pretrained(options.work / "clip")
    model: Any = nn.ModuleDict({"unet": channels_last(begin(options), device), "text": text.to(device)})
    average: Any = copy.deepcopy(model).requires_grad_(False).eval()
    for each in (model, average):
        use_fast_attention(each["unet"], device)
    pipeline = build_pipeline(vae, average["text"], tokenizer, average["unet"])
    training, denoising = training_of(model, options), Denoising(tokenizer, device)
    pool, unseen = Pool(options.work / "latents.pool", vae, device), Unseen(denoising, vae)
    for _ in training:
        learn(training, denoising, pool, batch // world_size())
        if first_rank() and (training.step % NOTE_EVERY == 0 or training.step == training.steps):
            training.average_into(average)
            note(options, pipeline, unseen, training.step, training.step * batch)
    if not first_rank():
        return
    training.average_into(average)
    average["unet"].save_pretrained(options.work / "unet")
    average["text"].save_pretrained(options.work / "text")
