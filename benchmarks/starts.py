"""Where rows should start: the preset `fast` from several initializers, on `dev` concepts, paired by concept.

``python -m benchmarks.starts [--concepts 6] [--seeds 2]``. The starts: the neutral word in the concept's folder;
its class word; the class word with its colours (the words' mean); the vocabulary's words that the judge CLIP finds
nearest to the pictures, the first and the mean of the first few.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

import promptplus as pp
from promptplus.evaluation.comparison import compare, table
from promptplus.evaluation.judges import ClipJudge
from promptplus.evaluation.matrix import Matrix
from promptplus.evaluation.tasks import Method, Task
from promptplus.evidence.defaults import scorer_for
from promptplus.evidence.sizes import preset
from promptplus.files import write_atomically
from promptplus.inversion.images import load_pictures, read_note
from promptplus.pocket import CONCEPTS
from promptplus.pocket.concepts import DEV
from promptplus.pocket.world import COLOURS, OBJECTS

FEW = 4
"""Words in a mean of the nearest."""
STEPS = 50


def nearest(clip: ClipJudge, folder: Path, words: tuple[str, ...], form: str) -> list[str]:
    """The words by how well a text with each fits the pictures, the best first."""
    texts = clip.embed_texts([form.format(word) for word in words])
    fit = (clip.embed(load_pictures(folder)) @ texts.T).mean(0)
    return [words[i] for i in fit.argsort(descending=True).tolist()]


def starts(clip: ClipJudge, folder: Path) -> Iterator[tuple[str, str]]:
    """(kind of start, initializer) of one concept."""
    note = read_note(folder)
    objects, colours = (nearest(clip, folder, tuple(w), "a photo of a {}") for w in (OBJECTS, COLOURS))
    yield "neutral", str(note.initializer)
    yield "class", str(note.class_word)
    yield "class and colours", f"{colours[0]} {colours[1]} {note.class_word}"
    yield "nearest", objects[0]
    yield f"nearest {FEW}", " ".join(objects[:FEW])


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--per-prompt", type=int, default=2, help="pictures of each prompt")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/search"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clip, fast = ClipJudge.load(), preset("fast", STEPS)
    tasks = []
    for name in DEV[: options.concepts]:
        for kind, initializer in starts(clip, CONCEPTS / name):
            folder = options.out / "starts" / kind / name
            shutil.copytree(CONCEPTS / name, folder, dirs_exist_ok=True)
            note = read_note(folder).model_copy(update={"initializer": initializer})
            write_atomically(folder / "concept.json", note.model_dump_json(indent=2).encode())
            print(f"{name}, {kind}: {initializer}")
            method = Method(f"start {kind}", fast.options, fast.steps)
            tasks += [Task(folder, method, seed) for seed in range(options.seeds)]
    with pp.PPlus(pp.load("pocket")) as pplus:
        matrix = Matrix(pplus, "pocket", scorer_for(pplus.pipe, per_prompt=options.per_prompt), options.out)
        results = matrix.run(tasks)
    print(table(compare(results, ("start neutral", STEPS))))


if __name__ == "__main__":
    main()
