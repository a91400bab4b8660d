"""Loading pipelines: the pocket model, a hub id, a folder or a single file; choice of device and dtype."""

import os
from pathlib import Path
from typing import Any

import torch

from promptplus.errors import ModelError, first_line, one_of, short
from promptplus.files import as_path
from promptplus.pocket import PIPELINE

POCKET = "pocket"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load(
    model: str | os.PathLike[str] = POCKET, *, device: str | None = None, dtype: str | torch.dtype | None = None
) -> Any:
    """Load a stock diffusers text-to-image pipeline, in evaluation mode, onto a device.

    Args:
        model: ``pocket`` (the bundled model), a folder in diffusers' layout, a single ``.safetensors`` file, or a
            Hugging Face hub id such as ``CompVis/stable-diffusion-v1-4``. Weights are read from safetensors files only.
        device: a torch device such as ``cuda:1``. Default: cuda if there is one, else mps, else cpu.
        dtype: ``float32``, ``float16`` or ``bfloat16``. Default: float16 on cuda, except for the pocket model;
            else float32.

    Returns:
        The pipeline.

    Raises:
        ModelError: the model cannot be found or read, or the device or dtype does not exist.
    """
    as_path(model, ModelError)
    device = _device(device)
    torch_dtype = _dtype(dtype, device, pocket=str(model) == POCKET)
    try:
        pipe = _from_pretrained(model, torch_dtype)
    except ModelError:
        raise
    except Exception as error:  # the loaders of four libraries raise many kinds of exceptions
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


def base_model(pipe: Any) -> str:
    """The name of a pipeline's model: ``pocket``, a hub id, or the last part of a path."""
    source = str(pipe.config.get("_name_or_path") or "unknown")
    if source == str(PIPELINE):
        return POCKET
    return Path(source).name if Path(source).exists() else source


def picture_size(pipe: Any) -> int:
    """Height and width of a pipeline's native pictures, in pixels. Raises ModelError for other than text-to-image."""
    unet, vae = pipe.unet.config, pipe.vae.config
    if unet.in_channels != vae.latent_channels:
        raise ModelError(f"inversion needs a text-to-image denoiser; this one takes {unet.in_channels} channels")
    size = unet.sample_size if isinstance(unet.sample_size, int) else max(unet.sample_size)
    return size * pipe.vae_scale_factor


def _device(device: str | None) -> str:
    if device is None:
        local = os.environ.get("LOCAL_RANK")  # distributed: each process uses one device
        cuda = f"cuda:{local}" if local else "cuda"
        return cuda if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"no device {short(device)}; use cpu, cuda, cuda:1 or mps ({first_line(error)})") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(kind, False) or (kind == "cuda" and (index or 0) >= torch.cuda.device_count()):
        raise ModelError(f"device {device!r} is not on this machine; leave --device out to take the best there is")
    return device


def _dtype(dtype: str | torch.dtype | None, device: str, *, pocket: bool) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        return torch.float16 if device.startswith("cuda") and not pocket else torch.float32
    if not one_of(dtype, _DTYPES):
        raise ModelError(f"no dtype {short(dtype)}; use {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def _reason(model: str | os.PathLike[str], error: Exception) -> str:
    reason = first_line(error)
    if str(model) == POCKET or Path(model).exists():
        return reason
    return (
        f"it is not {POCKET!r}, no folder or file of that name exists, and the Hugging Face hub did not give it "
        f"(no such id, or no network); check the name or download it first ({reason})"
    )
