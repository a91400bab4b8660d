"""Tiny pipelines with random weights: the real classes and settings of diffusers, small enough to draw in an instant.

Each has what matters to P+ as its release has it: the order of its cross-attention layers, how prompts are padded,
which text states are taken, where else the text goes. Weights depend on a fixed seed alone: float32, on the CPU.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)

from tests import tiny_tokenizers

EOS = "<|endoftext|>"
NOISES: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def stable_diffusion(**unet: Any) -> Any:
    """Stable Diffusion 1: sixteen layers; pads with EOS. Options change the U-Net, such as ``in_channels=9``."""
    with _seed():
        return _stable_diffusion(
            unet=_unet(32, **{"attention_head_dim": 2, **unet}),
            text_encoder=CLIPTextModel(_clip(32, layers=3, hidden_act="quick_gelu")),
            tokenizer=tiny_tokenizers.clip(EOS),
            scheduler=diffusers.DDIMScheduler(**NOISES, clip_sample=False, set_alpha_to_one=False),
        )


def stable_diffusion_2() -> Any:
    """Stable Diffusion 2: predicts velocity; pads with "!"; its release leaves out the text encoder's last layer."""
    noises = {**NOISES, "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False}
    with _seed():
        return _stable_diffusion(
            unet=_unet(48, attention_head_dim=[2, 2, 4, 4], use_linear_projection=True),
            text_encoder=CLIPTextModel(_clip(48, layers=2, hidden_act="gelu")),
            tokenizer=tiny_tokenizers.clip("!"),
            scheduler=diffusers.DDIMScheduler(**noises),
        )


def sdxl() -> Any:
    """SDXL: the penultimate states of two text encoders lie side by side; the second one's pooled text goes elsewhere.

    It has the release's eleven transformers, with 1 and 2 layers each instead of 2 and 10: seventeen layers.
    """
    first, second, time_ids, time_width = 32, 48, 6, 8
    options = {
        "block_out_channels": (16, 16, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 1, 2],
        "attention_head_dim": [2, 2, 4],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": time_width,
        "projection_class_embeddings_input_dim": second + time_ids * time_width,
    }
    with _seed():
        pipe = diffusers.StableDiffusionXLPipeline(
            unet=_unet(first + second, **options),
            text_encoder=CLIPTextModel(_clip(first, layers=3, hidden_act="quick_gelu")).eval(),
            text_encoder_2=CLIPTextModelWithProjection(_clip(second, layers=3, hidden_act="gelu")).eval(),
            tokenizer=tiny_tokenizers.clip(EOS),
            tokenizer_2=tiny_tokenizers.clip("!"),
            vae=_vae(scaling_factor=0.13025),
            scheduler=diffusers.EulerDiscreteScheduler(**NOISES, timestep_spacing="leading"),
            add_watermarker=False,
        )
    return _quiet(pipe)


def pixart() -> Any:
    """PixArt-Sigma: a transformer of five blocks, which predicts variances too; T5's states, with a mask."""
    tokenizer, width = tiny_tokenizers.t5(), 24
    text = {"d_model": width, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    options = {"num_layers": 5, "num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
    options |= {"in_channels": 4, "out_channels": 8, "caption_channels": width, "sample_size": 32, "patch_size": 2}
    options |= {"use_additional_conditions": False, "interpolation_scale": 1}
    with _seed():
        pipe = diffusers.PixArtSigmaPipeline(
            transformer=diffusers.PixArtTransformer2DModel(**options).eval(),
            text_encoder=T5EncoderModel(T5Config(vocab_size=len(tokenizer), **text)).eval(),
            tokenizer=tokenizer,
            vae=_vae(scaling_factor=0.13025),
            scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        )
    return _quiet(pipe)


def sana() -> Any:
    """Sana: a transformer of five blocks with linear self-attention; Gemma's states, with a mask; a deep VAE."""
    tokenizer, width = tiny_tokenizers.gemma(), 24
    text = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 8}
    options = {"num_layers": 5, "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4}
    options |= {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16}
    options |= {"caption_channels": width, "sample_size": 16, "patch_size": 1}
    blocks = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
    deep = {"block_types": blocks, "block_out_channels": (4, 4, 8, 8, 8, 8), "layers_per_block": (1,) * 6}
    vae = {f"{half}_{name}": value for half in ("encoder", "decoder") for name, value in deep.items()}
    vae |= {"upsample_block_type": "interpolate", "downsample_block_type": "conv"}
    vae |= {"latent_channels": 4, "attention_head_dim": 4, "scaling_factor": 0.41407}
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    with _seed():
        pipe = diffusers.SanaPipeline(
            transformer=diffusers.SanaTransformer2DModel(**options).eval(),
            text_encoder=Gemma2Model(Gemma2Config(vocab_size=len(tokenizer), **text)).eval(),
            tokenizer=tokenizer,
            vae=diffusers.AutoencoderDC(**vae).eval(),
            scheduler=diffusers.DPMSolverMultistepScheduler(**flow),
        )
    return _quiet(pipe)


MODELS: Mapping[str, Callable[[], Any]] = {
    "Stable Diffusion 1": stable_diffusion,
    "Stable Diffusion 2": stable_diffusion_2,
    "SDXL": sdxl,
    "PixArt-Sigma": pixart,
    "Sana": sana,
}
"""How each pipeline is made, by the name of its model."""


def small(pipe: Any) -> dict[str, Any]:
    """Arguments of a pipeline's call for a small picture in two steps."""
    plain = {} if hasattr(pipe, "unet") else {"use_resolution_binning": False, "clean_caption": False}
    return {"height": 128, "width": 128, "num_inference_steps": 2, **plain}


# ---- parts


@contextmanager
def _seed() -> Generator[None]:
    """While inside, random numbers are those of one seed; afterwards the caller's go on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _unet(width: int, **options: Any) -> diffusers.UNet2DConditionModel:
    """A U-Net for text states of this width; by default with Stable Diffusion's blocks."""
    config = {"block_out_channels": (16, 16, 32, 32), "norm_num_groups": 8, "sample_size": 16}
    return diffusers.UNet2DConditionModel(**{**config, **options}, cross_attention_dim=width).eval()


def _vae(**options: Any) -> diffusers.AutoencoderKL:
    config = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 128,
    }
    return diffusers.AutoencoderKL(**config, **options).eval()


def _clip(width: int, *, layers: int, hidden_act: str) -> CLIPTextConfig:
    """A CLIP text encoder's. EOS is 2 in the releases: it makes the encoder pool at the highest id."""
    config = {"hidden_size": width, "intermediate_size": 2 * width, "projection_dim": width, "num_attention_heads": 2}
    config |= {"max_position_embeddings": tiny_tokenizers.CONTEXT, "vocab_size": len(tiny_tokenizers.clip(EOS))}
    config |= {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    return CLIPTextConfig(**config, num_hidden_layers=layers, hidden_act=hidden_act)


def _stable_diffusion(*, text_encoder: Any, **parts: Any) -> Any:
    further = {"vae": _vae(), "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return _quiet(diffusers.StableDiffusionPipeline(text_encoder=text_encoder.eval(), **parts, **further))


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
