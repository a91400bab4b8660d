"""Loading a pipeline: the pocket model, a hub id, a folder or a single file; device and dtype in one place."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from promptplus.errors import ModelError, first_line
from promptplus.pocket import PIPELINE

POCKET = "pocket"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    model: str | os.PathLike[str] = POCKET, *, device: str | None = None, dtype: str | torch.dtype | None = None
) -> Any:
    """A stock diffusers text-to-image pipeline, in evaluation mode, on its device.

    Args:
        model: ``pocket``, a folder in diffusers' layout, a ``.safetensors`` single file, or a hub id.
        device: default: cuda, else mps, else cpu.
        dtype: ``float32``, ``float16`` or ``bfloat16``; default: float16 on cuda (the pocket: float32), else float32.

    Raises ModelError where the model cannot be found or read. Weights are read from safetensors only.
    """
    device = _device(device)
    number = _dtype(dtype, device, pocket=str(model) == POCKET)
    try:
        pipe = _from_pretrained(model, number)
    except ModelError:
        raise
    except Exception as error:  # the loaders of four libraries raise what they like for what is missing or damaged
        raise ModelError(f"cannot load model {str(model)!r}: {_reason(model, error)}") from error
    return pipe.to(device)


def _from_pretrained(model: str | os.PathLike[str], dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline, StableDiffusionPipeline  # slow to import: only when a model is loaded

    path = PIPELINE if str(model) == POCKET else Path(model)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(f"{path} is not a .safetensors file; other single files may run code when read")
        return StableDiffusionPipeline.from_single_file(str(path), dtype=dtype)
    source = str(path) if path.is_dir() else str(model)
    return DiffusionPipeline.from_pretrained(source, dtype=dtype, use_safetensors=True)


def add_loras(pipe: Any, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Load LoRA files (safetensors; those of diffusers, kohya and others) into a pipeline, all at full strength.

    Before P+ is installed, for the layers are replaced. Raises ModelError on a file that is none for this model.
    """
    for number, path in enumerate(map(Path, paths)):
        if not path.is_file() or path.suffix != ".safetensors":
            raise ModelError(f"{path} is no .safetensors file; give a LoRA's file, as pytorch_lora_weights.safetensors")
        _add_lora(pipe, path, f"lora{number}")
    if paths:
        pipe.set_adapters([f"lora{number}" for number in range(len(paths))])


def _add_lora(pipe: Any, path: Path, name: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are meant
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name, use_safetensors=True)
    except Exception as error:  # peft and diffusers raise what they like
        if "PEFT backend" in str(error):
            raise ModelError("LoRA needs peft: pip install 'promptplus[lora]'") from error
        raise ModelError(f"cannot load the LoRA {path}: {first_line(error)}") from error
    if name not in {adapter for adapters in pipe.get_list_adapters().values() for adapter in adapters}:
        raise ModelError(f"{path} holds no LoRA for this model")


def base_model(pipe: Any) -> str:
    """A name for a pipeline's model that means something on another machine: never a path."""
    source = str(pipe.config.get("_name_or_path") or "unknown")
    if source == str(PIPELINE):
        return POCKET
    return Path(source).name if Path(source).exists() else source


def picture_size(pipe: Any) -> int:
    """The side of the pictures a pipeline is trained with, in pixels. Raises ModelError on no text-to-image model."""
    unet, vae = pipe.unet.config, pipe.vae.config
    if unet.in_channels != vae.latent_channels:
        raise ModelError(f"inversion needs a text-to-image denoiser; this one takes {unet.in_channels} channels")
    size = unet.sample_size if isinstance(unet.sample_size, int) else max(unet.sample_size)
    return size * pipe.vae_scale_factor


def _device(device: str | None) -> str:
    if device is None:
        local = os.environ.get("LOCAL_RANK")  # one of several processes: each has a device of its own
        cuda = f"cuda:{local}" if local else "cuda"
        return cuda if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError as error:
        raise ModelError(f"no device {device!r}; use cpu, cuda, cuda:1 or mps") from error
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not have.get(kind, False) or (kind == "cuda" and (index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"device {device!r} is not on this machine; leave --device out to take the best there is")
    return device


def _dtype(dtype: str | torch.dtype | None, device: str, *, pocket: bool) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        return torch.float16 if device.startswith("cuda") and not pocket else torch.float32
    if dtype not in _DTYPES:
        raise ModelError(f"no dtype {dtype!r}; use {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _reason(model: str | os.PathLike[str], error: Exception) -> str:
    if Path(model).exists():
        return first_line(error)
    return (
        f"it is not {POCKET!r}, no folder or file of that name exists, and the Hugging Face hub did not give it "
        "(no such id, or no network); check the name or download it first"
    )
