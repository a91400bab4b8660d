"""A CLIP of the drawn world: the attribute judge's convolutions and a small text transformer point into one space.

Its picture tower is convolutional, for a vision transformer of its size took far longer to learn shapes (docs/log.md).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from promptplus.pocket.attribute_judge import WIDTH, AttributeJudge

FIRST_LOGIT_SCALE, MAX_LOGIT_SCALE = math.log(14), math.log(30)  # CLIP's start; a lower end, for small batches
KIND = "drawn-clip"


class ClipModel(nn.Module):
    """Pictures and texts → one space; called as transformers' ``CLIPModel`` is.

    Args:
        text: of transformers' ``CLIPTextConfig``; the shared space is as wide as the text encoder.
        classes: heads over the picture features that help training; they are not saved.
    """

    def __init__(self, text: Mapping[str, Any], classes: Mapping[str, Sequence[str]] | None = None) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel  # slow to import: only where a judge is asked for

        super().__init__()
        self.text_config, width = dict(text), text["hidden_size"]
        self.text = CLIPTextModel(CLIPTextConfig(**text))
        self.pictures = AttributeJudge(classes or {})
        self.text_projection = nn.Linear(width, width, bias=False)
        self.picture_projection = nn.Linear(WIDTH, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(FIRST_LOGIT_SCALE))

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.logit_scale.device

    def get_image_features(self, pixel_values: Tensor) -> Any:
        """Pixels [B, 3, H, W] in [-1, 1] → an output whose ``pooler_output`` is [B, width]."""
        return self._output(self.picture_projection(self.pictures.features(pixel_values)))

    def get_text_features(self, input_ids: Tensor) -> Any:
        """Ids [B, S] → an output whose ``pooler_output`` is [B, width]."""
        return self._output(self.text_projection(self.text(input_ids=input_ids).pooler_output))

    def similarities(self, features: Tensor, ids: Tensor) -> Tensor:
        """Scaled cosines [texts, pictures] of picture features [B, 192] and ids [B, S]."""
        pictures = F.normalize(self.picture_projection(features).float(), dim=-1)
        texts = F.normalize(self.get_text_features(ids).pooler_output.float(), dim=-1)
        return self.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * texts @ pictures.T

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` in half precision, without heads, and `config.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in self.state_dict().items() if not k.startswith("pictures.heads")}
        state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in kept.items()}
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": KIND, "text": self.text_config}, indent=2) + "\n")

    @staticmethod
    def is_in(source: str | Path) -> bool:
        """Whether a folder holds what `save` wrote."""
        path = Path(source) / "config.json"
        return path.is_file() and json.loads(path.read_text("utf-8")).get("model_type") == KIND

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote: float32, eval mode, on the CPU."""
        model = cls(json.loads((folder / "config.json").read_text("utf-8"))["text"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.float().eval()

    def _output(self, pooled: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling  # slow, as above

        return BaseModelOutputWithPooling(pooler_output=pooled)  # type: ignore[arg-type]
