"""Draw a workflow file as a picture: python integrations/comfyui/workflows/draw.py workflow.json picture.png

A box for each node with its inputs, outputs and settings, and a curve for each link, at the places that the file gives.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]

BACKGROUND, BOX, HEAD, OURS, FIELD = (34, 34, 38), (53, 53, 60), (68, 68, 78), (58, 84, 120), (40, 40, 46)
TEXT, DIM = (235, 235, 235), (170, 170, 178)
LINKS: dict[str, Colour] = {
    "MODEL": (179, 157, 219),
    "CLIP": (255, 213, 0),
    "VAE": (255, 110, 110),
    "CONDITIONING": (255, 169, 49),
    "LATENT": (255, 156, 249),
    "IMAGE": (100, 181, 246),
    "PPLUS_LAYERS": (120, 220, 170),
    "PPLUS_CONCEPT": (240, 240, 240),
    "PPLUS_CONCEPTS": (190, 215, 235),
}
"""Colours by the type of a link; those of ComfyUI's own types are like its own."""
NAMES = {
    "PPlusLoadConcept": "P+ Load Concept",
    "PPlusMix": "P+ Mix",
    "PPlusApply": "P+ Apply",
    "PPlusEncode": "P+ Encode",
    "CheckpointLoaderSimple": "Load Checkpoint",
    "EmptyLatentImage": "Empty Latent Image",
    "VAEDecode": "VAE Decode",
    "SaveImage": "Save Image",
}
SETTINGS = {
    "PPlusLoadConcept": ("file", "path", "token"),
    "PPlusMix": ("token", "shape layers"),
    "EmptyLatentImage": ("width", "height", "batch"),
    "KSampler": ("seed", "after generate", "steps", "cfg", "sampler", "scheduler", "denoise"),
}
"""What the settings of a node are called; those of other nodes have one setting, whose name says nothing."""
ROW, HEAD_HEIGHT, MARGIN = 20, 26, 20
SMALL, LARGE = 13, 15  # sizes of the font
STEPS = 40  # straight pieces of a curve


def draw(workflow: dict[str, Any]) -> Image.Image:
    """The picture of a workflow, as ComfyUI saves it in its own form."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    width = max(node["pos"][0] + node["size"][0] for node in nodes.values()) + MARGIN
    height = max(node["pos"][1] + _height(node) for node in nodes.values()) + MARGIN
    picture = Image.new("RGB", (width, height), BACKGROUND)
    pen = ImageDraw.Draw(picture)
    for _, source, out, target, into, kind in workflow["links"]:
        start, end = _socket(nodes[source], out, outgoing=True), _socket(nodes[target], into, outgoing=False)
        pen.line(_curve(start, end), fill=LINKS[kind], width=2, joint="curve")
    for node in nodes.values():
        _draw_node(pen, node)
    return picture.quantize(64, dither=Image.Dither.NONE)


def _height(node: dict[str, Any]) -> int:
    rows = max(len(node["inputs"]), len(node["outputs"])) + sum(_lines(node, v) for _, v in _settings(node))
    return HEAD_HEIGHT + rows * ROW + 10


def _settings(node: dict[str, Any]) -> list[tuple[str, str]]:
    values = [str(value) for value in node["widgets_values"]]
    return [*zip(SETTINGS.get(node["type"], [""] * len(values)), values, strict=True)]


def _lines(node: dict[str, Any], value: str) -> int:
    return len(_wrapped(value, node["size"][0] - 24))


def _wrapped(text: str, width: float) -> list[str]:
    """A text as lines that are not wider than a box."""
    font, lines = ImageFont.load_default(SMALL), [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _socket(node: dict[str, Any], number: int, *, outgoing: bool) -> Point:
    x, y = node["pos"]
    return x + (node["size"][0] if outgoing else 0), y + HEAD_HEIGHT + (number + 0.5) * ROW


def _curve(start: Point, end: Point) -> list[Point]:
    """A cubic Bézier curve that leaves to the right and arrives from the left."""
    reach = max(30.0, abs(end[0] - start[0]) / 2)
    points = (start, (start[0] + reach, start[1]), (end[0] - reach, end[1]), end)

    def at(t: float, axis: int) -> float:
        return sum(math.comb(3, k) * t**k * (1 - t) ** (3 - k) * point[axis] for k, point in enumerate(points))

    return [(at(i / STEPS, 0), at(i / STEPS, 1)) for i in range(STEPS + 1)]


def _draw_node(pen: ImageDraw.ImageDraw, node: dict[str, Any]) -> None:
    small, large = ImageFont.load_default(SMALL), ImageFont.load_default(LARGE)
    (x, y), width = node["pos"], node["size"][0]
    pen.rounded_rectangle((x, y, x + width, y + _height(node)), 8, fill=BOX)
    head = OURS if node["type"].startswith("PPlus") else HEAD
    pen.rounded_rectangle((x, y, x + width, y + HEAD_HEIGHT), 8, fill=head)
    title: str = node.get("title", NAMES.get(node["type"], node["type"]))
    pen.text((x + 10, y + 4), title, fill=TEXT, font=large)
    for outgoing, sockets in ((False, node["inputs"]), (True, node["outputs"])):
        for number, socket in enumerate(sockets):
            cx, cy = _socket(node, number, outgoing=outgoing)
            pen.ellipse((cx - 4, cy - 4, cx + 4, cy + 4), fill=LINKS[socket["type"]])
            anchor, place = ("rm", cx - 10) if outgoing else ("lm", cx + 10)
            pen.text((place, cy), socket["name"], fill=DIM, font=small, anchor=anchor)
    top = y + HEAD_HEIGHT + max(len(node["inputs"]), len(node["outputs"])) * ROW + 4
    for name, value in _settings(node):
        lines = _wrapped(value, width - 24)
        pen.rectangle((x + 8, top, x + width - 8, top + len(lines) * ROW - 3), fill=FIELD)
        for number, line in enumerate(lines):
            middle = top + number * ROW + ROW / 2 - 1
            if name:
                pen.text((x + 12, middle), name, fill=DIM, font=small, anchor="lm")
            place, anchor = (x + width - 12, "rm") if name else (x + 12, "lm")
            pen.text((place, middle), line, fill=TEXT, font=small, anchor=anchor)
        top += len(lines) * ROW


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    draw(json.loads(source.read_text("utf-8"))).save(target, optimize=True)
