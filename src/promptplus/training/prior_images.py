"""The model's own pictures of a class, for prior preservation (DreamBooth)."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from huggingface_hub import cached_assets_path, constants
from PIL import Image
from tqdm import tqdm

from promptplus.denoisers import denoiser_of, models_of
from promptplus.errors import OutputError, TrainingError, WriteError, first_line
from promptplus.files import check_folder, whole_file
from promptplus.fingerprints import weights_hash
from promptplus.generation import generate
from promptplus.memory import is_out_of_memory, map_in_chunks
from promptplus.models import base_model
from promptplus.pplus import PPlus
from promptplus.profiles import default_sampling
from promptplus.training.distributed import Distributed

AT_ONCE = 4  # pictures in a batch (diffusers' DreamBooth example)


def prior_images(pplus: PPlus, prompt: str, count: int, seed: int, progress: bool) -> list[Path]:
    """Paths of ``count`` pictures of a prompt, generated once and kept in the Hugging Face assets cache.

    A call that was stopped continues where it was. Under several processes the first one generates.

    Raises OutputError or WriteError where the cache cannot be written.
    """
    with _cache_advice():
        folder = cached_assets_path("promptplus", "class-pictures", _key(pplus.pipe, prompt, count, seed))
    paths = {folder / f"{number:04d}.png": seed + number for number in range(count)}
    distributed = Distributed()
    if distributed.first:
        missing = {path: seed for path, seed in paths.items() if not path.exists()}
        bar = tqdm(total=count, initial=count - len(missing), desc="class pictures", disable=not progress)
        with bar:
            _generate_missing(pplus, prompt, missing, bar)
    return distributed.from_first(list(paths))


def _generate_missing(pplus: PPlus, prompt: str, missing: dict[Path, int], bar: Any) -> None:
    def pictures(paths: Sequence[Path]) -> list[Image.Image]:
        # without the safety checker: its black squares would be trained on as the class
        seeds = [missing[path] for path in paths]
        return generate(pplus, [prompt] * len(paths), seeds, safety_checker=False)

    try:
        for paths, images in map_in_chunks(pictures, list(missing), AT_ONCE):
            for path, picture in zip(paths, images, strict=True):
                with _cache_advice(), whole_file(path) as temporary:
                    picture.save(temporary, "PNG")
            bar.update(len(paths))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory while the class is drawn: {first_line(error)}; use half precision"
        ) from error


def check_cache() -> None:
    """See, before any work, that class pictures can be kept. Raises OutputError where they cannot."""
    with _cache_advice():
        check_folder(constants.HF_ASSETS_CACHE)


@contextmanager
def _cache_advice() -> Iterator[None]:
    """While inside, an error about the cache also says how to have another one."""
    advice = "set HF_HOME to a folder for the class pictures, or give some (--class-pictures)"
    try:
        yield
    except (OutputError, WriteError) as error:
        raise type(error)(f"{error}; {advice}") from error
    except (OSError, ValueError) as error:  # what huggingface_hub raises
        raise OutputError(f"cannot keep files in {constants.HF_ASSETS_CACHE}: {first_line(error)}; {advice}") from error


def _key(pipe: Any, prompt: str, count: int, seed: int) -> str:
    """A hash of all that the pictures depend on."""
    weights, dtype = [weights_hash(model) for model in models_of(pipe).values()], str(denoiser_of(pipe).dtype)
    made_by = [base_model(pipe), *weights, dtype, type(pipe.scheduler).__name__, *default_sampling(pipe)]
    return sha256(json.dumps([*made_by, prompt, count, seed]).encode()).hexdigest()[:32]
