"""Figures for pages: curves with bands, heat maps, histograms, trade-offs. Each is a picture; nothing is computed."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

DPI = 110
WIDE, TALL = 6.4, 3.4  # inches; legible at README width
BINS = 60


@dataclass(frozen=True)
class Curve:
    """Values along an axis and, where it is known, the 95 % band around them."""

    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Spot:
    """One method in a trade-off: a mean and an interval along each axis."""

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]


def curves(
    measured: Mapping[str, Curve],
    ticks: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    reference: Mapping[str, Sequence[float]] | None = None,
    reference_name: str = "paper",
    slanted: bool = False,
) -> Image.Image:
    """Measured curves with their bands; ``reference`` curves of the same names dashed; ``slanted`` tick labels."""
    canvas, axes = blank_canvas()
    for number, (name, curve) in enumerate(measured.items()):
        colour, positions = f"C{number}", range(len(curve.values))
        axes.plot(positions, curve.values, color=colour, marker="o", markersize=3, label=name)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(positions, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        if reference and name in reference:
            axes.plot(range(len(reference[name])), reference[name], color=colour, linestyle="--", linewidth=1)
    if reference:
        axes.plot([], [], color="0.4", linestyle="--", linewidth=1, label=reference_name)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    slant: dict[str, Any] = {"rotation": 60, "ha": "right", "fontsize": 8} if slanted else {}
    axes.set_xticks(range(len(ticks)), ticks, **slant)
    axes.legend(frameon=False, fontsize=8)
    return finished(canvas)


def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, xlabel: str, ylabel: str, unit: str
) -> Image.Image:
    """A table ``[row, column]`` of shares as colours, with its numbers; colours span 0 to 1, so that maps compare."""
    canvas, axes = blank_canvas(width=max(WIDE, 1.6 + 0.42 * len(columns)), height=1.3 + 0.34 * len(rows))
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            ink = "white" if value < 0.5 else "black"
            axes.text(
                j,
                i,
                f"{round(float(value), 2) + 0:.2f}".replace("0.", "."),
                ha="center",
                va="center",
                color=ink,
                fontsize=7,
            )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    canvas.colorbar(image, label=unit)
    return finished(canvas)


def histogram(groups: Mapping[str, Sequence[float]], *, xlabel: str) -> Image.Image:
    """Each group's distribution as an outline of equal area; earlier ones are thicker, to be seen behind later ones."""
    canvas, axes = blank_canvas()
    everything = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges = np.linspace(everything.min(), everything.max(), BINS + 1).tolist()
    widths = np.linspace(3.0, 1.0, len(groups))
    for number, (name, values) in enumerate(groups.items()):
        label = f"{name} ({len(values)})"
        look: dict[str, Any] = {"histtype": "step", "color": f"C{number}", "linewidth": widths[number]}
        axes.hist(values, edges, density=True, label=label, **look)
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False, fontsize=8)
    return finished(canvas)


MARKERS = "os^D"  # one more for every ten methods, which is how many colours there are


def trade_off(spots: Mapping[str, Spot], *, xlabel: str, ylabel: str) -> Image.Image:
    """Methods by two scores, with the interval of each; their names beside it, as there may be many."""
    canvas, axes = blank_canvas(width=WIDE + 2.4, height=4.2)
    for number, (name, spot) in enumerate(spots.items()):
        across = [[spot.x - spot.x_ends[0]], [spot.x_ends[1] - spot.x]]
        up = [[spot.y - spot.y_ends[0]], [spot.y_ends[1] - spot.y]]
        look: dict[str, Any] = {"fmt": MARKERS[number // 10 % len(MARKERS)], "color": f"C{number % 10}", "capsize": 2}
        axes.errorbar(spot.x, spot.y, xerr=across, yerr=up, label=name, **look)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return finished(canvas)


def convergence(measured: Mapping[str, Sequence[tuple[int, float, float, float]]], *, ylabel: str) -> Image.Image:
    """A score against optimiser steps, ``(steps, mean, low, high)`` for each point; steps on a logarithmic axis."""
    canvas, axes = blank_canvas()
    for number, (name, points) in enumerate(measured.items()):
        steps, means, low, high = zip(*sorted(points), strict=True)
        axes.plot(steps, means, color=f"C{number % 10}", marker="o", markersize=3, label=name)
        axes.fill_between(steps, low, high, color=f"C{number % 10}", alpha=0.12, linewidth=0)
    axes.set(xlabel="optimiser steps", ylabel=ylabel, xscale="log")
    axes.legend(frameon=False, fontsize=8)
    return finished(canvas)


def overlay(picture: Image.Image, attention: np.ndarray) -> Image.Image:
    """A square attention map ``[pixels]`` over a picture, its own largest value the brightest."""
    import matplotlib  # slow to import: only when a figure is drawn

    side = round(len(attention) ** 0.5)
    scaled = attention.reshape(side, side) / max(float(attention.max()), 1e-12)
    colours = (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8)
    large = Image.fromarray(colours).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.blend(picture.convert("L").convert("RGB"), large, 0.65)


def blank_canvas(width: float = WIDE, height: float = TALL) -> tuple[Any, Any]:
    """A figure and its axes."""
    from matplotlib.figure import Figure  # slow to import: only when a figure is drawn

    canvas = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return canvas, canvas.subplots()


def finished(canvas: Any) -> Image.Image:
    """A figure as a picture."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def loss_curve(losses: Sequence[float], window: int = 25) -> Image.Image:
    """The loss of each step, and its running mean over ``window`` steps."""
    canvas, axes = blank_canvas(height=2.6)
    steps = range(1, len(losses) + 1)
    means = [sum(part := losses[max(0, s - window) : s]) / len(part) for s in steps]
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(steps, means, color="C0", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss (mean squared error)")
    axes.legend(frameon=False)
    return finished(canvas)
