"""Loading pipelines: the pocket model, a hub id, a folder or a single file; choice of device and dtype."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from promptplus.denoisers import JOINT, REFINER, denoiser_of, refuse
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
        dtype: ``float32``, ``float16`` or ``bfloat16``. Default: float16 on cuda, except for the pocket model; bfloat16
            where the name says Sana, whose text encoder was trained in it; else float32.

    Returns:
        The pipeline.

    Raises:
        ModelError: the model cannot be found or read, or the device or dtype does not exist.
    """
    as_path(model, ModelError)
    device = _device(device)
    torch_dtype = _dtype(dtype, device, model)
    try:
        pipe = _from_pretrained(model, torch_dtype)
    except ModelError:
        raise
    except Exception as error:  # the loaders of four libraries raise many kinds of exceptions
        raise ModelError(f"cannot load model {str(model)!r}: {_reason(model, error)}") from error
    return pipe.to(device)


def _from_pretrained(model: str | os.PathLike[str], dtype: torch.dtype) -> Any:
    import diffusers  # slow to import: only when a model is loaded

    path = PIPELINE if str(model) == POCKET else Path(model)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(f"{path} is not a .safetensors file; other single files may run code when read")
        return getattr(diffusers, single_file_class(path)).from_single_file(str(path), dtype=dtype)
    source = str(path) if path.is_dir() else str(model)
    index: Any = diffusers.DiffusionPipeline.load_config(source)
    _refuse_early(index)
    return diffusers.DiffusionPipeline.from_pretrained(source, dtype=dtype, use_safetensors=True)


def single_file_class(path: Path) -> str:
    """The pipeline class for a single file of Stable Diffusion, by the names of its tensors; no weights are read.

    Raises ModelError for a file of another kind of model, or of none.
    """
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if not name.startswith(("first_stage_model.", "model_ema."))]
    has = {part for part in _PARTS if any(name.startswith(part) for name in names)}
    if _SECOND_ENCODER in has:
        return "StableDiffusionXLPipeline"
    if any("joint_blocks." in name or "double_blocks." in name for name in names):
        raise ModelError(f"P+ does not support {path}: {JOINT}")
    if _REFINERS_ENCODER in has:
        raise ModelError(f"P+ does not support {path}: {REFINER}")
    if not has:
        raise ModelError(
            f"{path} is no whole Stable Diffusion model: it holds no {', '.join(_PARTS[:1])}…; "
            "for other models give a folder in diffusers' layout"
        )
    return "StableDiffusionPipeline"


_SECOND_ENCODER, _REFINERS_ENCODER = "conditioner.embedders.1.model.", "conditioner.embedders.0.model."
_PARTS = ("model.diffusion_model.", _SECOND_ENCODER, _REFINERS_ENCODER)


def _refuse_early(index: Mapping[str, Any]) -> None:
    """Raise ModelError for a model that P+ does not support, before its weights are read; ``index``: its parts."""
    classes = {name: kind[1] for name, kind in index.items() if isinstance(kind, list | tuple) and len(kind) == 2}
    denoiser = classes.get("unet") or classes.get("transformer")
    refiner = bool(classes.get("text_encoder_2")) and not classes.get("text_encoder")
    refuse(str(index.get("_class_name")), str(denoiser), refiner=refiner)


def base_model(pipe: Any) -> str:
    """The name of a pipeline's model: ``pocket``, a hub id, or the last part of a path."""
    source = str(pipe.config.get("_name_or_path") or "unknown")
    if source == str(PIPELINE):
        return POCKET
    return Path(source).name if Path(source).exists() else source


def picture_size(pipe: Any) -> int:
    """Height and width of a pipeline's native pictures, in pixels. Raises ModelError for other than text-to-image."""
    denoiser, vae = denoiser_of(pipe).config, pipe.vae.config
    if denoiser.in_channels != vae.latent_channels:
        raise ModelError(f"inversion needs a text-to-image denoiser; this one takes {denoiser.in_channels} channels")
    size = denoiser.sample_size if isinstance(denoiser.sample_size, int) else max(denoiser.sample_size)
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


def _dtype(dtype: str | torch.dtype | None, device: str, model: str | os.PathLike[str]) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype is None:
        if not device.startswith("cuda") or str(model) == POCKET:
            return torch.float32
        return torch.bfloat16 if "sana" in str(model).lower() else torch.float16
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
