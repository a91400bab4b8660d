"""LoRA files: checked before a model is loaded, loaded into a pipeline, and their strength in the text encoder."""

import math
import os
import re
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from promptplus.errors import ModelError, first_line, warn

SUFFIX = ".safetensors"
_WITH_STRENGTH = re.compile(r"(?P<path>.+):(?P<strength>[-+]?\d*\.?\d+(?:e[-+]?\d+)?)", re.IGNORECASE)
_FIRST_MATRIX = re.compile(r"(lora_down|lora_A|lora\.down|lora_linear_layer\.down|\.down)\.(\w+\.)?weight$")
_SECOND_MATRIX = re.compile(r"(lora_up|lora_B|lora\.up|lora_linear_layer\.up|\.up)\.(\w+\.)?weight$")
_OTHER_KINDS = {"hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT", "diff": "full difference", "glora_": "GLoRA"}
"""Parts of tensor names in files of LyCORIS, which are no LoRA, and what they are."""
_LOCK = threading.RLock()
_safe_open: Any = safe_open  # it has no types


@dataclass(frozen=True)
class Lora:
    """A LoRA file and its strength.

    Attributes:
        path: a safetensors file, in the layout of diffusers, kohya and others.
        strength: factor on what it changes; 1: as it was trained.
    """

    path: Path
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.strength):
            raise ModelError(f"the strength of the LoRA {self.path} is a number, as 0.8, not {self.strength}")

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Self:
        """``FILE`` or ``FILE:STRENGTH``, as ``style.safetensors:0.8``. A file whose whole name this is comes first."""
        match = _WITH_STRENGTH.fullmatch(str(text))
        if match is None or Path(text).exists():
            return cls(Path(text))
        return cls(Path(match["path"]), float(match["strength"]))

    def check(self) -> int:
        """Read the file, without a model. Returns its number of LoRA layers. Further calls do not read it again.

        Warns of layers of other kinds beside them. Raises ModelError where it is missing, damaged, of another kind, or
        holds numbers that are not finite.
        """
        return self._layers

    @cached_property
    def _layers(self) -> int:
        if not self.path.is_file() or self.path.suffix.lower() != SUFFIX:
            raise ModelError(f"{self.path} is no {SUFFIX} file; give a LoRA's file, as pytorch_lora_weights{SUFFIX}")
        names, kinds = set[str](), set[str]()
        try:
            for name, tensor in self._tensors():
                names.add(name)
                kinds |= {kind for part, kind in _OTHER_KINDS.items() if f".{part}" in name}
                if not torch.isfinite(tensor.float()).all():
                    raise ModelError(f"{self.path} holds numbers that are not finite, in {name}; it cannot be used")
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{self.path} is not a safetensors file: {first_line(error)}") from error
        others, layers = " and ".join(sorted(kinds)), {name for name in names if _FIRST_MATRIX.search(name)}
        if not layers:
            if kinds:
                raise ModelError(f"{self.path} holds no LoRA layers: it is {others}, which diffusers does not load")
            raise ModelError(f"{self.path} holds no LoRA layers; give a LoRA's file")
        if alone := {_second(name) for name in layers} ^ {name for name in names if _SECOND_MATRIX.search(name)}:
            raise ModelError(f"{self.path} is damaged: one of a layer's two matrices is missing, near {min(alone)}")
        if kinds:
            warn(f"{self.path} holds {others} layers too, which diffusers does not load; they are left out")
        return len(layers)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        with _safe_open(self.path, framework="pt") as file:
            for name in file.keys():
                yield name, file.get_tensor(name)


def _second(name: str) -> str:
    """The name of a layer's second matrix, from that of its first."""
    return _FIRST_MATRIX.sub(lambda match: match[0].replace("down", "up").replace("lora_A", "lora_B"), name)


def add_loras(pipe: Any, loras: Sequence[Lora | str | os.PathLike[str]]) -> None:
    """Load LoRA files into a pipeline. Call it before P+ is installed: layers are replaced.

    Warns where some of a file's layers do not exist in the model.

    Args:
        pipe: the pipeline.
        loras: the files, with their strength or at full strength.

    Raises:
        ModelError: a file is missing or is not a LoRA for this model, or peft is not installed.
    """
    chosen = [lora if isinstance(lora, Lora) else Lora(Path(lora)) for lora in loras]
    layers = [lora.check() for lora in chosen]
    for number, (lora, expected) in enumerate(zip(chosen, layers, strict=True)):
        _add(pipe, lora, f"lora{number}", expected)
    if chosen:
        pipe.set_adapters([f"lora{number}" for number in range(len(chosen))], [lora.strength for lora in chosen])


def _add(pipe: Any, lora: Lora, name: str, expected: int) -> None:
    """Load one file under an adapter name; ``expected``: its number of LoRA layers."""
    path = lora.path.absolute()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are intended
            pipe.load_lora_weights(str(path.parent), weight_name=path.name, adapter_name=name, use_safetensors=True)
    except Exception as error:  # peft and diffusers raise many kinds of exceptions
        if "PEFT backend" in str(error):
            raise ModelError("LoRA needs peft: pip install 'promptplus[lora]'") from error
        raise ModelError(f"cannot load the LoRA {lora.path}: {' '.join(str(error).split())[:300]}") from error
    names = ("unet", "transformer", "text_encoder", "text_encoder_2")
    models = [model for name in names if (model := getattr(pipe, name, None)) is not None]
    loaded = sum(name in getattr(module, "lora_A", ()) for model in models for module in model.modules())
    if not loaded:
        raise ModelError(f"{lora.path} holds no LoRA for this model: none of its {expected} layers exists there")
    if loaded < expected:
        warn(
            f"{lora.path}: {loaded} of {expected} LoRA layers fit this model, the others are left out; "
            "it was made for another model"
        )


@contextmanager
def lora_scaled(text_encoder: Any, scale: float | None) -> Generator[None]:
    """While inside, the LoRA layers of a text encoder have this strength, as in the stock pipeline.

    The strength is kept in the layers, which all threads share. So where there are such layers, our calls take turns.
    """
    if not getattr(text_encoder, "_hf_peft_config_loaded", False):
        yield
        return
    from diffusers.utils import peft_utils  # slow to import

    scale_layers: Any = peft_utils.scale_lora_layers  # it has no types
    layers: list[Any] = [module for module in text_encoder.modules() if hasattr(module, "scale_layer")]
    with _LOCK:
        before = [dict(layer.scaling) for layer in layers]
        scale_layers(text_encoder, 1.0 if scale is None else scale)
        try:
            yield
        finally:
            for layer, scaling in zip(layers, before, strict=True):
                layer.scaling.update(scaling)
