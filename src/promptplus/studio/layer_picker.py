"""The drawing of the denoiser: a click on a band or a layer opens a text for it. A gradio HTML component."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from promptplus.errors import OutputError, PromptError
from promptplus.layers import GROUPS, THIRDS, LayerMap
from promptplus.prompts import PPlusPrompt
from promptplus.text_files import read_text

BANDS = {"fine": "colour", "medium": "parts", "coarse": "shape"}
"""From top to bottom, as in a U: what the paper says of each band's layers (section 3.1)."""
NOT_MEASURED = "not measured"
"""What is known of the bands of a diffusion transformer."""
HERE = Path(__file__).parent
EMPTY: dict[str, str] = {}


def layer_picker(layers: LayerMap, elem_id: str) -> gr.HTML:
    """The component. Its value: the opened texts by band or layer name, ``{"fine": "a red car"}``."""
    return gr.HTML(
        value=dict(EMPTY),
        html_template=drawing(layers),
        css_template=read_text(HERE / "layer_picker.css", OutputError),
        js_on_load=read_text(HERE / "layer_picker.js", OutputError),
        apply_default_css=False,
        elem_id=elem_id,
        label="Layers of the denoiser",
    )


def with_texts(default: str, texts: Mapping[str, Any] | None) -> PPlusPrompt:
    """The prompt of a default text and the picker's value. Bands come first, so that single layers win.

    Raises PromptError where the default is empty, or breaks the grammar.
    """
    if not default.strip():
        raise PromptError("the prompt is empty; write what the picture shows")
    prompt = PPlusPrompt.parse(default.strip())
    opened = {key: str(text).strip() for key, text in (texts or {}).items()}
    for key in sorted(opened, key=lambda key: key not in GROUPS):  # the sort keeps the order otherwise
        if opened[key]:
            prompt = prompt.with_part(key, opened[key])
    return prompt


def drawing(layers: LayerMap) -> str:
    """The HTML of the bands. A U-Net's have their layers on the way down, in the middle and on the way up.

    Where a transformer has several layers, as in Stable Diffusion XL, there is one button for each transformer.
    """
    says = dict.fromkeys(THIRDS, NOT_MEASURED) if layers.by_depth else BANDS
    bands = "".join(_band(name, text, layers) for name, text in says.items() if layers.group(name))
    order = "from early at the top to late" if layers.by_depth else "from fine at the top to coarse"
    return (
        f'<div class="u" role="group" aria-label="Layers of the denoiser, {order}">'
        f'{bands}</div><div class="texts" aria-live="polite"></div>'
    )


def _band(name: str, says: str, layers: LayerMap) -> str:
    members = set(layers.group(name))
    parts = [part for part, indices in layers.transformers.items() if indices[0] in members]
    sides = {side: [p for p in parts if p.startswith(side)] for side in ("down", "mid", "up")}
    if layers.by_depth:
        sides["down"] = parts
    grids = sorted({layers[i].resolution for i in members})
    size = " and ".join(f"{side}²" for side in grids)
    button = (
        f'<button type="button" class="name" data-key="{name}" data-label="{name} layers" aria-pressed="false">'
        f"<strong>{name}</strong> <span>{says}</span>"
        f'<span class="count">{len(members)} layers, {size}</span></button>'
    )
    middle = button + (_buttons(sides["mid"], layers) if sides["mid"] else "")
    return (
        f'<div class="band {name}"><div class="down">{_buttons(sides["down"], layers)}</div>'
        f'<div class="middle">{middle}</div><div class="up">{_buttons(sides["up"], layers)}</div></div>'
    )


def _buttons(parts: Sequence[str], layers: LayerMap) -> str:
    """A button for each transformer; of several layers it has the transformer's number, else the layer's."""
    order = list(layers.transformers)
    buttons = []
    for part in parts:
        first, *more = (layers[i] for i in layers.transformers[part])
        also = f", {first.kohya}" if first.kohya else ""
        what = f"transformer {part}, {1 + len(more)} layers" if more else f"layer {part}{also}"
        title = html.escape(f"{what}, {first.resolution} × {first.resolution}")
        name = html.escape(part)
        label = "transformer" if more else "layer"
        buttons.append(
            f'<button type="button" class="layer" data-key="{name}" data-label="{label} {name}" title="{title}" '
            f'aria-label="{title}" aria-pressed="false">{order.index(part)}</button>'
        )
    return "".join(buttons)
