"""Where learned rows lie among words: histogram, table, nearest words by layer (paper section 4, density)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from promptplus.concept import Concept
from promptplus.density import TokenDensity
from promptplus.experiments.study import Study
from promptplus.experiments.token_density import Nearest, log_densities, nearest_words, rows_of
from promptplus.pplus import PPlus
from promptplus.report import figures
from promptplus.report.html import Figure, Section
from promptplus.report.tables import Table

LEAD = (
    "Log density of token space, a Gaussian kernel over the vocabulary's common words with the likeliest bandwidth. "
    "Words are left out of their own density. The controls tell what direction and length alone would give."
)


def study(pplus: PPlus, groups: Mapping[str, Sequence[Concept]]) -> Study:
    """Densities of words, controls and groups of concepts; the nearest words of every concept's rows."""
    found = log_densities(pplus.pipe, groups)
    near = {f"{c.token}, {name}": nearest_words(pplus.pipe, c) for name, group in groups.items() for c in group}
    drawn = figures.histogram(
        {name: values.tolist() for name, values in found.items()}, xlabel="log density (natural logarithm)"
    )
    table = _table(found)
    sections = [
        Section("Log density", "", [Figure(drawn)], table),
        *(Section(f"Nearest words of {whose}", table=_words(rows)) for whose, rows in near.items()),
    ]
    density = TokenDensity.over_words(pplus.pipe)
    values = {
        "bandwidth": density.bandwidth,
        "log_density": {name: [round(v, 3) for v in numbers.tolist()] for name, numbers in found.items()},
        "by_concept": {name: _by_concept(density, group) for name, group in groups.items()},
        "nearest": {whose: {row.layer: dict(row.words) for row in rows} for whose, rows in near.items()},
    }
    return Study("density", "How densely words lie around", LEAD, sections, values, {"log-density": table})


def _by_concept(density: TokenDensity, group: Sequence[Concept]) -> dict[str, float]:
    """Each concept's mean log density, which is what intervals are over: its rows share a training."""
    device = density.points.device
    return {c.token: float(density.log_density(rows_of(c).to(device)).mean()) for c in group}


def _table(found: Mapping[str, Tensor]) -> Table:
    def each(share: float) -> list[str]:
        return [f"{float(values.quantile(share)):.1f}" for values in found.values()]

    counts = [len(values) for values in found.values()]
    return {"": list(found), "rows": counts, "median": each(0.5), "5 %": each(0.05), "95 %": each(0.95)}


def _words(rows: Sequence[Nearest]) -> Table:
    words = [", ".join(f"{word} ({distance:.2f})" for word, distance in row.words) for row in rows]
    return {"layer": [r.layer for r in rows], "norm": [f"{r.norm:.2f}" for r in rows], "nearest (distance)": words}
