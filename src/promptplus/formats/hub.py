"""The Hugging Face hub: fetch a concept's few files from a repository, and upload a folder to one.

A repository has the layout of ``sd-concepts-library``: ``learned_embeds.safetensors`` for stock diffusers,
``token_identifier.txt``, ``type_of_concept.txt``, ``concept_images/`` and a model card. Ours have
``concept.safetensors`` beside it.
"""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptplus.errors import ConceptError, OutputError, PromptPlusError, first_line, short
from promptplus.files import StrPath
from promptplus.formats.contents import MAX_BYTES

OURS = "concept.safetensors"
LEARNED = "learned_embeds.safetensors"
CONCEPTS = (OURS, LEARNED, "learned_embeds.bin")
"""The files of a concept; the first that a repository has is read."""
TOKEN, KIND, CARD, GRID, IMAGES = (
    "token_identifier.txt",
    "type_of_concept.txt",
    "README.md",
    "grid.png",
    "concept_images",
)
MAX_TEXT = 2**12  # bytes of a token's or a kind's file
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")  # the form of the hub's identifiers of licences
_SERVER_ERROR = 500  # statuses of HTTP from here on say that the server has trouble
_PREFIX = "hub:"
_REPO = r"[\w.-]+/[\w.-]+"
_ADDRESS = re.compile(rf"{_PREFIX}(?P<repo>{_REPO})(@(?P<revision>[\w-][\w./-]*))?")


def is_address(source: StrPath) -> bool:
    """Whether a source is one of the hub: ``hub:…``."""
    return str(source).startswith(_PREFIX)


def check_repo(repo: object) -> str:
    """A repository's name, ``owner/name``, with ``hub:`` before it or without. Raises OutputError on another form."""
    name = repo.removeprefix(_PREFIX) if isinstance(repo, str) else ""
    if not re.fullmatch(_REPO, name) or ".." in name:
        raise OutputError(f"a repository of the hub is owner/name, not {short(repo)}")
    return name


def download(address: str) -> Path:
    """The folder in the hub's cache that has a repository's concept. Only its few small files are fetched.

    Without a network, the folder that was fetched before.

    Args:
        address: ``hub:owner/name`` or ``hub:owner/name@revision``.

    Raises ConceptError where the address, the network or the repository is wrong, or a file is too large.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or ".." in address:
        raise ConceptError(f"a concept on the hub is hub:owner/name or hub:owner/name@revision, not {short(address)}")
    repo, revision = match["repo"], match["revision"]
    with _reported(f"cannot read {address}", ConceptError):
        from huggingface_hub import errors  # slow to import

        try:
            return _fetch(address, repo, revision)
        except (errors.OfflineModeIsEnabled, errors.HTTPError) as error:
            answered = isinstance(error, errors.HfHubHTTPError) and error.response.status_code < _SERVER_ERROR
            if answered or (cached := _cached(repo, revision)) is None:
                raise
            return cached


def _fetch(address: str, repo: str, revision: str | None) -> Path:
    """Fetch the files of a concept, all of one commit."""
    from huggingface_hub import HfApi

    hub = HfApi()
    info = hub.model_info(repo, revision=revision, files_metadata=True)
    sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
    concept = next((name for name in CONCEPTS if name in sizes), None)
    if concept is None:
        raise ConceptError(f"{address} is a repository without a concept: it holds none of {', '.join(CONCEPTS)}")
    wanted = [concept, *(name for name in (TOKEN, KIND) if name in sizes)]
    for name in wanted:
        most = MAX_BYTES if name == concept else MAX_TEXT
        if sizes[name] > most:
            raise ConceptError(f"{address} has a {name} of {sizes[name]:,} bytes; at most {most:,} are fetched")
    folder = Path(hub.hf_hub_download(repo, concept, revision=revision)).parent  # so the cache knows the revision
    for name in wanted[1:]:
        hub.hf_hub_download(repo, name, revision=folder.name)  # a folder in the cache has the commit's name
    return folder


def _cached(repo: str, revision: str | None) -> Path | None:
    """The folder of a repository in the cache; None where it has no concept."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repo, name, revision=revision) for name in CONCEPTS)
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def upload(folder: Path, repo: str, *, private: bool) -> str:
    """Upload all files of a folder to a repository, which is made where it does not exist. Returns its web address.

    Raises OutputError where the hub refuses: no login, no right to write, no network.
    """
    with _reported(f"cannot write hub:{repo}", OutputError):
        from huggingface_hub import HfApi  # slow to import

        hub = HfApi()
        made = hub.create_repo(repo, private=private, exist_ok=True)
        if private and not hub.model_info(repo).private:  # it was there before
            raise OutputError(f"hub:{repo} exists and is public; give another name, or make it private on its page")
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="A concept of promptplus")
        return str(made)


@contextmanager
def _reported(what: str, kind: type[PromptPlusError]) -> Generator[None]:
    """Turn the client's errors inside a ``with`` block into one sentence; ``what`` begins it."""
    try:
        yield
    except PromptPlusError:
        raise
    except Exception as error:  # the client's, its HTTP library's and the system's
        raise kind(f"{what}: {_reason(error)}") from error


def _reason(error: Any) -> str:
    """What an error of the client means, and what to do."""
    from huggingface_hub import errors

    login = "log in with: hf auth login"
    reasons = {
        errors.GatedRepoError: f"it is gated; ask for access on its page, and {login}",
        errors.RepositoryNotFoundError: f"there is no such repository, or it is private; check the name, or {login}",
        errors.RevisionNotFoundError: "the repository has no such revision; leave it out to take the newest",
        errors.DisabledRepoError: "the hub has disabled this repository; take another one",
        errors.LocalTokenNotFoundError: f"nobody is logged in; {login}",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, and it was not fetched before; unset it once",
        errors.HFValidationError: f"the name is wrong ({first_line(error)})",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            return reason
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return f"the hub does not allow it ({first_line(error)}); {login}, with a token that may write"
    return f"the hub did not answer as expected ({first_line(error)}); check the network and try again"
