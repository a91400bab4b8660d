"""The cross-attention layers of a denoiser: their names, groups, and order from coarse to fine.

A layer is identified by its name, which is read once from the module's path. Nothing is counted at run time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self, cast

from torch import nn

from promptplus.errors import LayerError, check_type

_PATH = re.compile(
    r"(?P<direction>down|mid|up)_blocks?(?:\.(?P<block>\d+))?"
    r"\.attentions\.(?P<attention>\d+)\.transformer_blocks\.(?P<transformer>\d+)\.attn2"
)
_DIRECTIONS = ("down", "mid", "up")
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
GROUPS = ("coarse", "medium", "fine", "down", "mid", "up")

# The sixteen block names of kohya's scripts, in forward order. They are defined for one layout only (SD 1.x and 2.x).
_KOHYA = {
    **{f"down.{b}.{a}": f"IN{1 + 3 * b + a:02d}" for b in range(3) for a in range(2)},
    "mid.0": "MID",
    **{f"up.{b}.{a}": f"OUT{3 * b + a:02d}" for b in range(1, 4) for a in range(3)},
}


@dataclass(frozen=True)
class Layer:
    """One cross-attention layer.

    Attributes:
        name: ``direction.block.attention``, such as ``down.0.1`` or ``mid.0``. In models with several transformer
            blocks per attention module, the transformer block's number follows: ``up.0.1.7``.
        resolution: height and width of its grid, in latent pixels at the model's native picture size.
        kohya: the name in kohya's scripts, such as ``IN02``; None where the model does not have exactly their
            sixteen layers.
    """

    name: str
    resolution: int
    kohya: str | None = None

    @property
    def direction(self) -> str:
        """``down``, ``mid`` or ``up``."""
        return self.name.split(".")[0]

    @property
    def block(self) -> str:
        """The U-Net block that contains it: ``down.0``, ``mid`` or ``up.3``."""
        return self.direction if self.direction == "mid" else ".".join(self.name.split(".")[:2])


@dataclass(frozen=True)
class LayerMap:
    """The cross-attention layers of one denoiser, in forward order (the order in which a forward pass runs them).

    ``len``, iteration and indexing work on its layers; ``print`` shows them as a table.

    Attributes:
        layers: the layers.
    """

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, unet: nn.Module) -> Self:
        """The layers of a ``UNet2DConditionModel``, or of a ``ControlNetModel``, which has the first ones of its U-Net.

        Raises LayerError where it has no cross-attention layers, or some that P+ does not support.
        """
        config = getattr(unet, "config", None)
        blocks = len(getattr(unet, "down_blocks", ()))
        paths = _paths(unet)
        if not paths or config is None:
            raise LayerError(f"{type(unet).__name__} has no cross-attention layers that P+ knows (…attn2)")
        sample_size = getattr(config, "sample_size", None)  # a ControlNet has none
        size = sample_size if isinstance(sample_size, int) else max(sample_size or (64,))
        deep = any(int(m["transformer"]) for m in paths)
        return cls.from_names([(_name(m, deep), -(-size // 2 ** _level(m, blocks))) for m in paths])

    @classmethod
    def from_names(cls, names: list[tuple[str, int]]) -> Self:
        """A map from (name, resolution) pairs in forward order, as a concept file stores them."""
        sixteen = [name for name, _ in names] == list(_KOHYA)
        return cls(tuple(Layer(name, size, _KOHYA[name] if sixteen else None) for name, size in names))

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __str__(self) -> str:
        lines = [f"{'i':>3}  {'layer':<10} {'kohya':<6} {'grid':>5}  group"]
        for i, layer in enumerate(self.layers):
            group = next(g for g in ("coarse", "medium", "fine") if i in self.group(g))
            grid = f"{layer.resolution}²"
            lines.append(f"{i:>3}  {layer.name:<10} {layer.kohya or '–':<6} {grid:>5}  {group}")
        return "\n".join(lines)

    @property
    def names(self) -> tuple[str, ...]:
        """Layer names in forward order."""
        return tuple(layer.name for layer in self.layers)

    def module_paths(self) -> tuple[str, ...]:
        """The dotted path of each layer's ``attn2`` module inside the denoiser."""
        return tuple(_module_path(layer.name) for layer in self.layers)

    def group(self, name: str) -> tuple[int, ...]:
        """Layer indices of a group: ``coarse``, ``medium``, ``fine``, ``down``, ``mid`` or ``up``.

        Coarse, medium and fine are defined by resolution (our choice, see docs/log.md): the layers of the highest
        resolution are fine, those of the two lowest resolutions coarse (of the lowest one where the model has fewer
        than four resolutions), and all others medium.
        """
        if name in _DIRECTIONS:
            return tuple(i for i, layer in enumerate(self.layers) if layer.direction == name)
        sizes = sorted({layer.resolution for layer in self.layers})
        coarse = min(2, max(1, len(sizes) - 2))
        bands = {"coarse": sizes[:coarse], "medium": sizes[coarse:-1], "fine": sizes[coarse:][-1:]}
        return tuple(i for i, layer in enumerate(self.layers) if layer.resolution in bands[name])

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        """Layer indices by the name of their block, in forward order."""
        names = dict.fromkeys(layer.block for layer in self.layers)
        return {name: tuple(i for i, layer in enumerate(self.layers) if layer.block == name) for name in names}

    def select(self, spec: str) -> tuple[int, ...]:
        """Layer indices of a text that names layers, sorted and without duplicates.

        Args:
            spec: items separated by commas. An item is a group (``"coarse"``), a layer name or its beginning
                (``"down.0.1"``, ``"down.0"``), a kohya name (``"IN08"``), an index (``"6"``) or a range (``"4-9"``).

        Raises:
            LayerError: an item names no layer; the message lists what is allowed.
        """
        check_type(spec, str, "a choice of layers", LayerError)
        chosen: set[int] = set()
        for item in spec.split(","):
            chosen.update(self._select_one(item.strip()))
        return tuple(sorted(chosen))

    def _select_one(self, item: str) -> tuple[int, ...]:
        if item in GROUPS:
            indices = self.group(item)
            if not indices:
                raise LayerError(f"this model has no {item} layers; it has {', '.join(self.names)}")
            return indices
        if span := _RANGE.fullmatch(item):
            first, last = int(span[1]), int(span[2])
            if first <= last < len(self):
                return tuple(range(first, last + 1))
        elif item.isdecimal():
            if int(item) < len(self):
                return (int(item),)
        elif item:
            matches = (i for i, layer in enumerate(self.layers) if _matches(layer, item))
            if indices := tuple(matches):
                return indices
        names = f"{self.names[0]} … {self.names[-1]}"
        if self[0].kohya:
            names += f", {self[0].kohya} … {self[-1].kohya}"
        raise LayerError(
            f"no layer {item!r}: use a group ({', '.join(GROUPS)}), a name ({names}), an "
            f"index 0–{len(self) - 1} or a range such as 0-{len(self) - 1}"
        )

    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """Nested subsets of layer indices, from none to all, in the order coarse to fine.

        They begin with the empty subset and the mid block. Then, from the lowest resolution to the highest, each
        resolution's down layers join, and after them its up layers. On Stable Diffusion 1.x the sizes are 0, 1, 3, 6,
        8, 11, 13 and 16 (our reading of the paper's figure, see docs/log.md).
        """
        subsets: list[tuple[int, ...]] = [()]
        steps = [self.group("mid")]
        for size in sorted({layer.resolution for layer in self.layers}):
            for direction in ("down", "up"):
                steps.append(
                    tuple(i for i, x in enumerate(self.layers) if x.resolution == size and x.direction == direction)
                )
        for step in filter(None, steps):
            subsets.append(tuple(sorted(subsets[-1] + step)))
        return tuple(subsets)

    def describe(self, indices: tuple[int, ...]) -> str:
        """A phrase for a set of layers: the group's name if they form one, else the layers' names."""
        if len(indices) == len(self):
            return "all layers"
        for group in GROUPS:
            if tuple(indices) == self.group(group):
                return f"the {group} layers"
        names = ", ".join(self.names[i] for i in indices)
        return f"layer {names}" if len(indices) == 1 else f"layers {names}"


def _paths(unet: nn.Module) -> list[re.Match[str]]:
    """The parsed module paths of the layers, in forward order; ``named_modules`` lists the mid block last."""
    matches: list[re.Match[str]] = []
    for path, module in cast(Iterator[tuple[str, nn.Module]], unet.named_modules()):
        if path.endswith("attn2"):
            match = _PATH.fullmatch(path)
            if match is None or not getattr(module, "is_cross_attention", True):
                raise LayerError(_unknown(path, type(unet).__name__))
            matches.append(match)
        elif path.endswith("attn1") and getattr(module, "is_cross_attention", False):
            raise LayerError(f"{path} of {type(unet).__name__} takes text too; P+ cannot split it")

    def forward_order(m: re.Match[str]) -> tuple[int, ...]:
        return (_DIRECTIONS.index(m["direction"]), int(m["block"] or 0), int(m["attention"]), int(m["transformer"]))

    return sorted(matches, key=forward_order)


def _unknown(path: str, model: str) -> str:
    """Why a layer cannot be conditioned."""
    if "motion_modules" in path:
        return (
            f"{model} makes videos: its motion modules ({path}) attend across frames. P+ conditions text-to-image "
            "denoisers; use the U-Net without the motion adapter"
        )
    return f"P+ does not know the cross-attention layer {path} of {model}; it knows those of UNet2DConditionModel"


def _level(match: re.Match[str], blocks: int) -> int:
    """How many times the latent grid is halved before this layer; 0 is the highest resolution."""
    if match["direction"] == "down":
        return int(match["block"])
    return blocks - 1 - int(match["block"] or 0)


def _name(match: re.Match[str], deep: bool) -> str:
    parts = [match["direction"], match["block"], match["attention"], match["transformer"] if deep else None]
    return ".".join(part for part in parts if part is not None)


def _module_path(name: str) -> str:
    direction, *numbers = name.split(".")
    root = "mid_block" if direction == "mid" else f"{direction}_blocks.{numbers.pop(0)}"
    attention, *transformer = numbers
    return f"{root}.attentions.{attention}.transformer_blocks.{(transformer or ['0'])[0]}.attn2"


def _matches(layer: Layer, item: str) -> bool:
    return layer.name == item or layer.name.startswith(item + ".") or layer.kohya == item.upper()
