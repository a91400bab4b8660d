"""Figures as pictures, drawn with matplotlib: curves, heat maps, histograms, trade-offs, loss curves, overlays."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

DPI = 110
WIDE, TALL = 6.4, 3.4  # inches; legible at README width
BINS = 60
WINDOW = 25  # steps of the running mean of a loss
ROOM = 0.06  # share of a bar; narrower parts have no room for a number
MARKERS = "os^D"  # of a trade-off; the marker changes after every ten methods, as there are ten colours


@dataclass(frozen=True)
class Curve:
    """Values along an axis, with the ends of their 95 % intervals where they are known."""

    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class TradeOffPoint:
    """One method in a trade-off: its mean and interval along each axis."""

    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]


@dataclass(frozen=True)
class PreferenceBar:
    """Votes for two methods: shares of wins of the first, ties, and wins of the second, which add up to 1.

    Attributes:
        value: the share of the first with ties as half wins; ``interval``: its 95 % interval.
    """

    first: str
    second: str
    wins: float
    ties: float
    losses: float
    value: float
    interval: tuple[float, float]


def preferences(groups: Mapping[str, Sequence[PreferenceBar]]) -> Image.Image:
    """Draw preferences as bars from the first method's side to the second's, grouped by question.

    The point with an interval below a bar is the first method's share with ties as half wins. Dashed: no preference.
    """
    bars = [(group, bar) for group, several in groups.items() for bar in several]
    heads = {number for number, (group, _) in enumerate(bars) if number == 0 or bars[number - 1][0] != group}
    figure, axes = _new_figure(width=WIDE + 1, height=0.9 + 0.46 * len(bars) + 0.36 * len(heads))
    parts = (("wins", "#3f7fbf", "white"), ("ties", "0.85", "0.2"), ("losses", "#d98f3e", "black"))
    y, places = 0.0, []
    for number, (group, bar) in enumerate(bars):
        if number in heads:
            axes.text(0, y, group, va="center", fontsize=10, fontweight="bold")
            y += 0.8
        left = 0.0
        for name, colour, ink in parts:
            share = getattr(bar, name)
            axes.barh(y, share, 0.5, left=left, color=colour)
            if share >= ROOM:
                axes.text(left + share / 2, y, f"{share:.0%}", va="center", ha="center", fontsize=8, color=ink)
            left += share
        low, high = bar.interval
        error = [[max(0.0, bar.value - low)], [max(0.0, high - bar.value)]]
        axes.errorbar(bar.value, y + 0.38, xerr=error, fmt="o", color="black", markersize=3, capsize=2, linewidth=1.2)
        places.append((y, bar))
        y += 1.1
    axes.axvline(0.5, color="0.3", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(y - 0.4, -0.5), xlabel="share of votes")
    axes.set_yticks([place for place, _ in places], [bar.first for _, bar in places])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    other = axes.secondary_yaxis("right")
    other.set_yticks([place for place, _ in places], [bar.second for _, bar in places])
    for one in (axes, other):
        one.spines[["top", "left", "right"]].set_visible(False)
        one.tick_params(axis="y", length=0)
    return _to_picture(figure)


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
    """Draw curves with their intervals.

    Args:
        measured: curves by name.
        ticks: labels of the positions along the x axis.
        xlabel, ylabel: names of the axes.
        reference: values by the same names, drawn as dashed lines.
        reference_name: what the legend calls the dashed lines.
        slanted: rotate the tick labels.
    """
    figure, axes = _new_figure()
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
    return _to_picture(figure)


def panels(measured: Mapping[str, Mapping[str, Curve]], x: Sequence[float], *, xlabel: str, ylabel: str) -> Image.Image:
    """Draw several sets of curves beside one another, over numbers on a common x axis.

    Args:
        measured: for each panel's title its curves by name; all panels have the same names, and share one legend.
        x: where the values of each curve lie.
        xlabel, ylabel: names of the axes.
    """
    from matplotlib.figure import Figure  # slow to import: only when a figure is drawn

    figure = Figure(figsize=(1 + 2.7 * len(measured), TALL), dpi=DPI, layout="constrained")
    every = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, (title, named) in zip(every, measured.items(), strict=True):
        for number, (name, curve) in enumerate(named.items()):
            axes.plot(x, curve.values, color=f"C{number}", marker="o", markersize=3, label=name)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(x, curve.low, curve.high, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.set_title(title, fontsize=9)
        axes.set(xlabel=xlabel, ylim=(-0.03, 1.03))
        axes.grid(color="0.9", linewidth=0.6)
    every[0].set_ylabel(ylabel)
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
    return _to_picture(figure)


def heat_map(
    values: Float[np.ndarray, "rows columns"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    unit: str,
) -> Image.Image:
    """Draw shares ``values[row, column]`` as colours with numbers. The colours always span 0 to 1."""
    figure, axes = _new_figure(width=max(WIDE, 1.6 + 0.42 * len(columns)), height=1.3 + 0.34 * len(rows))
    image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            colour = "white" if value < 0.5 else "black"
            axes.text(
                j,
                i,
                f"{round(float(value), 2) + 0:.2f}".replace("0.", "."),
                ha="center",
                va="center",
                color=colour,
                fontsize=7,
            )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    figure.colorbar(image, label=unit)
    return _to_picture(figure)


def histogram(groups: Mapping[str, Sequence[float]], *, xlabel: str) -> Image.Image:
    """Draw the distribution of each group as an outline; all have the same area. Earlier outlines are thicker."""
    figure, axes = _new_figure()
    all_values = np.concatenate([np.asarray(values, float) for values in groups.values()])
    edges = np.linspace(all_values.min(), all_values.max(), BINS + 1).tolist()
    widths = np.linspace(3.0, 1.0, len(groups))
    for number, (name, values) in enumerate(groups.items()):
        label = f"{name} ({len(values)})"
        style: dict[str, Any] = {"histtype": "step", "color": f"C{number}", "linewidth": widths[number]}
        axes.hist(values, edges, density=True, label=label, **style)
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False, fontsize=8)
    return _to_picture(figure)


def trade_off(points: Mapping[str, TradeOffPoint], *, xlabel: str, ylabel: str) -> Image.Image:
    """Draw methods by two scores with their intervals. The legend is beside the axes, as there may be many."""
    figure, axes = _new_figure(width=WIDE + 2.4, height=4.2)
    for number, (name, point) in enumerate(points.items()):
        x_error = [[point.x - point.x_interval[0]], [point.x_interval[1] - point.x]]
        y_error = [[point.y - point.y_interval[0]], [point.y_interval[1] - point.y]]
        style: dict[str, Any] = {"fmt": MARKERS[number // 10 % len(MARKERS)], "color": f"C{number % 10}", "capsize": 2}
        axes.errorbar(point.x, point.y, xerr=x_error, yerr=y_error, label=name, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _to_picture(figure)


def convergence(measured: Mapping[str, Sequence[tuple[int, float, float, float]]], *, ylabel: str) -> Image.Image:
    """Draw scores against optimiser steps on a logarithmic axis, from (steps, mean, low, high) points."""
    figure, axes = _new_figure()
    for number, (name, points) in enumerate(measured.items()):
        steps, means, low, high = zip(*sorted(points), strict=True)
        axes.plot(steps, means, color=f"C{number % 10}", marker="o", markersize=3, label=name)
        axes.fill_between(steps, low, high, color=f"C{number % 10}", alpha=0.12, linewidth=0)
    axes.set(xlabel="optimiser steps", ylabel=ylabel, xscale="log")
    axes.legend(frameon=False, fontsize=8)
    return _to_picture(figure)


def overlay(picture: Image.Image, attention: Float[np.ndarray, " positions"]) -> Image.Image:
    """A picture with a square attention map over it, scaled so that its largest value is brightest."""
    import matplotlib  # slow to import: only when a figure is drawn

    side = round(len(attention) ** 0.5)
    scaled = attention.reshape(side, side) / max(float(attention.max()), 1e-12)
    colours = (matplotlib.colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8)
    large = Image.fromarray(colours).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.blend(picture.convert("L").convert("RGB"), large, 0.65)


def running_means(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """The mean of each value and those before it, at most ``window`` values."""
    return [sum(part := values[max(0, end - window) : end]) / len(part) for end in range(1, len(values) + 1)]


def loss_curve(losses: Sequence[float], window: int = WINDOW) -> Image.Image:
    """Draw the loss of each step and its running mean over the last ``window`` steps."""
    figure, axes = _new_figure(height=2.6)
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(steps, running_means(losses, window), color="C0", linewidth=1.6, label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="loss (mean squared error)")
    axes.legend(frameon=False)
    return _to_picture(figure)


def _new_figure(width: float = WIDE, height: float = TALL) -> tuple[Any, Any]:
    """An empty matplotlib figure and its axes; sizes in inches."""
    from matplotlib.figure import Figure  # slow to import: only when a figure is drawn

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _to_picture(figure: Any) -> Image.Image:
    """A matplotlib figure as a picture."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")
