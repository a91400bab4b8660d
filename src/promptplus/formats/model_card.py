"""The model card of a concept on the hub: what it is, how to use it, how it was made."""

import html
import json
import re
from typing import Any

from promptplus.formats.found import FoundConcept
from promptplus.formats.hub import GRID, IMAGES, KIND, LEARNED, OURS, TOKEN

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_UNKNOWN = "unknown"  # the hub's name of a licence that nobody gave


def card(concept: FoundConcept, spread: float, *, repo: str, licence: str, grid: bool, pictures: bool) -> str:
    """The text of the card, in Markdown.

    Args:
        concept: the concept.
        spread: how far its layers differ; see ``Concept.spread``.
        repo: the repository, as ``owner/name``; "" where it is not known yet.
        licence: an identifier of the hub, as ``cc-by-4.0``; "" where none was given.
        grid, pictures: whether the folder holds these.
    """
    repo = repo or "OWNER/NAME"
    token = f"<code>{html.escape(concept.token)}</code>"
    vectors = concept.rows.shape[1]
    layers = f"{len(concept.layers)} layers" if concept.tying == "layer" else f"layers tied: {concept.tying}"
    lossy = (
        "All layers have the same rows, so nothing is lost."
        if concept.tying == "all"
        else f"It is an approximation: the layers' rows lie {spread:.0%} of their length away from it. How alike its "
        "pictures are was not measured."
    )
    parts = [
        _header(concept, licence),
        f"# {html.escape(concept.token)}",
        f"{token} is a concept of kind {concept.kind} ({layers}, {vectors} vector{'s' * (vectors > 1)} each) for "
        f"{_text(concept.base_model) or 'an unknown model'}, in the format of promptplus.",
        *([f"![Pictures of {html.escape(concept.token)}]({GRID})"] if grid else []),
        "## Use",
        "```python\nimport promptplus as pp\n\n"
        f"pplus = pp.PPlus(pp.load({json.dumps(concept.base_model or 'MODEL')}))\n"
        f"pplus.add(pp.Concept.load({json.dumps(f'hub:{repo}')}))\n"
        f"picture = pplus.pipe(**pplus.encode({json.dumps(f'a photo of {concept.token}')})).images[0]\n```",
        f"`{LEARNED}` is the mean over all layers, for tools that have one embedding for all layers: "
        f'`pipe.load_textual_inversion("{repo}")` in diffusers. {lossy}',
        "## Files",
        _files(grid, pictures),
        "## Settings",
        _settings(concept.provenance, concept.initializer, concept.class_word),
    ]
    return "\n\n".join(parts) + "\n"


def _header(concept: FoundConcept, licence: str) -> str:
    """The YAML that the hub reads. JSON's texts are YAML's too."""
    tags = ["promptplus", "textual-inversion", "text-to-image"]
    lines = [f"license: {licence or _UNKNOWN}", "library_name: promptplus", "pipeline_tag: text-to-image"]
    if _HUB_ID.fullmatch(concept.base_model):
        lines.append(f"base_model: {json.dumps(concept.base_model)}")
    lines += ["tags:", *(f"  - {tag}" for tag in tags), f"instance_prompt: {json.dumps(concept.token)}"]
    return "\n".join(["---", *lines, "---"])


def _files(grid: bool, pictures: bool) -> str:
    rows = {
        OURS: "the rows of all layers",
        LEARNED: "their mean",
        TOKEN: "the placeholder token",
        KIND: "object or style",
    }
    rows |= {GRID: "pictures made with it"} if grid else {}
    rows |= {f"{IMAGES}/": "the pictures it was learned from"} if pictures else {}
    return "\n".join(["| file | holds |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in rows.items())])


def _settings(provenance: dict[str, Any], initializer: str, class_word: str) -> str:
    """A table of what is known of the training."""
    values = {"initializer": initializer, "class word": class_word, **provenance}
    known = {name: value for name, value in values.items() if name != "read_from" and value not in ("", None)}
    if not known:
        return "Not known: it was not learned with promptplus."
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}
    rows = [f"| {_text(name)} | {_text(value)} |" for name, value in shown.items()]
    return "\n".join(["| setting | value |", "|---|---|", *rows])


def _text(value: str) -> str:
    """Any text inside a line of Markdown."""
    return html.escape(" ".join(value.split())).replace("|", "&#124;").replace("`", "&#96;")
