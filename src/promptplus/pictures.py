"""One picture: a file, a PIL picture, an array or a tensor → RGB; pictures → square tensors.

Files are recognised by their contents. Their size is checked before they are decoded.
"""

import os
import stat
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from promptplus.errors import PictureError, first_line
from promptplus.picture_colours import Samples, eight_bits, to_rgb
from promptplus.png_chunks import SHEET_KEY, is_sheet, without_text

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # not EPS, for which Pillow runs Ghostscript
MAX_PIXELS = 100_000_000  # as of the largest cameras; a larger file may be a decompression bomb
MAX_BYTES = 2**30  # MAX_PIXELS of 8 bytes fit (our choice)
MIN_SIDE = 8  # pixels; a smaller picture is less than one latent pixel of Stable Diffusion (our choice)
MAX_ASPECT = 8  # long side / short side; of a longer picture the centre square shows next to nothing (our choice)
CHANNELS = (1, 3, 4)
_decoding = threading.Lock()  # Python's list of warning filters belongs to all threads


def read_picture(path: str | os.PathLike[str]) -> Image.Image:
    """Read one picture file: RGB, turned upright by its EXIF orientation; of an animation, the first frame.

    Raises PictureError where the path is no ordinary file, or its contents cannot be read as a picture.
    """
    with _reported(str(path)):
        return to_rgb(*_decoded(Path(path)), str(path))


def read_weights(path: str | os.PathLike[str]) -> Image.Image:
    """Read one picture file as weights, as ``weights_of``. Raises PictureError where it cannot be read."""
    with _reported(str(path)):
        return _weights(*_decoded(Path(path)), str(path))


def weights_of(picture: Image.Image, name: str = "the mask") -> Image.Image:
    """A picture as weights: one channel with 8 bits, white for all and black for nothing; transparent is black.

    Raises PictureError where its numbers have no clear meaning as brightness.
    """
    with _reported(name):
        return _weights(_upright(picture), Samples.of(picture), name)


def _weights(picture: Image.Image, samples: Samples, name: str) -> Image.Image:
    weights = to_rgb(picture, samples, name).convert("L")
    if not picture.has_transparency_data:
        return weights
    alpha = picture.convert("RGBA").getchannel("A")
    return ImageChops.subtract(weights, ImageChops.invert(alpha))  # to_rgb laid it on white


def to_picture(item: Any, name: str = "the picture") -> Image.Image:
    """One picture to learn from, as RGB.

    Args:
        item: a path, a PIL picture, a numpy array ``[height, width]`` or ``[height, width, channels]``, or a tensor
            ``[channels, height, width]``. Arrays hold bytes, 16-bit numbers, or fractions from 0 to 1.
        name: what messages call it.

    Raises:
        PictureError: it cannot be read, is no single picture, or is too small or too long to learn from.
    """
    if is_path(item):
        path = Path(item)
        picture = read_picture(path)
        if is_sheet(path):
            raise PictureError(f"{path} is a sheet of several pictures that promptplus made; give single pictures")
        return check_shape(picture, str(path))
    with _reported(name):
        if isinstance(item, Image.Image):
            if SHEET_KEY in item.info:
                raise PictureError(f"{name} is a sheet of several pictures that promptplus made; give single pictures")
            samples = Samples.of(item)
            picture = to_rgb(_upright(item), samples, name)
        elif isinstance(item, Tensor | np.ndarray):
            picture = to_rgb(_of_array(item, name), name=name)
        else:
            raise PictureError(f"{name} is of type {type(item).__name__}; give paths, PIL pictures, arrays or tensors")
    return check_shape(picture, name)


def check_shape(picture: Image.Image, name: str) -> Image.Image:
    """Check that a picture is large enough to learn from, and not too long. Returns it."""
    short, long = sorted(picture.size)
    size = f"{picture.width}×{picture.height}"
    if short < MIN_SIDE:
        raise PictureError(f"{name} is {size}; give pictures of at least {MIN_SIDE}×{MIN_SIDE} pixels")
    if long > MAX_ASPECT * short:
        raise PictureError(f"{name} is {size}; give pictures at most {MAX_ASPECT} times as long as wide, or crop it")
    return picture


def to_pixels(pictures: Sequence[Image.Image], size: int) -> Float[Tensor, "pictures 3 size size"]:
    """The centre squares of pictures, resized to ``size`` pixels, with values in [-1, 1]."""
    return pixels_of([ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS) for picture in pictures])


def pixels_of(pictures: Sequence[Image.Image]) -> Float[Tensor, "pictures 3 height width"]:
    """The pixels of RGB pictures of one size, with values in [-1, 1]."""
    array = np.stack([np.asarray(picture, np.float32) for picture in pictures])
    return torch.from_numpy(array).permute(0, 3, 1, 2) / 127.5 - 1  # pyright: ignore[reportUnknownMemberType]


def is_path(item: Any) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a value names a file or a folder."""
    return isinstance(item, str | os.PathLike)


@cache
def readable_formats() -> tuple[str, ...]:
    """The formats that can be read: FORMATS, AVIF where Pillow has it, HEIC where ``promptplus[heic]`` is installed."""
    formats = (*FORMATS, "AVIF") if features.check("avif") else FORMATS  # pyright: ignore[reportUnknownMemberType]
    try:
        from pillow_heif import register_heif_opener  # pyright: ignore[reportUnknownVariableType]
    except ImportError:
        return formats
    register_heif_opener()
    return (*formats, "HEIF")


@contextmanager
def _ordinary(path: Path) -> Generator[BinaryIO]:
    """Open a file. A named pipe, a socket or a device would block, so these are never opened."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise PictureError(f"{path} is {what} and not a picture file")
    if status.st_size > MAX_BYTES:
        raise PictureError(f"{path} has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
    with path.open("rb") as file:
        yield file


def _decoded(path: Path) -> tuple[Image.Image, Samples]:
    """The first picture of a file, turned upright, and how the file stores it."""
    with _ordinary(path) as file, _decoding, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow: large pictures, for which we have our own limit; odd EXIF
        with Image.open(without_text(file), formats=readable_formats()) as picture:
            samples = Samples.of(picture)
            return _upright(picture), samples


def _upright(picture: Image.Image) -> Image.Image:
    """Load the pixels, and turn them as the EXIF orientation says. Damaged EXIF is passed over, as viewers do."""
    if picture.width * picture.height > MAX_PIXELS:
        raise PictureError(f"it is {picture.width}×{picture.height}; at most {MAX_PIXELS:,} pixels are read")
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # whatever a damaged file makes Pillow raise
        return picture.copy()


def _of_array(values: Any, name: str) -> Image.Image:
    """An array ``[height, width(, channels)]`` or a tensor ``[channels, height, width]`` as a picture."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()
        layout, last = "[channels, height, width]", "permute(2, 0, 1)"
        if values.ndim == 3 and values.shape[0] in CHANNELS:
            values, last = np.moveaxis(values, 0, -1), ""
    else:
        layout, last = "[height, width, channels]", "transpose(1, 2, 0)"
        last = "" if values.ndim == 3 and values.shape[2] in CHANNELS else last
    if values.ndim not in (2, 3) or (values.ndim == 3 and last) or 0 in values.shape:
        advice = f"; try .{last}" if values.ndim == 3 and last else ""
        raise PictureError(f"{name} has the shape {list(values.shape)}, not {layout} with 1, 3 or 4 channels{advice}")
    alone = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    return Image.fromarray(np.ascontiguousarray(eight_bits(alone, name=name)))


@contextmanager
def _reported(name: str) -> Generator[None]:
    """Turn whatever the contents of a file make Pillow raise into a PictureError that names the file."""
    try:
        yield
    except PictureError as error:
        raise (error if str(error).startswith(name) else PictureError(f"{name}: {error}")) from error.__cause__
    except Exception as error:  # decoders of damaged files raise nearly everything
        reason = first_line(error)
        if isinstance(error, UnidentifiedImageError):
            reason = f"its contents are none of {', '.join(readable_formats())}"
            if name.lower().endswith((".heic", ".heif")):
                reason += "; HEIC needs pip install 'promptplus[heic]'"
        elif isinstance(error, OSError) and error.strerror:
            raise PictureError(f"{name} cannot be read: {error.strerror}") from error
        raise PictureError(f"{name} is not a picture that can be read: {reason}") from error
