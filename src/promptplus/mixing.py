"""One concept's shape with another's style: coarse layers from the first, all the rest from the second."""

import torch

from promptplus.concept import Concept
from promptplus.errors import ConceptError


def mix(shape: Concept, style: Concept, token: str, shape_layers: str = "coarse") -> Concept:
    """A concept whose ``shape_layers`` rows are ``shape``'s and all others ``style``'s (paper section 5).

    Args:
        shape: decides what the thing is.
        style: decides what it looks like.
        token: the placeholder token of the mixed concept, as ``<catmug>``.
        shape_layers: any layers ``LayerMap.select`` takes. The default, coarse, is our choice (docs/log.md).

    Raises ConceptError where the two were learned on different models or with different numbers of vectors.
    """
    if shape.layers != style.layers or shape.rows.shape != style.rows.shape:
        raise ConceptError(
            f"{shape.token} (rows {list(shape.rows.shape)}, {shape.base_model}) and {style.token} "
            f"(rows {list(style.rows.shape)}, {style.base_model}) have different layers, vectors or width; "
            "mix concepts learned on one model with the same number of vectors"
        )
    if shape.token_table and style.token_table and shape.token_table != style.token_table:
        raise ConceptError(f"{shape.token} and {style.token} were learned on different text encoders; they cannot mix")
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
