"""The pocket's CLIP: pictures and captions of the drawn world in one embedding space.

The picture encoder has the attribute judge's convolutions; the text encoder is a small transformer. A vision
transformer of the same size needed far longer to learn shapes (docs/log.md).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptplus.errors import ModelError
from promptplus.pocket.attribute_judge import WIDTH, AttributeJudge
from promptplus.text_files import read_json

FIRST_LOGIT_SCALE, MAX_LOGIT_SCALE = math.log(14), math.log(30)
"""Logarithm of the scale of the cosines: CLIP's first value, and a maximum below CLIP's 100 for small batches (our
choice)."""
MODEL_TYPE = "drawn-clip"
"""`model_type` in the `config.json` of a saved model."""


class ClipConfig(BaseModel):
    """The content of the model's `config.json`: the text encoder's configuration."""

    text: dict[str, Any]


class ClipModel(nn.Module):
    """Embeds pictures and texts in one space. Its methods have the names of transformers' ``CLIPModel``.

    Args:
        text: arguments of transformers' ``CLIPTextConfig``. The shared space is as wide as the text encoder.
        classes: classes of the attribute heads, which are used in training only and are not saved.
    """

    def __init__(self, text: Mapping[str, Any], classes: Mapping[str, Sequence[str]] | None = None) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel  # slow to import

        super().__init__()
        self.text_config, width = dict(text), text["hidden_size"]
        self.text = CLIPTextModel(CLIPTextConfig(**text))
        self.pictures = AttributeJudge(classes or {})
        self.text_projection = nn.Linear(width, width, bias=False)
        self.picture_projection = nn.Linear(WIDTH, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return self.logit_scale.device

    def get_image_features(self, pixel_values: Float[Tensor, "batch 3 height width"]) -> Any:
        """Embed pixels in [-1, 1]; the output's ``pooler_output`` is [batch, width]."""
        return self._output(self.picture_projection(self.pictures.features(pixel_values)))

    def get_text_features(self, input_ids: Int[Tensor, "batch tokens"]) -> Any:
        """Embed token ids; the output's ``pooler_output`` is [batch, width]."""
        return self._output(self.text_projection(self.text(input_ids=input_ids).pooler_output))

    def similarities(
        self, features: Float[Tensor, "pictures 192"], ids: Int[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts pictures"]:
        """Scaled cosines of every text with every picture; `features` are those of `pictures.features`."""
        pictures = F.normalize(self.picture_projection(features).float(), dim=-1)
        texts = F.normalize(self.get_text_features(ids).pooler_output.float(), dim=-1)
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * texts @ pictures.T

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in half precision, without the attribute heads, and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in self.state_dict().items() if not k.startswith("pictures.heads")}
        state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in kept.items()}
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"model_type": MODEL_TYPE, "text": self.text_config}, indent=2) + "\n"
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder that `save` wrote: float32, eval mode, on the CPU."""
        model = cls(read_json(folder / "config.json", ClipConfig, ModelError, "is no CLIP judge's description").text)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.float().eval()

    def _output(self, pooled: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling  # slow, as above

        return BaseModelOutputWithPooling(pooler_output=pooled)  # type: ignore[arg-type]
