"""What the nodes need of ComfyUI beside the objects it hands them: its folders of models."""

import importlib
from pathlib import Path
from typing import Any

from promptplus.errors import ConceptError

FOLDER = "embeddings"


def _folder_paths() -> Any:
    return importlib.import_module("folder_paths")  # ComfyUI's own module; it exists only inside ComfyUI


def concept_names() -> list[str]:
    """The files in ComfyUI's folders of embeddings."""
    return list(_folder_paths().get_filename_list(FOLDER))


def concept_path(name: str) -> Path:
    """The file of a name that ``concept_names`` returned. Raises ConceptError where it is gone."""
    found = _folder_paths().get_full_path(FOLDER, name)
    if found is None:
        raise ConceptError(f"no file {name!r} in ComfyUI's folder models/{FOLDER}; press R to read the folder again")
    return Path(found)
