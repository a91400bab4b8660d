"""The HTML page of one training run."""

from promptplus.report.figures import loss_curve
from promptplus.report.html import Figure, Section, page
from promptplus.report.picture_grid import labelled_grid
from promptplus.training.dreambooth import DreamBoothResult
from promptplus.training.result import InversionResult


def run_page(run: InversionResult | DreamBoothResult) -> str:
    """The page of a training run: settings, previews, loss, and how far the trained rows or weights have moved."""
    facts = {**run.facts, "seconds": round(run.seconds, 1)}
    sections = [Section("Settings", table={"": list(facts), "value": list(facts.values())})]
    if run.previews:
        grid = labelled_grid([p for _, p in run.previews], row_labels=[f"step {step}" for step, _ in run.previews])
        sections.append(Section("Previews", "The same seeds after more and more steps.", [Figure(grid)]))
    if run.class_word_previews and run.previews:
        pair = [run.previews[-1][1], list(run.class_word_previews)]
        names = [f"with {run.name}", f"without: {run.class_word}"]
        figure = Figure(labelled_grid(pair, row_labels=names))
        sections.append(Section("With and without", "The same seeds.", [figure]))
    sections.append(Section("Loss", figures=[Figure(loss_curve(run.losses))]))
    sections.append(_rows(run) if isinstance(run, InversionResult) else _weights(run))
    return page(f"{run.name}: {run.settings.method}", "", sections)


def _rows(run: InversionResult) -> Section:
    layers = {
        "layer": run.concept.layers.names,
        "row norm": [f"{n:.3f}" for n in run.concept.rows.norm(dim=-1).mean(dim=1).tolist()],
        "moved by": [f"{m:.3f}" for m in run.moved],
        "of its norm": [f"{share:.0%}" for share in run.share_moved],
    }
    return Section("Rows", "Token embeddings by layer, forward order.", table=layers)


def _weights(run: DreamBoothResult) -> Section:
    return Section("Weights", f"They moved by {run.moved:.2%} of their norm, to {run.product.name}.")
