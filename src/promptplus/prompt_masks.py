"""Masks of prompt parts: a picture file, a picture or a box → a square grid of weights from 0 to 1."""

import base64
import binascii
import io
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from promptplus.errors import PictureError, PromptError, first_line, short
from promptplus.packing import MASK_SIDE
from promptplus.pictures import MAX_PIXELS, read_picture
from promptplus.prompt_parts import DATA_URI, Box, Part
from promptplus.prompts import PPlusPrompt

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


def _read(mask: str) -> Image.Image:
    """The picture of a mask, with one channel."""
    if not mask.startswith(DATA_URI):
        try:
            return read_picture(mask).convert("L")
        except PictureError as error:
            raise PromptError(f"the mask of a part cannot be read: {error}") from error
    try:
        data = base64.b64decode(mask.removeprefix(DATA_URI), validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PromptError(f"the mask {short(mask)} has more than {MAX_PIXELS} pixels; make it smaller")
            return picture.convert("L")
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, PromptError):
            raise
        raise PromptError(f"the mask {short(mask)} is no PNG: {first_line(error)}; give a file or a box") from error


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
            parts.append(Part(part.layers, part.text, part.strength, part.window))
        elif grids[mask].any():
            parts.append(part)
    return PPlusPrompt(prompt.default, tuple(parts)), grids
