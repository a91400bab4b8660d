"""The layouts of other tools' files: their names of tensors → concepts. Rows are found by name, never by position.

Sources: the savers of kohya-ss/sd-scripts, mkshing/prompt-plus-pytorch, cloneofsimo/promptplusplus, Nerogar/OneTrainer,
AUTOMATIC1111's web UI, and diffusers' training scripts.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptplus.errors import ConceptError, short
from promptplus.formats import found
from promptplus.formats.contents import Contents
from promptplus.formats.found import FoundConcept, as_token, check_rows
from promptplus.layers import LayerMap

_SD = (("down.0", 2, 64), ("down.1", 2, 32), ("down.2", 2, 16), ("mid", 1, 8), ("up.1", 3, 16), ("up.2", 3, 32))
SIXTEEN = LayerMap.from_names(
    [(f"{block}.{i}", grid) for block, count, grid in (*_SD, ("up.3", 3, 64)) for i in range(count)]
)
"""The layers of Stable Diffusion 1 and 2, in forward order, at 512 × 512 pixels; files do not say the size."""
_XL = (("down.1", 2, 2, 64), ("down.2", 2, 10, 32), ("mid", 1, 10, 32), ("up.0", 3, 10, 32), ("up.1", 3, 2, 64))
OF_SDXL = LayerMap.from_names(
    [(f"{block}.{i}.{k}", grid) for block, count, depth, grid in _XL for i in range(count) for k in range(depth)]
)
"""The layers of Stable Diffusion XL, in forward order, at 1024 × 1024 pixels."""
_KOHYA = [str(layer.kohya) for layer in SIXTEEN]
_NUMBERED = re.compile(r"(?P<token>.+)-(?P<layer>\d{1,3})")
_EXTENDED = re.compile(r"<(?P<name>[^<>]+)-(?P<layer>\d{1,3})-(?P<vector>\d{1,3})>")
_EMBED = "<embed>"  # cloneofsimo: the value of a token in the metadata
_MOST_TOKENS = 100  # in one file
_SHOWN = 4  # names in a message
_LAYERS = range(len(SIXTEEN))


def recognise(contents: Contents) -> list[FoundConcept]:
    """The concepts in a file of another tool. There is one, or one for each token.

    Raises ConceptError where the file has none of the layouts, or not all of one.
    """
    values = contents.values
    embedded = {name for name, value in contents.metadata.items() if value == _EMBED}
    readers: list[tuple[object, Callable[[Contents], list[FoundConcept]]]] = [
        ("string_to_param" in values, _a1111),
        ("emb_params" in values, partial(_one_tensor, name="emb_params", form=found.KOHYA)),
        ("emp_params" in values, partial(_one_tensor, name="emp_params", form=found.ONETRAINER)),
        ({"clip_l", "clip_g"} & set(values), _sdxl),
        (set(_KOHYA) & set(values), _kohya_xti),
        (embedded or any(map(_EXTENDED.fullmatch, values)), partial(_cloneofsimo, embedded=embedded)),
        (len(values) > 1 and all(map(_NUMBERED.fullmatch, values)), _mkshing),
    ]
    reader = next((reader for applies, reader in readers if applies), _by_token)
    return [replace(one, provenance=_provenance(contents, one)) for one in reader(contents)]


def _provenance(contents: Contents, one: FoundConcept) -> dict[str, Any]:
    """What we know of how the concept was made: which file it was read from."""
    return {"read_from": {"file": contents.path.name, "format": one.format}}


def tied(form: str, token: str, parts: Mapping[str, Float[Tensor, "vectors part"]], **others: Any) -> FoundConcept:
    """A textual inversion: the rows of one layer for all.

    Args:
        parts: the rows by text encoder; "" where there is one.
    """
    encoders = tuple((name, rows.shape[1]) for name, rows in parts.items()) if len(parts) > 1 else ()
    layers = OF_SDXL if encoders else SIXTEEN
    rows = torch.cat(list(parts.values()), dim=-1)
    return FoundConcept(form, token, rows.expand(len(layers), -1, -1), layers, "all", encoders=encoders, **others)


def _a1111(contents: Contents) -> list[FoundConcept]:
    """``string_to_param``: rows by name, mostly ``*``; ``name``: what prompts call it."""
    given, name = contents.values["string_to_param"], contents.values.get("name")
    if not isinstance(given, dict) or not 0 < len(given) <= _MOST_TOKENS:
        raise ConceptError(f"{contents.path}: string_to_param is no dictionary with the rows of a concept, as '*'")
    checkpoint = contents.values.get("sd_checkpoint_name")
    concepts: list[FoundConcept] = []
    for key, value in given.items():
        rows = check_rows(f"{contents.path}: string_to_param[{short(key)}]", value)
        said = name if len(given) == 1 and isinstance(name, str) else key
        base = checkpoint if isinstance(checkpoint, str) else ""
        concepts.append(tied(found.A1111, as_token(str(said)), {"": rows}, base_model=base))
    return concepts


def _one_tensor(contents: Contents, name: str, form: str) -> list[FoundConcept]:
    rows = check_rows(f"{contents.path}: {name}", contents.values[name])
    said = contents.values.get("name")
    token = as_token(said) if isinstance(said, str) else ""
    return [tied(form, token, {"": rows}, left_out=_others(contents, {name}))]


def _sdxl(contents: Contents) -> list[FoundConcept]:
    names = ("clip_l", "clip_g")
    if missing := [name for name in names if name not in contents.values]:
        raise ConceptError(f"{contents.path} holds rows for one of SDXL's two text encoders; {missing[0]} is missing")
    parts = {name: check_rows(f"{contents.path}: {name}", contents.values[name]) for name in names}
    if len({len(rows) for rows in parts.values()}) > 1:
        counts = " and ".join(f"{len(rows)} in {name}" for name, rows in parts.items())
        raise ConceptError(f"{contents.path} holds {counts}; a concept has as many vectors for both text encoders")
    return [tied(found.SDXL, "", parts, left_out=_others(contents, set(names)))]


def _kohya_xti(contents: Contents) -> list[FoundConcept]:
    """The sixteen names of kohya's scripts."""
    _check_names(contents, [name for name in _KOHYA if name not in contents.values], "layer", "IN01 … OUT11")
    if more := [name for name in contents.tensors if name not in _KOHYA]:
        raise ConceptError(
            f"{contents.path} holds {16 + len(more)} tensors, {_listed(more)} among them; a {found.KOHYA_XTI} file "
            "has exactly its sixteen layers"
        )
    return [FoundConcept(found.KOHYA_XTI, "", _stacked(contents, _KOHYA), SIXTEEN)]


def _mkshing(contents: Contents) -> list[FoundConcept]:
    """``<tok>-0`` … ``<tok>-15``, in forward order."""
    tokens: dict[str, set[int]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, contents.values)):
        tokens.setdefault(match["token"], set()).add(int(match["layer"]))
    _check_count(contents, tokens)
    concepts: list[FoundConcept] = []
    for token, layers in tokens.items():
        _check_layers(contents, token, layers)
        rows = _stacked(contents, [f"{token}-{layer}" for layer in _LAYERS])
        concepts.append(FoundConcept(found.MKSHING, as_token(token), rows, SIXTEEN))
    return concepts


def _cloneofsimo(contents: Contents, embedded: set[str]) -> list[FoundConcept]:
    """``<tok-i-j>``: vector j of layer i; ``<tok>`` stands before them on every layer, as its training has it."""
    tokens: dict[str, dict[int, set[int]]] = {}
    extended = {name: match for name in contents.values if (match := _EXTENDED.fullmatch(name))}
    for match in extended.values():
        layers = tokens.setdefault(f"<{match['name']}>", {})
        layers.setdefault(int(match["layer"]), set()).add(int(match["vector"]))
    bare = [name for name in contents.values if name in embedded | set(tokens) and name not in extended]
    left_out = _others(contents, {*extended, *bare})
    if missing := [name for name in embedded if name not in contents.values]:
        raise ConceptError(
            f"{contents.path} names the token {short(missing[0])} in its metadata, but has no rows of it"
        )
    _check_count(contents, {*tokens, *bare})
    concepts = [
        replace(_tied_token(contents, name), format=found.CLONEOFSIMO, left_out=left_out)
        for name in bare
        if name not in tokens
    ]
    for token, layers in tokens.items():
        _check_layers(contents, token, layers)
        vectors = len(layers[0])
        if any(each != set(range(vectors)) for each in layers.values()):
            raise ConceptError(
                f"{contents.path}: the layers of {short(token)} do not all have the vectors 0 to {vectors - 1}"
            )
        names = [[f"<{token[1:-1]}-{i}-{j}>" for j in range(vectors)] for i in _LAYERS]
        rows = torch.stack([_stacked(contents, each)[:, 0] for each in names])
        note = ""
        if token in bare:
            first = check_rows(f"{contents.path}: {short(token)}", contents.values[token])
            if first.shape[1] != rows.shape[2]:
                raise ConceptError(
                    f"{contents.path}: {short(token)} has width {first.shape[1]}, its layers {rows.shape[2]}"
                )
            rows = torch.cat([first.expand(len(rows), -1, -1), rows], dim=1)
            note = f"{token} itself stands before the vectors of each layer, as its training has it by default"
        concepts.append(FoundConcept(found.CLONEOFSIMO, as_token(token), rows, SIXTEEN, left_out=left_out, note=note))
    return concepts


def _by_token(contents: Contents) -> list[FoundConcept]:
    """A diffusers textual inversion: rows by token."""
    names = list(contents.values)
    known = len(names) == 1 or (names and all(name.startswith("<") and name.endswith(">") for name in names))
    if not known:
        raise ConceptError(
            f"{contents.path} holds no concept of a known format: it has {len(names)} tensors or values "
            f"({_listed(names) or 'none'}); the formats are {', '.join(found.FORMATS)}"
        )
    _check_count(contents, names)
    return [_tied_token(contents, name) for name in names]


def _tied_token(contents: Contents, name: str) -> FoundConcept:
    rows = check_rows(f"{contents.path}: {short(name)}", contents.values[name])
    return tied(found.DIFFUSERS, as_token(name), {"": rows})


def _stacked(contents: Contents, names: Iterable[str]) -> Float[Tensor, "layers vectors width"]:
    """The rows of several tensors, which have one shape."""
    rows = {name: check_rows(f"{contents.path}: {name}", contents.values[name]) for name in names}
    shapes = {name: list(each.shape) for name, each in rows.items()}
    first = next(iter(shapes))
    if differs := next((name for name in shapes if shapes[name] != shapes[first]), None):
        raise ConceptError(
            f"{contents.path}: {differs} is {shapes[differs]}, but {first} {shapes[first]}; all layers have one shape"
        )
    return torch.stack(list(rows.values()))


def _check_layers(contents: Contents, token: str, layers: Iterable[int]) -> None:
    there = set(layers)
    _check_names(contents, [str(n) for n in _LAYERS if n not in there], f"layer of {short(token)}", "0 to 15")
    if more := sorted(there - set(_LAYERS)):
        raise ConceptError(
            f"{contents.path} holds {len(there)} layers of {short(token)}, {more[0]} too; they are 0 to 15"
        )


def _check_names(contents: Contents, missing: list[str], what: str, all_of_them: str) -> None:
    if missing:
        raise ConceptError(
            f"{contents.path} holds {16 - len(missing)} of 16 layers: the {what} {missing[0]} is missing; "
            f"they are {all_of_them}"
        )


def _check_count(contents: Contents, tokens: Iterable[str]) -> None:
    if (count := len(list(tokens))) > _MOST_TOKENS:
        raise ConceptError(f"{contents.path} holds {count} tokens; at most {_MOST_TOKENS} are read from one file")


def _others(contents: Contents, used: set[str]) -> tuple[str, ...]:
    """The names of the tensors that are not part of a concept."""
    return tuple(name for name in contents.tensors if name not in used)


def _listed(names: Iterable[str]) -> str:
    """The first few names, as messages write them."""
    listed = [short(name) for name in names]
    return ", ".join(listed[:_SHOWN]) + (", …" if len(listed) > _SHOWN else "")
