"""Any picture → RGB with 8 bits, as a viewer shows it: depth of samples, colour profiles, transparency."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageCms

from promptplus.errors import PictureError, first_line, warn

CMS: Any = ImageCms  # its types are incomplete
WHITE = (255, 255, 255)
FULL = 65535  # the largest number of 16 bits
DARKEST = 1 / 16  # of the full range; where no sample is above it, the numbers have another range (our choice)
OVERSHOOT = 1e-3  # how far rounding may carry a share above 1
REMEDY = "save it with 8 bits per channel"
BITS, PHOTOMETRIC, MIN_IS_WHITE, SAMPLE_FORMAT, SIGNED = 258, 262, 0, 339, 2  # tags of TIFF, and values of these
LARGEST_VALUE = (341, 281)  # TIFF: SMaxSampleValue, MaxSampleValue
SPACES = {"RGB": ("RGB",), "GRAY": ("L", "1"), "CMYK": ("CMYK",), "Lab": ("LAB",)}
"""The modes of pictures that a profile of each colour space is for."""


@dataclass(frozen=True)
class Samples:
    """How a file stores the numbers of a picture.

    Attributes:
        bits: of each number; 0 where the file does not say.
        top: the number that means white, where the file says so; else 0.
        signed: negative numbers are possible.
        inverted: 0 means white.
    """

    bits: int = 0
    top: int = 0
    signed: bool = False
    inverted: bool = False

    @classmethod
    def of(cls, picture: Image.Image) -> "Samples":
        """What is known of an opened picture, before its pixels are loaded."""
        tags: Any = getattr(picture, "tag_v2", None)
        if tags is None:
            tiles: Any = getattr(picture, "tile", None)
            return cls(bits=16 if tiles and ";16" in str(tiles[0].args) else 0)
        bits = max(_numbers(tags.get(BITS)), default=0)
        tops = [int(top) for tag in LARGEST_VALUE for top in _numbers(tags.get(tag)) if 256 <= top <= FULL]
        # TIFF 6.0: these tags say what occurs, not what white is; a number that fills 9 to 15 bits is both
        top = next((top for top in tops if top & (top + 1) == 0), 2**bits - 1 if 8 < bits < 16 else 0)
        inverted = picture.mode.startswith(("I", "F")) and tags.get(PHOTOMETRIC) == MIN_IS_WHITE
        return cls(int(bits), top, SIGNED in _numbers(tags.get(SAMPLE_FORMAT)), inverted)


UNKNOWN = Samples()


def to_rgb(picture: Image.Image, samples: Samples = UNKNOWN, name: str = "the picture") -> Image.Image:
    """Convert to RGB with 8 bits in sRGB; transparency becomes white.

    Args:
        picture: of any mode.
        samples: how its file stores it.
        name: what messages call it.

    Raises PictureError where the numbers have no clear meaning as brightness, or nothing can be seen.
    """
    profile = picture.info.get("icc_profile", b"")
    if picture.mode.startswith(("I", "F")):
        picture = _grey(picture, samples, name)
    elif samples.signed and _brightest(picture) > 127:
        raise PictureError(f"{name} has negative numbers; {REMEDY}")
    elif samples.bits == 16 and picture.mode == "RGB" and _brightest(picture) < 256 * DARKEST:
        raise PictureError(_too_dark(name, 257 * _brightest(picture), FULL))
    alpha = None
    if picture.mode in ("La", "LA", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        grey = picture.mode in ("L", "LA", "La")
        picture = picture.convert("RGBA") if picture.mode != "La" else picture.convert("LA").convert("RGBA")
        alpha = picture.getchannel("A")
        if alpha.getextrema()[1] == 0:
            raise PictureError(f"{name} is fully transparent; give a picture on which something is seen")
        picture = picture.convert("RGB").convert("L" if grey else "RGB")
    colours = _in_srgb(picture, profile, name)
    if alpha is None:
        return colours
    rgb = Image.new("RGB", colours.size, WHITE)
    rgb.paste(colours, mask=alpha)
    return rgb


def eight_bits(
    values: Shaped[np.ndarray, "..."], samples: Samples = UNKNOWN, name: str = "the picture"
) -> UInt8[np.ndarray, "..."]:
    """Numbers as brightness from 0 to 255.

    Truth values, bytes, 16-bit numbers, shares from 0 to 1 and numbers from 0 to 255 are understood. Raises
    PictureError where the range is another one, or where every number lies in the lowest sixteenth of its range.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "iuf" or values.size == 0:
        raise PictureError(f"{name} holds {values.dtype} of shape {list(values.shape)}, which is no picture")
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError(f"{name} holds numbers that are not finite; {REMEDY}")
    if low < (-OVERSHOOT if values.dtype.kind == "f" else 0):
        raise PictureError(f"{name} has negative numbers, from {low:.6g} to {high:.6g}; {REMEDY}, or scale it to 0 … 1")
    top = _top(values.dtype, float(high), samples, name)
    scaled = (values / np.float32(top / 255)).clip(0, 255).round().astype(np.uint8)
    return 255 - scaled if samples.inverted else scaled


def _top(dtype: np.dtype[Any], high: float, samples: Samples, name: str) -> float:
    """The number that means white."""
    fractions = dtype.kind == "f"
    if fractions:
        top = 1 if high <= 1 + OVERSHOOT else 255
    elif dtype.kind == "u" and dtype.itemsize == 2:
        top = samples.top if high <= samples.top else FULL
    else:
        top = 255 if high <= 255 or samples.signed else FULL
    if high > top:
        raise PictureError(f"{name} has numbers up to {high:.6g}, which have no clear meaning as brightness; {REMEDY}")
    if high < top * DARKEST and (top == FULL or (fractions and top == 255)):
        raise PictureError(_too_dark(name, high, top))
    return top


def _too_dark(name: str, high: float, top: float) -> str:
    return f"{name} has no number above {high:.6g} of {top:g}: it is black, or its numbers have another range; {REMEDY}"


def _grey(picture: Image.Image, samples: Samples, name: str) -> Image.Image:
    """A picture of whole numbers or fractions as 8-bit grey."""
    values = np.asarray(picture)
    grey = eight_bits(values, samples, name)
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, np.uint8(255), grey)
    return Image.fromarray(grey)


def _in_srgb(picture: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """Convert colours to sRGB by the picture's profile; without one, numbers are taken as sRGB."""
    if picture.mode not in ("RGB", "L", "1", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    source: Any = CMS.createProfile("LAB") if picture.mode == "LAB" else None
    try:
        if profile is None:
            raise ValueError("it is damaged")
        if profile:
            given: Any = CMS.ImageCmsProfile(io.BytesIO(profile))
            space = str(given.profile.xcolor_space).strip()
            if picture.mode not in SPACES.get(space, ()):
                raise ValueError(f"it is for {space} and not for {picture.mode}")
            source = given
        if source is not None:
            return _converted(picture.convert("L") if picture.mode == "1" else picture, source)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        warn(f"{name}: the colour profile was left out: {first_line(error)}")
    return _converted(picture, CMS.createProfile("LAB")) if picture.mode == "LAB" else picture.convert("RGB")


def _converted(picture: Image.Image, source: Any) -> Image.Image:
    """Convert from a profile to sRGB. Where the profile is sRGB itself, nothing is rounded a second time."""
    transform = CMS.buildTransform(source, CMS.createProfile("sRGB"), picture.mode, "RGB")
    if picture.mode == "RGB":
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        shown = np.asarray(_applied(Image.fromarray(probe), transform))
        if np.abs(shown.astype(int) - probe).max() <= 1:
            return picture
    return _applied(picture, transform)


def _applied(picture: Image.Image, transform: Any) -> Image.Image:
    converted = CMS.applyTransform(picture, transform)
    assert converted is not None  # only in-place transforms return None
    return converted


def _brightest(picture: Image.Image) -> int:
    """The largest number in a picture of bytes."""
    return int(np.max(picture.getextrema()))


def _numbers(tag: Any) -> list[int]:
    """The whole numbers of a TIFF tag, which may hold one or several numbers, or text."""
    values: Any = np.atleast_1d(tag).tolist()
    return [int(value) for value in values if isinstance(value, int | float) and float(value).is_integer()]
