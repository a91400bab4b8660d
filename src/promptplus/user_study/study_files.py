"""The files of a new study: pictures that hold nothing but pixels, and all files at once or none."""

import hashlib
import io
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps

from promptplus.files import TEMPORARY, reported, write_atomically
from promptplus.report.picture_grid import labelled_grid
from promptplus.user_study.catch_trials import CatchTrial
from promptplus.user_study.design import KEY_JSON, STUDY_JSON, StudyDesign, picture_path

CATCH_FILE = "catch.png"


@dataclass(frozen=True)
class BlindedPictures:
    """Pictures by id, as PNG files of one size that hold nothing but pixels."""

    size: int
    seed: int
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def add(self, picture: Image.Image) -> str:
        """Add a picture; returns its id, a hash of its pixels: no name is in it."""
        square = ImageOps.fit(picture.convert("RGB"), (self.size, self.size), Image.Resampling.LANCZOS)
        plain = Image.frombytes("RGB", square.size, square.tobytes())  # without what Pillow knows about the file
        buffer = io.BytesIO()
        plain.save(buffer, "PNG")
        data = buffer.getvalue()
        name = hashlib.sha256(f"{self.seed}:".encode() + data).hexdigest()[:32]
        self.files[name] = data
        return name


def write_study(
    folder: Path, design: StudyDesign, key_file: bytes, trials: Sequence[CatchTrial], blinded: BlindedPictures
) -> None:
    """Write all files of a study into a new or empty folder, or none. Raises OutputError or WriteError."""
    with reported(folder):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(dir=folder.absolute().parent, prefix=TEMPORARY))
        try:
            for name in sorted(design.pictures):
                write_atomically(picture_path(hidden, name), blinded.files[name])
            if trials:
                write_atomically(hidden / CATCH_FILE, _catch_sheet(trials))
            write_atomically(hidden / KEY_JSON, key_file)
            write_atomically(hidden / STUDY_JSON, (design.model_dump_json(indent=1) + "\n").encode())
            hidden.chmod(0o755)
            if folder.exists():
                folder.rmdir()  # it is empty; some systems do not rename onto a folder
            hidden.rename(folder)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise


def _catch_sheet(trials: Sequence[CatchTrial]) -> bytes:
    """The catch trials on a sheet for the maker of the study, who sees whether the right answers are clear."""
    rows = [[trial.right, trial.wrong] for trial in trials]
    labels = [f"{trial.question}: {trial.concept}\n{trial.prompt}" for trial in trials]
    buffer = io.BytesIO()
    labelled_grid(rows, row_labels=labels, column_labels=["right", "wrong"]).save(buffer, "PNG")
    return buffer.getvalue()
