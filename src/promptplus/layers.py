"""Which cross-attention layers a denoiser has: names, groups, and their order from coarse to fine.

A layer's identity is its name, resolved once from the module's path; nothing counts at run time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from torch import nn

from promptplus.errors import LayerError

_PATH = re.compile(
    r"(?P<side>down|mid|up)_blocks?(?:\.(?P<block>\d+))?"
    r"\.attentions\.(?P<attention>\d+)\.transformer_blocks\.(?P<transformer>\d+)\.attn2"
)
_SIDES = ("down", "mid", "up")
_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
GROUPS = ("coarse", "medium", "fine", "down", "mid", "up")

# kohya's sixteen block names, in forward order, for the one layout they are defined on (SD 1.x and 2.x).
_KOHYA = {
    **{f"down.{b}.{a}": f"IN{1 + 3 * b + a:02d}" for b in range(3) for a in range(2)},
    "mid.0": "MID",
    **{f"up.{b}.{a}": f"OUT{3 * b + a:02d}" for b in range(1, 4) for a in range(3)},
}


@dataclass(frozen=True)
class Layer:
    """One cross-attention layer.

    Attributes:
        name: ``side.block.attention``, as ``down.0.1`` or ``mid.0``; where a transformer is deeper than one block,
            the block's number follows (``up.0.1.7``).
        resolution: side of its latent grid, in latent pixels at the model's native picture size.
        kohya: kohya's name (``IN02``), where the model has exactly the sixteen layers those names are defined on.
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
        """The block it is in: ``down.0``, ``mid`` or ``up.3``."""
        return self.direction if self.direction == "mid" else ".".join(self.name.split(".")[:2])


@dataclass(frozen=True)
class LayerMap:
    """The cross-attention layers of one denoiser, in forward order."""

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, unet: nn.Module) -> Self:
        """The layers of a ``UNet2DConditionModel``; raises LayerError where it has none that take text alone."""
        config = getattr(unet, "config", None)
        blocks = len(getattr(unet, "down_blocks", ()))
        paths = _paths(unet)
        if not paths or config is None:
            raise LayerError(f"{type(unet).__name__} has no cross-attention layers that P+ knows (…attn2)")
        size = config.sample_size if isinstance(config.sample_size, int) else max(config.sample_size or (64,))
        deep = any(int(m["transformer"]) for m in paths)
        return cls.from_names([(_name(m, deep), -(-size // 2 ** _level(m, blocks))) for m in paths])

    @classmethod
    def from_names(cls, names: list[tuple[str, int]]) -> Self:
        """Rebuild a map from (name, resolution) pairs in forward order, as a concept file stores them."""
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
        """Layer names, forward order."""
        return tuple(layer.name for layer in self.layers)

    def module_paths(self) -> tuple[str, ...]:
        """Dotted path of each layer's ``attn2`` inside the denoiser."""
        return tuple(_module_path(layer.name) for layer in self.layers)

    def group(self, name: str) -> tuple[int, ...]:
        """Layer indices of one of GROUPS. Coarse, medium and fine are defined by resolution (docs/log.md):

        the highest level is fine, the two lowest are coarse (one where fewer than four levels exist), the rest medium.
        """
        if name in _SIDES:
            return tuple(i for i, layer in enumerate(self.layers) if layer.direction == name)
        sizes = sorted({layer.resolution for layer in self.layers})
        coarse = min(2, max(1, len(sizes) - 2))
        bands = {"coarse": sizes[:coarse], "medium": sizes[coarse:-1], "fine": sizes[coarse:][-1:]}
        return tuple(i for i, layer in enumerate(self.layers) if layer.resolution in bands[name])

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        """Layer indices of each block by its name, forward order."""
        names = dict.fromkeys(layer.block for layer in self.layers)
        return {name: tuple(i for i, layer in enumerate(self.layers) if layer.block == name) for name in names}

    def select(self, spec: str) -> tuple[int, ...]:
        """Layer indices of a comma list of groups, names (or their beginnings), kohya names, indices and ranges.

        ``"coarse"``, ``"down.0.1"``, ``"down.0"``, ``"IN08,OUT03"``, ``"6"``, ``"4-9"``, ``"mid, 13-15"``. Returns
        them sorted and unique. Raises LayerError naming the unknown part and what is allowed.
        """
        chosen: set[int] = set()
        for part in spec.split(","):
            chosen.update(self._select_one(part.strip()))
        return tuple(sorted(chosen))

    def _select_one(self, part: str) -> tuple[int, ...]:
        if part in GROUPS:
            found = self.group(part)
            if not found:
                raise LayerError(f"this model has no {part} layers; it has {', '.join(self.names)}")
            return found
        if span := _RANGE.fullmatch(part):
            first, last = int(span[1]), int(span[2])
            if first <= last < len(self):
                return tuple(range(first, last + 1))
        elif part.isdecimal():
            if int(part) < len(self):
                return (int(part),)
        elif part:
            hits = (i for i, layer in enumerate(self.layers) if _matches(layer, part))
            if found := tuple(hits):
                return found
        names = f"{self.names[0]} … {self.names[-1]}"
        if self[0].kohya:
            names += f", {self[0].kohya} … {self[-1].kohya}"
        raise LayerError(
            f"no layer {part!r}: use a group ({', '.join(GROUPS)}), a name ({names}), an "
            f"index 0–{len(self) - 1} or a range such as 0-{len(self) - 1}"
        )

    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """Nested subsets, coarse to fine: none; mid; then, level by level, the down and the up layers.

        On Stable Diffusion 1.x their sizes are 0, 1, 3, 6, 8, 11, 13, 16 (the paper's figure, read in docs/log.md).
        """
        subsets: list[tuple[int, ...]] = [()]
        steps = [self.group("mid")]
        for size in sorted({layer.resolution for layer in self.layers}):
            for side in ("down", "up"):
                here = enumerate(self.layers)
                steps.append(tuple(i for i, x in here if x.resolution == size and x.direction == side))
        for step in filter(None, steps):
            subsets.append(tuple(sorted(subsets[-1] + step)))
        return tuple(subsets)

    def describe(self, indices: tuple[int, ...]) -> str:
        """A short name for a set of layers: a group where one fits, else the layer names."""
        if len(indices) == len(self):
            return "all layers"
        for group in GROUPS:
            if tuple(indices) == self.group(group):
                return f"the {group} layers"
        names = ", ".join(self.names[i] for i in indices)
        return f"layer {names}" if len(indices) == 1 else f"layers {names}"


def _paths(unet: nn.Module) -> list[re.Match[str]]:
    """The parsed module paths of the layers, in forward order (``named_modules`` lists the mid block last)."""
    found: list[re.Match[str]] = []
    for path, module in unet.named_modules():
        if path.endswith("attn2"):
            match = _PATH.fullmatch(path)
            if match is None or not getattr(module, "is_cross_attention", True):
                raise LayerError(f"P+ does not know how to condition {path} of {type(unet).__name__}")
            found.append(match)
        elif path.endswith("attn1") and getattr(module, "is_cross_attention", False):
            raise LayerError(f"{path} of {type(unet).__name__} takes text too; P+ cannot split it")

    def forward_order(m: re.Match[str]) -> tuple[int, ...]:
        return (_SIDES.index(m["side"]), int(m["block"] or 0), int(m["attention"]), int(m["transformer"]))

    return sorted(found, key=forward_order)


def _level(match: re.Match[str], blocks: int) -> int:
    """How often the grid was halved where this layer works: 0 is the finest."""
    if match["side"] == "down":
        return int(match["block"])
    return blocks - 1 - int(match["block"] or 0)


def _name(match: re.Match[str], deep: bool) -> str:
    parts = [match["side"], match["block"], match["attention"], match["transformer"] if deep else None]
    return ".".join(part for part in parts if part is not None)


def _module_path(name: str) -> str:
    side, *numbers = name.split(".")
    root = "mid_block" if side == "mid" else f"{side}_blocks.{numbers.pop(0)}"
    attention, *transformer = numbers
    return f"{root}.attentions.{attention}.transformer_blocks.{(transformer or ['0'])[0]}.attn2"


def _matches(layer: Layer, part: str) -> bool:
    return layer.name == part or layer.name.startswith(part + ".") or layer.kohya == part.upper()
