"""Parts of a prompt: layers, text, and how strongly, when and where the text holds. No model; masks stay unread.

A part is written ``<layers>[*strength][@from-to][#mask]: text``.
"""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple, cast

from PIL import Image

from promptplus.errors import PictureError, PromptError, short
from promptplus.packing import MASK_SIDE
from promptplus.pictures import weights_of

Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge, as shares of the picture's width and height."""
DATA_URI = "data:image/png;base64,"
"""How a mask that is a picture, not a file, is written."""
MAX_STRENGTH = 100  # in half precision the states may overflow beyond; pictures break from 2.5 on (docs/prompts.md)
LARGEST = 1e300  # any finite number that float() can take
WHOLE = (0.0, 1.0)
"""The window of a part that always holds."""

_LAYERS = re.compile(r"[\w.\-]+(?:,[\w.\-]+)*")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WINDOW = re.compile(rf"({_NUMBER})-({_NUMBER})")
_BOX = re.compile(",".join([rf"({_NUMBER})"] * 4))
_PLAIN, _QUOTED = r'[^\s":*@#=]+', r'(?:[^"]|"")*'
_HEAD = re.compile(
    rf'\s*(?P<layers>[\w.\-]+(?:\s*,\s*[\w.\-]+)*)(?P<options>(?:\s*[*@#]\s*(?:"{_QUOTED}"|{_PLAIN}))*)\s*'
)
_OPTION = re.compile(rf'(?P<mark>[*@#])\s*(?:"(?P<quoted>{_QUOTED})"|(?P<plain>{_PLAIN}))')
FORM = "<layers>[*strength][@from-to][#mask]"
"""What stands before a part's text."""


@dataclass(frozen=True)
class Part:
    """A text for some layers.

    ``str`` gives the part in the grammar, before escapes: ``"fine*0.7@0.6-1#left.png: oil painting"``.

    Attributes:
        layers: what ``LayerMap.select`` takes, as ``"coarse"`` or ``"4-9,12"``.
        text: the text.
        strength: the layers' text states are ``default + strength * (part - default)``: 0 is the default text, 1 the
            part's. Values above 1 and below 0 extrapolate; docs/prompts.md says how far that is useful.
        window: from where to where in the denoising the part holds, as shares of the noise schedule: 0 is pure noise, 1
            the finished picture. Step t of T timesteps is at 1 - t / T; the end is not included, but for 1.
        mask: where the part holds: a picture file, a PIL picture (white: the part, black or transparent: what lies
            below), or a box ``(left, top, right, bottom)`` in shares of width and height. None: everywhere. It is kept
            as a ``str`` or a ``Box``; a PIL picture as a text that holds it.

    Raises:
        PromptError: a value is outside its range, or has another form.
    """

    layers: str
    text: str
    strength: float = 1.0
    window: tuple[float, float] = WHOLE
    mask: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PromptError(f"the text of a part is a string, not {short(self.text)}")
        layers = re.sub(r"\s*([,-])\s*", r"\1", str(self.layers).strip())
        if not _LAYERS.fullmatch(layers):
            raise PromptError(f"{layers!r} names no layers; give groups, names or numbers, as 'coarse' or '4-9,12'")
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "strength", _strength(self.strength))
        object.__setattr__(self, "window", _window(self.window))
        object.__setattr__(self, "mask", _mask(self.mask))

    @property
    def head(self) -> str:
        """Layers and options, as they stand before the colon."""
        strength = "" if self.strength == 1 else f"*{_spell(self.strength)}"
        window = "" if self.window == WHOLE else f"@{'-'.join(map(_spell, self.window))}"
        return self.layers + strength + window + ("" if self.mask is None else f"#{_spell_mask(self.mask)}")

    def holds_at(self, progress: float) -> bool:
        """Whether the part holds at a point of the denoising, from 0 to 1."""
        start, end = self.window
        return start <= progress < end or end == progress == 1

    def __str__(self) -> str:
        return f"{self.head}: {self.text}"


class Head(NamedTuple):
    """What stands before a part's text, and where the text begins.

    Attributes:
        layers, options: for ``Part``.
        end: the number of characters that were read.
    """

    layers: str
    options: dict[str, Any]
    end: int


def read_head(text: str) -> Head | None:
    """Read ``<layers>[*strength][@from-to][#mask]`` at the beginning of a text; None where none is there.

    Raises PromptError where an option is given twice, or its value has another form.
    """
    match = _HEAD.match(text)
    if match is None:
        return None
    options: dict[str, Any] = {}
    for found in _OPTION.finditer(match["options"]):
        name, read = _READERS[found["mark"]]
        if name in options:
            raise PromptError(f"{match[0].strip()!r} gives its {name} twice; leave one out")
        quoted = found["quoted"]
        options[name] = read(found["plain"]) if quoted is None else read(quoted.replace('""', '"'), quoted=True)
    return Head(match["layers"], options, match.end())


def _read_strength(text: str, quoted: bool = False) -> float:
    if quoted or not re.fullmatch(_NUMBER, text):
        raise PromptError(f"a strength is a number, as *0.7, not {short(text)}")
    return float(text)


def _read_window(text: str, quoted: bool = False) -> tuple[float, float]:
    match = None if quoted else _WINDOW.fullmatch(text)
    if match is None:
        raise PromptError(f"a window is written @from-to with shares of the denoising, as @0.6-1, not {short(text)}")
    return float(match[1]), float(match[2])


def _read_mask(text: str, quoted: bool = False) -> str | Box:
    match = None if quoted else _BOX.fullmatch(text)  # a file of such a name is quoted
    return text if match is None else cast(Box, tuple(map(float, match.groups())))


_READERS: dict[str, tuple[str, Any]] = {
    "*": ("strength", _read_strength),
    "@": ("window", _read_window),
    "#": ("mask", _read_mask),
}


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; no number used here comes near the largest."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(cast(Any, value)) < LARGEST


def _are_numbers(value: Any, count: int) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    return len(cast(Sequence[Any], value)) == count and all(map(_is_number, cast(Sequence[Any], value)))


def _strength(value: Any) -> float:
    if not _is_number(value) or abs(value) > MAX_STRENGTH:
        raise PromptError(f"a strength is a number from -{MAX_STRENGTH} to {MAX_STRENGTH}, as 0.7, not {short(value)}")
    return float(value) + 0.0  # -0.0 is 0


def _window(value: Any) -> tuple[float, float]:
    if not _are_numbers(value, 2):
        raise PromptError(f"a window is two shares of the denoising, as (0.6, 1), not {short(value)}")
    start, end = (float(share) + 0.0 for share in cast(Sequence[Any], value))
    if not 0 <= start < end <= 1:
        raise PromptError(
            f"a window goes from 0 (pure noise) to 1 (the picture) and begins before it ends; "
            f"not from {_spell(start)} to {_spell(end)}"
        )
    return start, end


def _mask(value: Any) -> str | Box | None:
    if value is None:
        return None
    if isinstance(value, Image.Image):
        return data_uri(value)
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        text = str(value)
        if not text.strip() or "\0" in text:
            raise PromptError(f"a mask is a picture file, a picture or a box, not {short(value)}")
        return text
    if not _are_numbers(value, 4):
        raise PromptError(
            f"a mask is a picture file, a picture or a box (left, top, right, bottom), not {short(value)}"
        )
    box = cast(Box, tuple(float(share) + 0.0 for share in cast(Sequence[Any], value)))
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise PromptError(
            f"a box is left,top,right,bottom in shares of the picture from 0 to 1, not {','.join(map(_spell, box))}"
        )
    return box


def data_uri(picture: Image.Image) -> str:
    """A mask that is a picture, as text: a PNG with one channel, of the size that masks are used in.

    Raises PromptError where the picture has no clear meaning as weights.
    """
    try:
        weights = weights_of(picture).resize((MASK_SIDE, MASK_SIDE), Image.Resampling.BOX)
    except PictureError as error:
        raise PromptError(f"{error}; a mask has one channel with 8 bits: white is the part") from error
    buffer = io.BytesIO()
    weights.save(buffer, "PNG", optimize=True)
    return DATA_URI + base64.b64encode(buffer.getvalue()).decode()


def _spell(number: float) -> str:
    """The shortest text that reads back as the number."""
    return str(int(number)) if number == int(number) and abs(number) < 1e6 else repr(number)


def _spell_mask(mask: str | Box) -> str:
    if not isinstance(mask, str):
        return ",".join(map(_spell, mask))
    if re.fullmatch(_PLAIN, mask) and not _BOX.fullmatch(mask):
        return mask
    return '"' + mask.replace('"', '""') + '"'
