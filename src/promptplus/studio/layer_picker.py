"""The drawing of the U-Net: a click on a band or a layer opens a text for it. A gradio HTML component."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from promptplus.errors import OutputError, PromptError
from promptplus.layers import Layer, LayerMap
from promptplus.prompts import PPlusPrompt
from promptplus.text_files import read_text

BANDS = {"fine": "colour", "medium": "parts", "coarse": "shape"}
"""From top to bottom, as in a U: what the paper says of each band's layers (section 3.1)."""
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
        label="Layers of the U-Net",
    )


def with_texts(default: str, texts: Mapping[str, Any] | None) -> PPlusPrompt:
    """The prompt of a default text and the picker's value. Bands come first, so that single layers win.

    Raises PromptError where the default is empty, or breaks the grammar.
    """
    if not default.strip():
        raise PromptError("the prompt is empty; write what the picture shows")
    prompt = PPlusPrompt.parse(default.strip())
    opened = {key: str(text).strip() for key, text in (texts or {}).items()}
    for key in sorted(opened, key=lambda key: key not in BANDS):  # the sort keeps the order otherwise
        if opened[key]:
            prompt = prompt.with_part(key, opened[key])
    return prompt


def drawing(layers: LayerMap) -> str:
    """The HTML of the U: three bands, each with its layers on the way down, in the middle and on the way up."""
    bands = "".join(_band(name, says, layers) for name, says in BANDS.items() if layers.group(name))
    return (
        '<div class="u" role="group" aria-label="Layers of the U-Net, from fine at the top to coarse">'
        f'{bands}</div><div class="texts" aria-live="polite"></div>'
    )


def _band(name: str, says: str, layers: LayerMap) -> str:
    members = [layers[i] for i in layers.group(name)]
    numbers = {layer.name: number for number, layer in enumerate(layers)}
    sides = {side: [one for one in members if one.direction == side] for side in ("down", "mid", "up")}
    grids = sorted({layer.resolution for layer in members})
    size = " and ".join(f"{side}²" for side in grids)
    button = (
        f'<button type="button" class="name" data-key="{name}" data-label="{name} layers" aria-pressed="false">'
        f"<strong>{name}</strong> <span>{says}</span>"
        f'<span class="count">{len(members)} layers, {size}</span></button>'
    )
    middle = button + (_layers(sides["mid"], numbers) if sides["mid"] else "")
    return (
        f'<div class="band {name}"><div class="down">{_layers(sides["down"], numbers)}</div>'
        f'<div class="middle">{middle}</div><div class="up">{_layers(sides["up"], numbers)}</div></div>'
    )


def _layers(members: Sequence[Layer], numbers: Mapping[str, int]) -> str:
    buttons = []
    for layer in members:
        also = f", {layer.kohya}" if layer.kohya else ""
        title = html.escape(f"layer {layer.name}{also}, {layer.resolution} × {layer.resolution}")
        name = html.escape(layer.name)
        buttons.append(
            f'<button type="button" class="layer" data-key="{name}" data-label="layer {name}" title="{title}" '
            f'aria-label="{title}" aria-pressed="false">{numbers[layer.name]}</button>'
        )
    return "".join(buttons)
