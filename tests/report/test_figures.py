"""Figures: pictures of the asked size that show what they were given."""

import numpy as np
from PIL import Image

from promptplus.report.figures import (
    WIDE,
    Curve,
    TradeOffPoint,
    curves,
    heat_map,
    histogram,
    overlay,
    panels,
    trade_off,
)


def inks(picture: Image.Image) -> int:
    """Distinct colours that cover more than a speck."""
    counted = picture.quantize(64).convert("RGB").getcolors() or []
    return sum(count > 50 for count, _ in counted)


def test_figures_are_drawn() -> None:
    curve = Curve([0, 0.4, 1], [0, 0.3, 1], [0, 0.5, 1])
    plain = curves({"object": curve}, ["0", "1", "3"], xlabel="layers", ylabel="share")
    paper = curves(
        {"object": curve}, ["0", "1", "3"], xlabel="layers", ylabel="share", reference={"object": [0, 0.3, 1]}
    )
    assert plain.size == paper.size == (round(WIDE * 110), 374)
    assert np.abs(np.asarray(plain, int) - np.asarray(paper, int)).sum() > 0
    table = heat_map(np.eye(3), ["a", "b", "c"], ["x", "y", "z"], xlabel="layer", ylabel="attribute", unit="share")
    bars = histogram({"words": [1.0, 2.0, 2.5], "rows": [0.5, 0.7]}, xlabel="log density")
    spots = trade_off({"xti": TradeOffPoint(0.5, 0.6, (0.4, 0.6), (0.5, 0.7))}, xlabel="text", ylabel="subject")
    assert all(inks(figure) > 3 for figure in (plain, table, bars, spots))


def test_panels_lie_beside_one_another() -> None:
    """A panel more makes the figure wider, and its curves are in its own half."""
    low, high = {"object": Curve([0.1, 0.1])}, {"object": Curve([0.9, 0.9], [0.8, 0.8], [1, 1])}
    one = panels({"low": low}, [-1, 2], xlabel="strength", ylabel="share")
    two = panels({"low": low, "high": high}, [-1, 2], xlabel="strength", ylabel="share")
    turned = panels({"low": high, "high": low}, [-1, 2], xlabel="strength", ylabel="share")
    assert one.width < two.width
    assert one.height == two.height

    def blue(picture: Image.Image) -> np.ndarray:
        """How high the curves are, left and right: rows from the top."""
        pixels = np.asarray(picture, int)[: picture.height * 3 // 4]
        curve = (pixels[..., 2] - pixels[..., 0]) > 100
        return np.array([np.argwhere(half)[:, 0].mean() for half in np.array_split(curve, 2, axis=1)])

    for figure, lower in ((two, 0), (turned, 1)):
        rows = blue(figure)
        assert rows[lower] > rows[1 - lower] + 50


def test_an_overlay_is_bright_where_attention_is() -> None:
    attention = np.zeros(64)
    attention[:8] = 1  # the topmost row of eight
    seen = np.asarray(overlay(Image.new("RGB", (64, 64), (128, 128, 128)), attention).convert("L"), float)
    assert seen[:6].mean() > seen[20:].mean() + 40
