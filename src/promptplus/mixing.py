"""Two concepts → one: the shape of the first with the style of the second, or a place between them."""

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, SettingsError

FLAT = 1e-4  # sine below which an arc is a line, in float32


def mix(shape: Concept, style: Concept, token: str, shape_layers: str = "coarse") -> Concept:
    """A concept whose ``shape_layers`` rows are ``shape``'s and all others ``style``'s (paper section 5).

    Args:
        shape: decides what the thing is.
        style: decides what it looks like.
        token: the placeholder token of the mixed concept, as ``<catmug>``.
        shape_layers: any layers ``LayerMap.select`` takes. The default, coarse, is our choice (docs/log.md).

    Raises ConceptError where the two were learned on different models or with different numbers of vectors.
    """
    _check(shape, style)
    chosen = shape.layers.select(shape_layers)
    from_shape = torch.zeros(len(shape.layers), 1, 1, dtype=torch.bool)
    from_shape[list(chosen)] = True
    supplied = {layer.name: (shape if i in chosen else style).token for i, layer in enumerate(shape.layers)}
    return Concept(
        token=token,
        rows=torch.where(from_shape, shape.rows, style.rows),
        layers=shape.layers,
        initializer=shape.initializer,
        class_word=shape.class_word,
        kind=shape.kind,
        base_model=shape.base_model,
        token_table=shape.token_table,
        provenance={
            "mixed_from": {"shape": shape.token, "style": style.token, "shape_layers": shape_layers},
            "supplied_by": supplied,
        },
    )


InterpolationPath = Literal["linear", "spherical"]


def interpolate(
    first: Concept,
    second: Concept,
    token: str,
    share: float,
    path: InterpolationPath = "linear",
    *,
    layers: str | None = None,
) -> Concept:
    """A concept part of the way from ``first`` (0) to ``second`` (1), layer by layer (our choice).

    Args:
        path: ``linear``, or ``spherical``: along the arc between the rows' directions, their norms in proportion.
        layers: those that go, as ``LayerMap.select`` takes them; the others stay ``first``'s. Default: all.

    The ends are the concepts' own rows, bit for bit. A tying that both have is kept where all layers go.
    Raises ConceptError as ``mix`` does, SettingsError on another path.
    """
    _check(first, second)
    if path not in get_args(InterpolationPath):
        raise SettingsError(f"a path is {' or '.join(get_args(InterpolationPath))}, not {path!r}")
    rows = first.rows.clone()
    going = list(first.layers.select(layers) if layers else range(len(first.layers)))
    here, there = first.rows[going], second.rows[going]
    ends = {0: here, 1: there}  # the arc's own ends are off by rounding
    between = _arc if path == "spherical" else torch.lerp
    rows[going] = ends[int(share)] if share in ends else between(here, there, share)
    same = first.tying == second.tying and len(going) == len(first.layers)
    return replace(
        first,
        token=token,
        rows=rows,
        tying=first.tying if same else "layer",
        provenance={"between": [first.token, second.token], "share": share, "path": path, "layers": layers or "all"},
    )


def _arc(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation of ``[…, width]`` rows; straight where the directions are the same or opposite."""
    norms = torch.lerp(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), share)
    u, v = (torch.nn.functional.normalize(rows, dim=-1) for rows in (a, b))
    angle = (u * v).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    turned = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / sine.clamp(min=FLAT)
    return norms * torch.where(sine < FLAT, torch.lerp(u, v, share), turned)


def _check(first: Concept, second: Concept) -> None:
    if first.layers != second.layers or first.rows.shape != second.rows.shape:
        raise ConceptError(
            f"{first.token} (rows {list(first.rows.shape)}, {first.base_model}) and {second.token} "
            f"(rows {list(second.rows.shape)}, {second.base_model}) have different layers, vectors or width; "
            "mix concepts learned on one model with the same number of vectors"
        )
    if first.token_table and second.token_table and first.token_table != second.token_table:
        raise ConceptError(f"{first.token} and {second.token} were learned on different text encoders; they cannot mix")
