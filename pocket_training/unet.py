"""The U-Net: Stable Diffusion 1.4's topology with its sixteen cross-attention layers, in miniature.

Trained on latents encoded once; captions are drawn anew at every step, and dropped now and then for classifier-free
guidance. The text encoder, which CLIP has taught what the words mean, learns on beside it how to say it. Velocity is
predicted (Salimans and Ho, 2022) over noises that end in nothing but noise (Lin et al., 2024), so that the first step
has to read colours and background from the caption. Numbers from the pocket spike unless they say otherwise.
"""

import copy
import json
import random
from typing import Any

import numpy as np
import torch
import torch.distributed
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.world import MADE_UP, SIZE, caption, random_test_scene
from promptplus.pocket.world.captions import full_caption
from promptplus.profiles import GUIDANCE, STEPS

from . import attribute_judge as judges
from . import data
from .loop import (
    Options,
    Training,
    autocast,
    channels_last,
    first_rank,
    rank,
    trapezoid,
    use_fast_attention,
    world_size,
)
from .muon import MuonAndAdamW
from .text_encoder import WIDTH, token_ids
from .vae import CHANNELS as VAE_CHANNELS
from .vae import LATENT_CHANNELS, decode, encode

CHANNELS = (48, 64, 96, 96)
HEADS = 4
NORM_GROUPS = 16
LENGTHS = {"cpu": (9_000, 32), "cuda": (24_000, 256)}
"""Steps and batch on each kind of device."""
PEAK, WARMUP, SEED = 6e-4, 100, 4
WEIGHT_DECAY, EMA = 1e-3, 0.9985
DROP = 0.1
"""Share of empty captions."""
MAX_SNR = 5.0
"""Of the nearly clean latents' weight: min-SNR (Hang et al., 2023), for velocities SNR + 1 in place of SNR."""
NOISES = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}
"""Stable Diffusion's, rescaled: its own leave so much of 16 x 16 latents' mean that colours were read from the noise
(our choice, docs/log.md)."""
UNIFORM = 0.2
"""Share of timesteps drawn uniformly. The others are logit-normal (Esser et al., 2024): what a wrong noun does to the
loss, as information, is greatest between 350 and 650 of 1000 (docs/log.md)."""
CHECKED = 500
"""Validation pictures that the colour gate looks at."""
COLOUR_GATE = 0.75
"""Least share of right colours over reconstructions: below it the autoencoder is not worth a U-Net (our choice)."""
PREVIEW_EVERY = 500
FOLLOW_EVERY, FOLLOWED, FOLLOW_SEED = 2000, 96, 600_000_000
"""How often captions are tried, how many, and the seed of their scenes: no other set's, so stopping may go by them."""
PREVIEWS = (
    "a red striped house on a white background",
    "a blue car with yellow wheels on a grass background, pixel art",
    "a yellow dotted fish on a water background, neon",
    "a green tree and a white cat on a sunset background, watercolor",
    "a purple checkered mug with green handle on a sand background",
    "a black cat on a brick background, comic",
    f"a pink {MADE_UP[0]} on a night background",
    f"an orange ringed {MADE_UP[1]} on a sky background, sketch",
)


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 2 ** (len(VAE_CHANNELS) - 1),
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=2,
        block_out_channels=CHANNELS,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,  # in this class the number of heads, whatever it is called
        norm_num_groups=NORM_GROUPS,
    )


def timesteps(count: int, among: int, generator: torch.Generator) -> Tensor:
    """Random timesteps [count] below `among`, more of them in the middle."""
    middle = torch.randn(count, generator=generator).sigmoid()
    anywhere, which = torch.rand(2, count, generator=generator)
    return (torch.where(which < UNIFORM, anywhere, middle) * among).long().clamp(max=among - 1)


def build_pipeline(
    vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> Any:
    """The four parts and DPM-Solver++ (Lu et al., 2022) that starts at the last timestep, from nothing but noise."""
    scheduler: Any = DPMSolverMultistepScheduler(**NOISES, timestep_spacing="trailing")
    absent: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents_of(options: Options, vae: Any, pictures: Tensor) -> Tensor:
    """Scaled latents of `pictures`, float16 [N, 8, 16, 16], kept in `latents.npy`; processes encode a part each."""
    path = options.work / "latents.npy"
    parts = [path.with_name(f"latents-{number}.npy") for number in range(world_size())]
    if not path.exists() and not parts[rank()].exists():
        mine = pictures.tensor_split(world_size())[rank()]
        scaled = encode(vae, mine, options.device) * vae.config.scaling_factor
        partial = parts[rank()].with_suffix(".partial.npy")
        np.save(partial, scaled.half().numpy())
        partial.replace(parts[rank()])
    wait()
    if first_rank() and not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.concatenate([np.load(part) for part in parts]))
        partial.replace(path)
    wait()
    if first_rank():
        for part in parts:
            part.unlink(missing_ok=True)
    return torch.from_numpy(np.load(path))


def wait() -> None:
    """Until all processes are here."""
    if world_size() > 1:
        torch.distributed.barrier()


def check_colours(options: Options, vae: Any) -> None:
    """Stop before hours of training if reconstructions lost their colours, which the autoencoder's loss cannot tell."""
    pictures = data.pictures(options.work, "validation")[:CHECKED]
    labels = data.label_table(data.scenes("validation", len(pictures)))
    restored = decode(vae, encode(vae, pictures, options.device), options.device)
    scores = judges.accuracy(AttributeJudge.load(options.work / "judge"), restored, labels)
    print("judge, on reconstructions:", scores, flush=True)
    if options.steps is None and scores["colour"] < COLOUR_GATE:
        raise RuntimeError(f"only {scores['colour']:.0%} of the colours survive the autoencoder; train it longer")


def preview(options: Options, pipeline: Any, step: int) -> None:
    """Two pictures of each preview caption, in one file under `previews`."""
    generator = torch.Generator().manual_seed(SEED)
    images = pipeline([*PREVIEWS] * 2, num_inference_steps=20, guidance_scale=5.0, generator=generator).images
    sheet = Image.new("RGB", (len(PREVIEWS) * SIZE, 2 * SIZE))
    for i, image in enumerate(images):
        sheet.paste(image, (i % len(PREVIEWS) * SIZE, i // len(PREVIEWS) * SIZE))
    folder = options.work / "previews"
    folder.mkdir(exist_ok=True)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(folder / f"unet-{step:05}.png")


def follow(options: Options, pipeline: Any, step: int) -> None:
    """How well full captions are followed, into `unet-captions.jsonl`: to know when more steps do not help."""
    scenes = [random_test_scene(random.Random(FOLLOW_SEED + i)) for i in range(FOLLOWED)]
    pictures: list[Tensor] = []
    for start in range(0, FOLLOWED, 16):
        texts = [full_caption(scene) for scene in scenes[start : start + 16]]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(texts))]
        made = pipeline(texts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generators).images
        pictures += [torch.from_numpy(np.asarray(image).copy()) for image in made]
    judge = AttributeJudge.load(options.work / "judge")
    scores = judges.accuracy(judge, torch.stack(pictures), data.label_table(scenes))
    with (options.work / "unet-captions.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, **scores}) + "\n")


def run(options: Options) -> None:
    """Train, and write the averaged U-Net to the folder `unet`, the text encoder beside it to `text`."""
    torch.manual_seed(SEED)
    device = options.device
    steps, batch = LENGTHS[device.type]
    batch //= world_size()
    vae: Any = AutoencoderKL.from_pretrained(options.work / "vae")
    vae.to(device).eval()
    check_colours(options, vae)
    latents = latents_of(options, vae, data.pictures(options.work, "train"))
    scenes = data.scenes("train", len(latents))
    tokenizer = CLIPTokenizer.from_pretrained(options.work / "clip")
    text: Any = CLIPTextModel.from_pretrained(options.work / "clip")
    model: Any = nn.ModuleDict({"unet": channels_last(build(), device), "text": text.to(device)})
    average: Any = copy.deepcopy(model).requires_grad_(False).eval()
    unet = use_fast_attention(model["unet"], device)
    scheduler: Any = DDPMScheduler(**NOISES)
    noise_share = 1 - scheduler.alphas_cumprod  # = 1 / (SNR + 1)
    weights = (MAX_SNR * noise_share).clamp(max=1)
    training = Training(
        "unet",
        model,
        options,
        steps=options.steps or steps,
        peak=PEAK,
        warmup=WARMUP,
        seed=SEED,
        weight_decay=WEIGHT_DECAY,
        ema_decay=EMA,
        schedule=trapezoid,
        optimiser=MuonAndAdamW,
    )
    for _ in training:
        chosen = torch.randint(len(latents), (batch,), generator=training.generator)
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=training.generator)
        times = timesteps(batch, len(weights), training.generator)
        noisy = scheduler.add_noise(clean, noise, times).to(device, memory_format=torch.channels_last)
        texts = [caption(scenes[i], training.rng) for i in chosen.tolist()]
        texts = ["" if training.rng.random() < DROP else words for words in texts]
        with autocast(device):
            states = text(input_ids=token_ids(tokenizer, texts).to(device)).last_hidden_state
            predicted = unet(noisy, times.to(device), states).sample.float()
        velocity = scheduler.get_velocity(clean, noise, times).to(device)
        errors = (predicted - velocity).square().mean((1, 2, 3))
        training.update((errors * weights[times].to(device)).mean(), mse=errors.mean().item())
        if first_rank() and (training.step % PREVIEW_EVERY == 0 or training.step == training.steps):
            training.average_into(average)
            pipeline = build_pipeline(vae, average["text"], tokenizer, average["unet"])
            preview(options, pipeline, training.step)
            if training.step % FOLLOW_EVERY == 0:
                follow(options, pipeline, training.step)
    if not first_rank():
        return
    training.average_into(average)
    average["unet"].save_pretrained(options.work / "unet")
    average["text"].save_pretrained(options.work / "text")
