"""The report: a table of the claims, then every study, as a page, Markdown, CSV and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from promptplus.experiments.study import Study
from promptplus.files import write_atomically
from promptplus.report.html import Section, page
from promptplus.report.tables import to_csv, to_markdown
from promptplus.reproduce import claims
from promptplus.reproduce.claims import Claim

LEAD = (
    "Each row is a claim: what the paper says, what was measured here, and whether it holds. Intervals are 95 %, by "
    "bootstrap. “Undecided” means that the interval includes the opposite."
)


@dataclass(frozen=True)
class Report:
    """All studies, the claims, and what made the numbers."""

    studies: Sequence[Study] = field(repr=False)
    claims: Sequence[Claim]
    made_by: Mapping[str, str]

    def write(self, folder: Path) -> Path:
        """Write ``report.html``, ``.md``, ``.csv`` and ``.json``; returns the path of the page."""
        table = claims.table(self.claims)
        made = {"what": list(self.made_by), "value": list(self.made_by.values())}
        sections = [Section("Claims", table=table), Section("Made by", table=made)]
        for study in self.studies:
            sections += [Section(study.title, study.lead), *study.sections]
        title = "P+ and XTI, reproduced"
        lines = [f"# {title}", "", LEAD, "", to_markdown(table), "", to_markdown(made), ""]
        record = {"claims": [asdict(claim) for claim in self.claims], "made_by": dict(self.made_by)}
        write_atomically(folder / "report.md", "\n".join(lines).encode())
        write_atomically(folder / "report.csv", to_csv(table).encode())
        write_atomically(folder / "report.json", (json.dumps(record, indent=1) + "\n").encode())
        return write_atomically(folder / "report.html", page(title, LEAD, sections).encode())
