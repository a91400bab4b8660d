"""Which layers decide which attribute: a second prompt takes a growing subset of layers (paper section 3.1)."""

from collections.abc import Mapping, Sequence

import numpy as np

from promptplus.evaluation.metrics import RESAMPLES, Interval
from promptplus.layers import LayerMap
from promptplus.prompts import PPlusPrompt

HALF = 0.5


def subset_prompts(layers: LayerMap, first: str, second: str) -> list[PPlusPrompt]:
    """``first`` everywhere but on each nested subset of ``LayerMap.subsets()``, which takes ``second``."""
    prompts = [PPlusPrompt(first)]
    prompts += [PPlusPrompt(first, ((",".join(map(str, subset)), second),)) for subset in layers.subsets()[1:]]
    return prompts


def relative(hits: np.ndarray) -> np.ndarray:
    """Mean over pairs of ``hits`` ``[pairs, subsets]``, scaled so that no layers are 0 and all layers 1."""
    curve = hits.mean(0)
    return (curve - curve[0]) / max(curve[-1] - curve[0], 1e-9)


def crossing(curve: np.ndarray) -> float:
    """Where a relative curve first reaches one half: a subset index, linear between two; the last if it never does."""
    above = np.flatnonzero(curve >= HALF)
    if not len(above) or above[0] == 0:
        return float(above[0]) if len(above) else float(len(curve) - 1)
    after = int(above[0])
    return after - 1 + (HALF - curve[after - 1]) / (curve[after] - curve[after - 1])


def intervals(hits: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], seed: int = 0) -> dict[str, Interval]:
    """Half crossings of each attribute, and differences (second minus first) of each of ``pairs`` under "a < b".

    Prompt pairs are resampled with replacement, the same ones for every attribute.
    """
    count = len(next(iter(hits.values())))
    rng = np.random.default_rng(seed)

    def crossings(rows: np.ndarray) -> dict[str, float]:
        found = {name: crossing(relative(table[rows])) for name, table in hits.items()}
        return found | {f"{a} < {b}": found[b] - found[a] for a, b in pairs}

    drawn = [crossings(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    exact = crossings(np.arange(count))
    ends = {name: np.percentile([sample[name] for sample in drawn], (2.5, 97.5)) for name in exact}
    return {name: Interval(value, float(ends[name][0]), float(ends[name][1])) for name, value in exact.items()}
