"""Read a concept from anything: a file of any known tool, a folder, or a repository of the Hugging Face hub."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from promptplus.choices import Kind
from promptplus.errors import ConceptError, check_type, short, warn
from promptplus.files import StrPath, as_path
from promptplus.formats import hub
from promptplus.formats.contents import read_contents
from promptplus.formats.found import FoundConcept, as_token
from promptplus.formats.layouts import recognise
from promptplus.formats.own import RECORD, read_own
from promptplus.placeholders import normal
from promptplus.text_files import read_text

_SHOWN = 5  # names in a message


def read_concept(source: StrPath, token: str | None = None) -> FoundConcept:
    """The concept in a file, a folder or a hub repository.

    Warns of what the file holds beside the concept, which is left out.

    Args:
        source: a path, or ``hub:owner/name`` with or without ``@revision``.
        token: the placeholder token to give it; of a file with several tokens also the one to take. Default: as the
            file says.

    Raises ConceptError where nothing can be read, or neither the file nor the caller names a token.
    """
    if token is not None:
        check_type(token, str, "a placeholder token", ConceptError)
    read = read_all(source)
    one = read[0] if len(read) == 1 else _chosen(source, read, token)
    name = one.token if token is None else token
    if not name:
        raise ConceptError(
            f"{source} ({one.format}) names no placeholder token; give one: FILE=<name> on the command line, "
            'Concept.load(FILE, token="<name>") in Python'
        )
    if count := len(one.left_out):
        others = ", ".join(map(short, one.left_out[:_SHOWN])) + (", …" if count > _SHOWN else "")
        warn(f"{source}: the file also holds {others}; of it the concept alone was read")
    return replace(one, token=name)


def read_all(source: StrPath) -> list[FoundConcept]:
    """All concepts in a file, a folder or a hub repository, as they are; ``token`` is "" where a file names none."""
    if hub.is_address(source):
        return _read_folder(hub.download(str(source)))
    path = as_path(source, ConceptError)
    return _read_folder(path) if path.is_dir() else _read_file(path)


def _read_file(path: Path) -> list[FoundConcept]:
    contents = read_contents(path)
    if RECORD in contents.metadata:
        return [read_own(path, contents.tensors, contents.metadata)]
    return recognise(contents)


def _read_folder(folder: Path) -> list[FoundConcept]:
    """The concept of a folder in the layout of the hub, or of a training run."""
    path = next((folder / name for name in hub.CONCEPTS if (folder / name).is_file()), None)
    if path is None:
        raise ConceptError(f"{folder} is a folder without a concept: it holds none of {', '.join(hub.CONCEPTS)}")
    read = _read_file(path)
    if path.name == hub.OURS:
        return read
    token, kind = (_short_text(folder / name) for name in (hub.TOKEN, hub.KIND))
    named = [replace(one, token=one.token or as_token(token)) for one in read] if len(read) == 1 else read
    return [replace(one, kind=cast(Kind, kind)) for one in named] if kind in get_args(Kind) else named


def _short_text(path: Path) -> str:
    """The text of a small file; "" where there is none."""
    return read_text(path, ConceptError, hub.MAX_TEXT).strip() if path.is_file() else ""


def _chosen(source: StrPath, read: Sequence[FoundConcept], token: str | None) -> FoundConcept:
    """The concept with a token, of several."""
    chosen = [one for one in read if one.token and token is not None and one.token == normal(token)]
    if len(chosen) == 1:
        return chosen[0]
    tokens = [one.token or "one without a name" for one in read]
    listed = ", ".join(tokens[:_SHOWN]) + (", …" if len(tokens) > _SHOWN else "")
    raise ConceptError(f"{source} holds {len(read)} concepts ({listed}); choose one by its token, not {short(token)}")
