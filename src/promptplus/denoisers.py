"""Where a pipeline keeps its denoiser and its other models, and which denoisers P+ cannot condition."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from promptplus.errors import ModelError

JOINT = "its blocks attend to text and picture together, so no layer has a text input of its own"
REFUSED: Mapping[str, str] = {
    "FluxTransformer2DModel": JOINT,
    "Flux2Transformer2DModel": JOINT,
    "SD3Transformer2DModel": JOINT,
    "QwenImageTransformer2DModel": JOINT,
    "AuraFlowTransformer2DModel": JOINT,
    "HunyuanImageTransformer2DModel": JOINT,
    "HunyuanVideoTransformer3DModel": JOINT,
    "HunyuanDiT2DModel": "its cross-attention takes the states of two text encoders as one text, which P+ cannot split",
    "Kandinsky3UNet": "its time embedding takes the text states too, so they cannot be split by layer",
    "Kandinsky5Transformer3DModel": "its layers are of a kind of their own, which P+ does not know",
}
"""Why P+ cannot give the layers of a denoiser their own texts, by the denoiser's class."""
REFINER = (
    "the refiner of Stable Diffusion XL only adds detail to a finished picture; "
    "use the base model, and refine its pictures with the stock pipeline"
)


def slot_of(pipe: Any) -> str:
    """The name of the denoiser among the parts of a pipeline: ``unet`` or ``transformer``."""
    return "transformer" if getattr(pipe, "unet", None) is None else "unet"


def denoiser_of(pipe: Any) -> Any:
    """The denoiser of a pipeline: its ``unet`` or its ``transformer``.

    Raises ModelError where there is none, or one that P+ cannot condition; the message says why.
    """
    name = type(pipe).__name__
    denoiser = getattr(pipe, slot_of(pipe), None)
    if denoiser is None:
        raise ModelError(f"{name} has no U-Net and no transformer; P+ needs a denoiser and its text encoder")
    one_encoder = getattr(pipe, "text_encoder_2", None) is not None and getattr(pipe, "text_encoder", None) is None
    refuse(name, type(denoiser).__name__, refiner=one_encoder)
    return denoiser


def refuse(pipeline: str, denoiser: str, *, refiner: bool = False) -> None:
    """Raise ModelError for a pipeline that P+ cannot condition; the message says why.

    Args:
        pipeline, denoiser: names of their classes.
        refiner: whether it is a pipeline of Stable Diffusion XL that has the second text encoder alone.
    """
    reason = REFUSED.get(denoiser)
    if pipeline.startswith("Kandinsky") and denoiser == "UNet2DConditionModel":
        reason = "it draws from picture embeddings, so its layers take no text"
    if refiner:
        reason = REFINER
    if reason:
        raise ModelError(f"P+ does not support {pipeline}: {reason}")


def models_of(pipe: Any) -> dict[str, nn.Module]:
    """The models that a picture depends on, by name: denoiser, text encoders, VAE."""
    encoders = {name: getattr(pipe, name, None) for name in ("text_encoder", "text_encoder_2")}
    found = {"denoiser": denoiser_of(pipe), **encoders, "vae": pipe.vae}
    return {name: model for name, model in found.items() if model is not None}
