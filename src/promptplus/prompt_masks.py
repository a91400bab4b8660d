"""Masks of prompt parts: a picture file, a picture or a box → a square grid of weights from 0 to 1."""

import base64
import io
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.errors import PictureError, PromptError, first_line, short
from promptplus.packing import MASK_SIDE
from promptplus.pictures import read_weights, weights_of
from promptplus.prompt_parts import DATA_URI, Box, Part
from promptplus.prompts import PPlusPrompt

MAX_SIDE = 4096  # pixels of a picture in a prompt's text; ours have 128
PNG_SIZE_AT = 16  # the bytes before a PNG's width and height
Grid = Float[Tensor, "side side"]


def mask_grid(mask: str | Box, side: int = MASK_SIDE) -> Grid:
    """A mask as weights: 1 where the part holds, 0 where it does not. The picture's shape is stretched to a square.

    Raises PromptError where a picture cannot be read.
    """
    return _box_grid(mask, side) if isinstance(mask, tuple) else _picture_grid(mask, side)


def _box_grid(box: Box, side: int) -> Grid:
    """The share of each cell that the box covers."""
    left, top, right, bottom = box
    edges = torch.linspace(0, 1, side + 1, dtype=torch.float64)

    def covered(start: float, end: float) -> Float[Tensor, " side"]:
        overlap = edges[1:].clamp(start, end) - edges[:-1].clamp(start, end)
        return (overlap * side).clamp(0, 1)

    return torch.outer(covered(top, bottom), covered(left, right)).float()


def _picture_grid(mask: str, side: int) -> Grid:
    picture = _read(mask).resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)


def mask_path(mask: str) -> Path:
    """The file of a mask; ``~`` is the home folder."""
    return Path(mask).expanduser()


def _read(mask: str) -> Image.Image:
    """The picture of a mask, with one channel."""
    try:
        return _of_data_uri(mask) if mask.startswith(DATA_URI) else read_weights(mask_path(mask))
    except (PictureError, OSError, RuntimeError) as error:  # expanduser's, where there is no home
        raise PromptError(f"the mask of a part cannot be read: {first_line(error)}") from error


def _of_data_uri(mask: str) -> Image.Image:
    """The picture in a mask's text. Its size is read before it is decoded."""
    try:
        data = base64.b64decode(mask.removeprefix(DATA_URI), validate=True)
        width, height = struct.unpack_from(">II", data, PNG_SIZE_AT)
        if max(width, height) > MAX_SIDE:
            raise PictureError(
                f"{short(mask)} is {width}×{height}; at most {MAX_SIDE}×{MAX_SIDE}: give the file instead"
            )
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            return weights_of(picture, "the picture in the prompt")
    except PictureError:
        raise
    except Exception as error:  # decoders of damaged data raise nearly everything
        raise PictureError(f"{short(mask)} is no PNG: {first_line(error)}; give a file or a box") from error


def read_masks(prompt: PPlusPrompt) -> tuple[PPlusPrompt, Mapping[str | Box, Grid]]:
    """The grids of a prompt's masks, and the prompt without those that need none.

    A mask of ones is no mask, and a part with a mask of zeros holds nowhere: it is left out.

    Raises PromptError where a picture cannot be read.
    """
    grids: dict[str | Box, Grid] = {}
    parts: list[Part] = []
    for part in prompt.parts:
        mask = part.mask
        if mask is not None and mask not in grids:
            grids[mask] = mask_grid(mask)
        if mask is None or (grids[mask] == 1).all():
            parts.append(replace(part, mask=None))
        elif grids[mask].any():
            parts.append(part)
    return PPlusPrompt(prompt.default, tuple(parts)), grids
