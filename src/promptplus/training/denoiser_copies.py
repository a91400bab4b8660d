"""Copies of a denoiser: the whole, with LoRA matrices, in a pipeline, and on disk."""

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promptplus.denoisers import slot_of
from promptplus.errors import ModelError
from promptplus.files import TEMPORARY, reported, sync, whole_file
from promptplus.profiles import SAMPLING, default_sampling
from promptplus.training.batches import generator

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # the projections that LoRA adapts (diffusers' DreamBooth example)


def duplicate(denoiser: Any, least: torch.dtype | None = None) -> Any:
    """A copy of a denoiser without its hooks. Its weights take gradients, in a precision of at least ``least``."""
    if getattr(denoiser, "peft_config", None):
        raise ModelError("the denoiser has a LoRA loaded; unload it, or load the pipeline anew")
    with torch.device("meta"):
        copied = type(denoiser).from_config(denoiser.config)

    def copy_of(weight: Tensor) -> Tensor:
        dtype = torch.promote_types(weight.dtype, least) if least and weight.is_floating_point() else weight.dtype
        return weight.detach().to(dtype, copy=True).contiguous()

    kept = denoiser.state_dict()
    copied.load_state_dict({name: copy_of(weight) for name, weight in kept.items()}, assign=True)
    for name, buffer in denoiser.named_buffers():
        if name not in kept:  # computed when a transformer is made, and not saved: its positions
            owner, _, own = name.rpartition(".")
            copied.get_submodule(owner).register_buffer(own, buffer.detach().clone(), persistent=False)
    if denoiser.is_gradient_checkpointing:
        copied.enable_gradient_checkpointing()
    return copied.requires_grad_(True).eval()


def largest_rank(denoiser: Any) -> int:
    """The largest rank of LoRA matrices that means something: the smallest side of the weights that LoRA adapts."""
    adapted = tuple(f".{name}.weight" for name in ATTENTION)
    return min(side for path, w in denoiser.named_parameters() if path.endswith(adapted) for side in w.shape[:2])


def with_lora(denoiser: Any, rank: int, seed: int) -> Any:
    """A frozen copy of a denoiser with new LoRA matrices at its attention projections, in at least float32."""
    from peft import LoraConfig  # slow to import, and an extra

    copied = duplicate(denoiser).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(f"{seed}/lora").initial_seed())
        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ATTENTION))
        copied.add_adapter(config)
    for weight in copied.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(torch.promote_types(weight.dtype, torch.float32))
    return copied


def with_denoiser(pipe: Any, denoiser: Any) -> Any:
    """A shallow copy of the pipeline with another denoiser. The given pipeline is not changed."""
    other = copy.copy(pipe)
    other.register_modules(**{slot_of(pipe): denoiser})
    return other


def save_pipeline(pipe: Any, folder: Path) -> None:
    """Write a pipeline that stock diffusers loads, whole or not at all. It replaces one that is there."""
    with reported(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=TEMPORARY))
        new, old = temporary / "new", temporary / "old"
        try:
            pipe.save_pretrained(new, safe_serialization=True)
            steps, guidance = default_sampling(pipe)
            (new / SAMPLING).write_text(json.dumps({"steps": steps, "guidance": guidance}) + "\n")
            for path in filter(Path.is_file, new.rglob("*")):
                sync(path)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(temporary)


def save_lora(pipe: Any, denoiser: Any, path: Path) -> None:
    """Write a denoiser's LoRA as diffusers' own trainers do, whole or not at all."""
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = {f"{slot_of(pipe)}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(denoiser))}
    with whole_file(path) as temporary:
        pipe.save_lora_weights(temporary.parent, **layers, weight_name=temporary.name)
