"""Where learned rows lie among words: histogram, table, nearest words by layer (paper section 4, density)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from promptplus import figures
from promptplus.analysis.tokens import Nearest, log_densities, nearest_words
from promptplus.concept import Concept
from promptplus.conditioning import PPlus
from promptplus.density import TokenDensity
from promptplus.evidence.study import Study, Table
from promptplus.report import Figure, Section

LEAD = (
    "Log density of token space, a Gaussian kernel over the vocabulary's common words with the likeliest bandwidth. "
    "Words are left out of their own density. The controls tell what direction and length alone would give."
)


def study(pplus: PPlus, groups: Mapping[str, Sequence[Concept]]) -> Study:
    """Densities of words, controls and groups of concepts; the nearest words of every concept's rows."""
    found = log_densities(pplus.pipe, groups)
    near = {c.token: nearest_words(pplus.pipe, c) for group in groups.values() for c in group}
    drawn = figures.histogram(
        {name: values.tolist() for name, values in found.items()}, xlabel="log density (natural logarithm)"
    )
    table = _table(found)
    sections = [
        Section("Log density", "", [Figure(drawn)], table),
        *(Section(f"Nearest words of {token}", table=_words(rows)) for token, rows in near.items()),
    ]
    bandwidth = TokenDensity.over_words(pplus.pipe).bandwidth
    values = {
        "bandwidth": bandwidth,
        "log_density": {name: [round(v, 3) for v in numbers.tolist()] for name, numbers in found.items()},
        "nearest": {token: {row.layer: dict(row.words) for row in rows} for token, rows in near.items()},
    }
    return Study("density", "How densely words lie around", LEAD, sections, values, {"log-density": table})


def _table(found: Mapping[str, Tensor]) -> Table:
    def each(share: float) -> list[str]:
        return [f"{float(values.quantile(share)):.1f}" for values in found.values()]

    counts = [len(values) for values in found.values()]
    return {"": list(found), "rows": counts, "median": each(0.5), "5 %": each(0.05), "95 %": each(0.95)}


def _words(rows: Sequence[Nearest]) -> Table:
    words = [", ".join(f"{word} ({distance:.2f})" for word, distance in row.words) for row in rows]
    return {"layer": [r.layer for r in rows], "norm": [f"{r.norm:.2f}" for r in rows], "nearest (distance)": words}
