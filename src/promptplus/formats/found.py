"""What a file says of a concept, in plain values, whatever format it has."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.choices import Kind, Tying
from promptplus.errors import ConceptError
from promptplus.layers import LayerMap
from promptplus.placeholders import check_form, normal

Formats = Mapping[str, str]
OURS = "promptplus"
KOHYA_XTI = "kohya XTI"
MKSHING = "mkshing P+"
CLONEOFSIMO = "cloneofsimo"
DIFFUSERS = "diffusers textual inversion"
A1111 = "A1111 textual inversion"
KOHYA = "kohya textual inversion"
SDXL = "SDXL textual inversion"
ONETRAINER = "OneTrainer textual inversion"
FORMATS: Formats = {
    OURS: "one tensor for each layer, and a JSON record in the metadata",
    KOHYA_XTI: "IN01 … OUT11, each [vectors, width]",
    MKSHING: "token-0 … token-15, each [width]; SeongMon's too",
    CLONEOFSIMO: "<token-layer-vector>, each [width]; <token>, which stands before them on all layers",
    DIFFUSERS: "the token, [vectors, width] or [width]; InvokeAI's too",
    A1111: "string_to_param['*'], [vectors, width]; name",
    KOHYA: "emb_params, [vectors, width]",
    SDXL: "clip_l and clip_g, [vectors, width] each; of kohya, OneTrainer and diffusers",
    ONETRAINER: "emp_params, [vectors, width]",
}
"""The formats that are read, and what their files hold."""

MOST_VECTORS = 75  # a text of CLIP has 77 tokens, two of them its begin and end
MOST_WIDTH = 16384  # the widest text encoder that P+ knows, T5, has 4096
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class FoundConcept:
    """A concept as it lies in a file. All but ``format``, ``left_out`` and ``note`` are fields of ``Concept``.

    Attributes:
        format: one of ``FORMATS``.
        token: "" where the file names none.
        rows: ``[layers, vectors, width]``, float32.
        layers: the layers the rows are for. A textual inversion has none of its own: it gets those of the model that
            its width suggests, and is tied over all layers, so that it fits any model of this width.
        left_out: names of tensors in the file that are not part of a concept.
        note: how the file was understood, where it can be understood in several ways.
    """

    format: str
    token: str
    rows: Float[Tensor, "layers vectors width"]
    layers: LayerMap
    tying: Tying = "layer"
    initializer: str = ""
    class_word: str = ""
    kind: Kind = "object"
    base_model: str = ""
    token_table: str = ""
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    encoders: tuple[tuple[str, int], ...] = ()
    left_out: tuple[str, ...] = ()
    note: str = ""

    @property
    def parts(self) -> dict[str, Float[Tensor, "layers vectors part"]]:
        """The rows by text encoder; under "" where there is one."""
        if not self.encoders:
            return {"": self.rows}
        names, widths = zip(*self.encoders, strict=True)
        return dict(zip(names, torch.split(self.rows, list(widths), dim=-1), strict=True))

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the ``Concept``."""
        ours = {"format", "left_out", "note"}
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ours}


def as_token(name: str) -> str:
    """A name as a placeholder token: ``Cat-Toy`` → ``<cat-toy>``; "" where it cannot be one, or is ``*``, no name."""
    text = normal(name.strip())
    if text == "*":
        return ""
    token = text if text.startswith("<") and text.endswith(">") else f"<{text}>"
    try:
        return check_form(token)
    except ConceptError:
        return ""


def check_rows(place: str, value: object) -> Float[Tensor, "vectors width"]:
    """The rows in one tensor of a file: ``[vectors, width]``, float32. Half precision becomes float32 exactly.

    Args:
        place: begins the message, as ``cat.pt: emb_params``.
        value: ``[vectors, width]`` or ``[width]``.

    Raises ConceptError where it is no such tensor, or holds numbers that are not finite.
    """
    want = "rows are [vectors, width] or [width], of float32, float16 or bfloat16"
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.is_quantized or value.is_meta:
        raise ConceptError(f"{place} is no plain tensor, but {type(value).__name__}; {want}")
    shape = list(value.shape)
    if value.dtype not in DTYPES or value.ndim not in (1, 2) or 0 in shape:
        raise ConceptError(f"{place} is {str(value.dtype).removeprefix('torch.')} {shape}; {want}")
    if shape[-1] > MOST_WIDTH or (value.ndim == 2 and shape[0] > MOST_VECTORS):
        raise ConceptError(f"{place} is {shape}; a concept has at most {MOST_VECTORS} vectors of width {MOST_WIDTH}")
    rows = value.detach().float().reshape(-1, shape[-1])
    if not torch.isfinite(rows).all():
        raise ConceptError(f"{place} holds numbers that are not finite; its training failed, or it is damaged")
    return rows
