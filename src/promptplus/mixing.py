"""Two concepts → one: a mix of their layers, or an interpolation between their rows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.concept import Concept
from promptplus.errors import ConceptError, SettingsError, check_type, one_of, short, warn

SMALL_SINE = 1e-4  # below it, spherical interpolation is linear, in float32


def mix(shape: Concept, style: Concept, token: str, shape_layers: str | None = None) -> Concept:
    """Mix two concepts by layer: the shape of the first with the style of the second (paper section 5).

    Args:
        shape: the concept whose rows go to ``shape_layers``; it decides the object's shape.
        style: the concept whose rows go to all other layers; it decides colours and textures.
        token: placeholder token of the mixed concept, such as ``<catmug>``.
        shape_layers: layers as ``LayerMap.select`` takes them. Default: the coarse layers (our choice, see
            docs/log.md); the early ones of a diffusion transformer.

    Returns:
        A new concept. Its class word, kind and initializer are those of ``shape``.

    Raises:
        ConceptError: the two were learned on different models, or have different numbers of vectors.
        LayerError: the model has no such layers.
    """
    shape, style = _on_one_model(shape, style)
    shape_layers = shape.layers.bands[0] if shape_layers is None else shape_layers
    chosen = shape.layers.select(shape_layers)
    _warn_of_unlearned(shape, chosen)
    _warn_of_unlearned(style, [i for i in range(len(style.layers)) if i not in chosen])
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
        base_model=shape.base_model or style.base_model,  # a textual inversion's file may not say it
        token_table=shape.token_table or style.token_table,
        encoders=shape.encoders,
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
    """Interpolate between two concepts, row by row (our choice; the paper does not interpolate).

    Args:
        first: the concept at ``share`` 0.
        second: the concept at ``share`` 1.
        token: placeholder token of the new concept.
        share: weight of ``second``, usually from 0 to 1. At 0 and 1 the rows are those of the concepts, bit for bit.
        path: ``linear``, or ``spherical``: directions along the arc between the rows, norms linearly.
        layers: the layers to interpolate, as ``LayerMap.select`` takes them; all others keep the rows of ``first``.
            Default: all layers.

    Returns:
        A new concept. It keeps the tying where both concepts have the same and all layers are interpolated.

    Raises:
        ConceptError: the two were learned on different models, or have different numbers of vectors.
        LayerError: the model has no such layers.
        SettingsError: the path is not one of the two, or the share no number.
    """
    first, second = _on_one_model(first, second)
    if not isinstance(share, Real) or not math.isfinite(share):
        raise SettingsError(f"share is a number, as 0.5, not {short(share)}")
    if not one_of(path, get_args(InterpolationPath)):
        raise SettingsError(f"a path is {' or '.join(get_args(InterpolationPath))}, not {short(path)}")
    rows = first.rows.clone()
    chosen = list(first.layers.select(layers) if layers else range(len(first.layers)))
    start, end = first.rows[chosen], second.rows[chosen]
    ends = {0: start, 1: end}  # spherical interpolation would be off by rounding there
    between = _slerp if path == "spherical" else torch.lerp
    parts = zip(first.by_encoder(start).values(), first.by_encoder(end).values(), strict=True)
    rows[chosen] = ends[int(share)] if share in ends else torch.cat([between(a, b, share) for a, b in parts], dim=-1)
    same = first.tying == second.tying and len(chosen) == len(first.layers)
    return replace(
        first,
        token=token,
        rows=rows,
        tying=first.tying if same else "layer",
        base_model=first.base_model or second.base_model,
        token_table=first.token_table or second.token_table,
        provenance={"between": [first.token, second.token], "share": share, "path": path, "layers": layers or "all"},
    )


def _slerp(
    a: Float[Tensor, "*rows width"], b: Float[Tensor, "*rows width"], share: float
) -> Float[Tensor, "*rows width"]:
    """Spherical interpolation of rows; linear where their directions are the same or opposite."""
    start, end = (_norms(rows) for rows in (a, b))
    norms = torch.lerp(start, end, share)
    u, v = (torch.nn.functional.normalize(rows, dim=-1) for rows in (a, b))
    angle = (u * v).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    direction = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / sine.clamp(min=SMALL_SINE)
    return norms * torch.where(sine < SMALL_SINE, torch.lerp(u, v, share), direction)


def _warn_of_unlearned(concept: Concept, layers: Sequence[int]) -> None:
    """Warn where a mix takes layers of a concept that it did not learn (``invert`` with ``learn``)."""
    unlearned = tuple(i for i in layers if i not in concept.learned_layers)
    if unlearned:
        warn(
            f"{concept.token} learned {concept.layers.describe(concept.learned_layers)} alone; in "
            f"{concept.layers.describe(unlearned)} the mix takes its class word {concept.class_word!r} from it"
        )


def _norms(rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows 1"]:
    return cast(Any, rows).norm(dim=-1, keepdim=True)  # torch has no type for norm


def _on_one_model(first: Concept, second: Concept) -> tuple[Concept, Concept]:
    """The two on the same layers, where both are of one model, or one is tied over all layers. Else ConceptError."""
    for name, concept in (("first", first), ("second", second)):
        check_type(concept, Concept, f"the {name} of the two", ConceptError)
    if second.tying == "all":
        second = second.on(first.layers)
    elif first.tying == "all":
        first = first.on(second.layers)
    same_rows = first.rows.shape == second.rows.shape and first.encoders == second.encoders
    if first.layers.names != second.layers.names or not same_rows:
        raise ConceptError(
            f"{first.token} (rows {list(first.rows.shape)}, {first.base_model}) and {second.token} "
            f"(rows {list(second.rows.shape)}, {second.base_model}) have different layers, vectors or width; "
            "mix concepts learned on one model with the same number of vectors"
        )
    if first.token_table and second.token_table and first.token_table != second.token_table:
        raise ConceptError(f"{first.token} and {second.token} were learned on different text encoders; they cannot mix")
    return first, second
