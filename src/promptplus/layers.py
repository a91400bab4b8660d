"""The cross-attention layers of a denoiser: their names, groups, and order from coarse to fine.

A layer is identified by its name, which is read once from the module's path. Nothing is counted at run time.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from torch import nn

from promptplus.backbones import dit, unet
from promptplus.errors import LayerError, check_type

_RANGE = re.compile(r"(\d+)\s*-\s*(\d+)")
BANDS = ("coarse", "medium", "fine")
"""Groups of a U-Net's layers by resolution."""
THIRDS = ("early", "middle", "late")
"""Groups of a diffusion transformer's layers by depth. What each of them decides is not measured."""
GROUPS = (*BANDS, *unet.DIRECTIONS, *THIRDS)
DEPTH_STEPS = 7  # nested subsets of a diffusion transformer, after the empty one: as many as Stable Diffusion has

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
        name: in a U-Net ``direction.block.attention``, such as ``down.0.1`` or ``mid.0``. Where its transformers have
            several layers each, as in Stable Diffusion XL, the layer's number follows: ``up.0.1.7``. In a diffusion
            transformer ``block.7``.
        resolution: height and width of its grid, in latent pixels at the model's native picture size.
        kohya: the name in kohya's scripts, such as ``IN02``; None where the model does not have exactly their
            sixteen layers.
    """

    name: str
    resolution: int
    kohya: str | None = None

    @property
    def direction(self) -> str:
        """``down``, ``mid`` or ``up``; ``block`` in a diffusion transformer."""
        return self.name.split(".")[0]

    @property
    def block(self) -> str:
        """The block that contains it: ``down.0``, ``mid`` or ``up.3``; ``block.7`` in a diffusion transformer."""
        return self.direction if self.direction == "mid" else ".".join(self.name.split(".")[:2])

    @property
    def transformer(self) -> str:
        """The name of its transformer, whose layers follow one another: ``down.1.0`` of ``down.1.0.7``."""
        parts = {"mid": 2}.get(self.direction, 3)
        return ".".join(self.name.split(".")[:parts])


@dataclass(frozen=True)
class LayerMap:
    """The cross-attention layers of one denoiser, in forward order (the order in which a forward pass runs them).

    ``len``, iteration and indexing work on its layers; ``print`` shows them as a table.

    Attributes:
        layers: the layers.
    """

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, denoiser: nn.Module) -> Self:
        """The layers of a U-Net, or of a diffusion transformer that P+ knows.

        A U-Net is a ``UNet2DConditionModel``, or a ``ControlNetModel``, which has the first layers of its U-Net.
        Raises LayerError where it has no cross-attention layers, or some that P+ does not support.
        """
        names = dit.named_layers(denoiser) if dit.is_dit(denoiser) else unet.named_layers(denoiser)
        if not names or getattr(denoiser, "config", None) is None:
            raise LayerError(f"{type(denoiser).__name__} has no cross-attention layers that P+ knows (…attn2)")
        return cls.from_names(names)

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
        bands = {name: self.group(name) for name in self.bands}
        for i, layer in enumerate(self.layers):
            group = next(name for name, indices in bands.items() if i in indices)
            grid = f"{layer.resolution}²"
            lines.append(f"{i:>3}  {layer.name:<10} {layer.kohya or '–':<6} {grid:>5}  {group}")
        return "\n".join(lines)

    @property
    def names(self) -> tuple[str, ...]:
        """Layer names in forward order."""
        return tuple(layer.name for layer in self.layers)

    def module_paths(self) -> tuple[str, ...]:
        """The dotted path of each layer's ``attn2`` module inside the denoiser."""
        path = dit.module_path if self.by_depth else unet.module_path
        return tuple(path(layer.name) for layer in self.layers)

    @property
    def by_depth(self) -> bool:
        """Whether the layers differ in depth alone, as those of a diffusion transformer do."""
        return self[0].direction == dit.BLOCK

    @property
    def bands(self) -> tuple[str, ...]:
        """The groups that share out all layers: by resolution in a U-Net, by depth in a diffusion transformer."""
        return THIRDS if self.by_depth else BANDS

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of all groups that a model of this kind has."""
        return THIRDS if self.by_depth else (*BANDS, *unet.DIRECTIONS)

    def group(self, name: str) -> tuple[int, ...]:
        """Layer indices of a group; none where this kind of model does not have it.

        ``down``, ``mid`` and ``up`` are the parts of a U-Net. ``coarse``, ``medium`` and ``fine`` are defined by
        resolution (our choice, see docs/log.md): the layers of the highest resolution are fine, those of the two lowest
        resolutions coarse (of the lowest one where the model has fewer than four resolutions), and all others medium.
        ``early``, ``middle`` and ``late`` are the thirds of a diffusion transformer's depth.
        """
        if name not in self.groups:
            return ()
        if name in THIRDS:
            part, count = THIRDS.index(name), len(self)
            return tuple(i for i in range(count) if i * len(THIRDS) // count == part)
        if name in unet.DIRECTIONS:
            return tuple(i for i, layer in enumerate(self.layers) if layer.direction == name)
        sizes = sorted({layer.resolution for layer in self.layers})
        coarse = min(2, max(1, len(sizes) - 2))
        bands = {"coarse": sizes[:coarse], "medium": sizes[coarse:-1], "fine": sizes[coarse:][-1:]}
        return tuple(i for i, layer in enumerate(self.layers) if layer.resolution in bands[name])

    @property
    def blocks(self) -> dict[str, tuple[int, ...]]:
        """Layer indices by the name of their block, in forward order."""
        return self._by("block")

    @property
    def transformers(self) -> dict[str, tuple[int, ...]]:
        """Layer indices by the name of their transformer, in forward order."""
        return self._by("transformer")

    def _by(self, part: str) -> dict[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for i, layer in enumerate(self.layers):
            found.setdefault(getattr(layer, part), []).append(i)
        return {name: tuple(indices) for name, indices in found.items()}

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
                raise LayerError(f"this model has no {item} layers; its groups: {', '.join(self._filled_groups)}")
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
            f"no layer {item!r}: use a group ({', '.join(self._filled_groups)}), a name ({names}), an "
            f"index 0–{len(self) - 1} or a range such as 0-{len(self) - 1}"
        )

    @property
    def _filled_groups(self) -> list[str]:
        return [name for name in self.groups if self.group(name)]

    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """Nested subsets of layer indices, from none to all, in the order coarse to fine.

        They begin with the empty subset and the mid block. Then, from the lowest resolution to the highest, each
        resolution's down layers join, and after them its up layers. On Stable Diffusion 1.x the sizes are 0, 1, 3, 6,
        8, 11, 13 and 16 (our reading of the paper's figure, see docs/log.md).

        A diffusion transformer has no resolutions: its subsets are the first layers, in seven steps of depth.
        """
        if self.by_depth:
            ends = dict.fromkeys(len(self) * step // DEPTH_STEPS for step in range(DEPTH_STEPS + 1))
            return tuple(tuple(range(end)) for end in ends)
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
        for group in self.groups:
            if tuple(indices) == self.group(group):
                return f"the {group} layers"
        names = ", ".join(self.names[i] for i in indices)
        return f"layer {names}" if len(indices) == 1 else f"layers {names}"


def _matches(layer: Layer, item: str) -> bool:
    return layer.name == item or layer.name.startswith(item + ".") or layer.kohya == item.upper()
