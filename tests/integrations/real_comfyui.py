"""Real ComfyUI, from a recent checkout: its own text encoders, U-Net, model patcher and sampler, tiny and random.

Written from ComfyUI's source. It has not run yet, for want of a checkout.
"""

import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.integrations.hosts import Kind

WIDTH_L, WIDTH_G = 32, 48
TEXT = {"intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
    "dtype": torch.float32,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "sd1": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 1, 1, 1),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
        "context_dim": WIDTH_L,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
    },
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": (1, 1, 1),
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
        "context_dim": WIDTH_L + WIDTH_G,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": WIDTH_G + 6 * 256,  # the pooled text and six numbers about the picture's size
    },
}


class RealComfyUI:
    """ComfyUI's own modules."""

    name = "ComfyUI"

    def __init__(self, checkout: Path) -> None:
        if str(checkout) not in sys.path:
            sys.path.append(str(checkout))  # behind ours, because it has a folder tests too
        import comfy.options

        comfy.options.args_parsing = False  # pytest's arguments are not ComfyUI's
        import comfy.cli_args

        comfy.cli_args.args.cpu = True  # before ComfyUI looks for a device
        import comfy.sample
        import comfy.sd
        import comfy.sd1_clip
        import comfy.sdxl_clip
        import comfy.supported_models
        import comfy.supported_models_base

        self.comfy: Any = comfy

    def clip(self, kind: Kind) -> Any:
        comfy = self.comfy
        parts = {
            "sd1": (comfy.sd1_clip.SD1Tokenizer, comfy.sd1_clip.SD1ClipModel),
            "sdxl": (comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel),
        }[kind]
        options = {
            "clip_l_model_config": {**TEXT, "hidden_size": WIDTH_L},
            "clip_g_model_config": {**TEXT, "hidden_size": WIDTH_G},
            "dtype": torch.float32,
        }
        target = comfy.supported_models_base.ClipTarget(*parts)
        more = {"disable_dynamic": True} if _takes(comfy.sd.CLIP.__init__, "disable_dynamic") else {}
        made = comfy.sd.CLIP(target, model_options=options, **more)
        _draw(made.cond_stage_model)
        return made

    def model(self, kind: Kind) -> Any:
        comfy = self.comfy
        config_class = {"sd1": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[kind]
        config = config_class({**UNET, **LAYOUTS[kind]})
        config.unet_config.update(num_heads=2, num_head_channels=-1)
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, device=torch.device("cpu"))
        _draw(model.diffusion_model)
        cpu = torch.device("cpu")
        return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)

    def sample(self, model: Any, positive: Any, negative: Any, batch: int = 1) -> torch.Tensor:
        noise = torch.randn(batch, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        empty = torch.zeros_like(noise)
        settings = {"steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal", "seed": 0}
        return self.comfy.sample.sample(
            model, noise, positive=positive, negative=negative, latent_image=empty, disable_pbar=True, **settings
        )


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters


def _draw(module: nn.Module) -> None:
    """Random weights of a fixed seed: ComfyUI leaves them as they were in memory, because a file fills them."""
    generator = torch.Generator().manual_seed(0)
    for name, weights in module.named_parameters():
        if weights.ndim > 1:
            weights.data = 0.1 * torch.randn(weights.shape, generator=generator)
        else:
            weights.data = torch.ones(weights.shape) if name.endswith("weight") else torch.zeros(weights.shape)
