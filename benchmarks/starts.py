"""Where rows should start: the preset `fast` from several initializers, on `dev` concepts, paired by concept.

``python -m benchmarks.starts [--concepts 6] [--seeds 2]``. The starts: the neutral word in the concept's folder;
its class word; the class word with its colours (the words' mean); the vocabulary's words that the judge CLIP finds
nearest to the pictures, the first and the mean of the first few.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.methods import measure, parser_of
from promptplus.datasets import load_pictures, read_note
from promptplus.evaluation.judges import ClipJudge
from promptplus.evaluation.training_cache import MethodSpec, Task
from promptplus.files import write_atomically
from promptplus.pocket import CONCEPTS
from promptplus.pocket.held_out import DEV
from promptplus.pocket.world import COLOURS, OBJECTS
from promptplus.reproduce.plan import preset_method

FEW = 4
"""Words in a mean of the nearest."""
STEPS = 50


def nearest(clip: ClipJudge, folder: Path, words: Iterable[str]) -> list[str]:
    """The words by how well a photo of each would fit the pictures, the best first."""
    given = list(words)
    fit = (clip.embed(load_pictures(folder)) @ clip.embed_texts([f"a photo of a {word}" for word in given]).T).mean(0)
    return [given[i] for i in fit.argsort(descending=True).tolist()]


def starts(clip: ClipJudge, folder: Path) -> Iterator[tuple[str, str]]:
    """(kind of start, initializer) of one concept."""
    note = read_note(folder)
    objects, colours = (nearest(clip, folder, words) for words in (OBJECTS, COLOURS))
    yield "neutral", str(note.initializer)
    yield "class", str(note.class_word)
    yield "class and colours", f"{colours[0]} {colours[1]} {note.class_word}"
    yield "nearest", objects[0]
    yield f"nearest {FEW}", " ".join(objects[:FEW])


def main() -> None:
    """Train, judge, print."""
    options = parser_of(__doc__, seeds=2, out="build/search").parse_args()
    clip, fast = ClipJudge.load(), preset_method("fast", STEPS)
    tasks = []
    for name in DEV[: options.concepts]:
        for kind, initializer in starts(clip, CONCEPTS / name):
            folder = options.out / "starts" / kind / name
            shutil.copytree(CONCEPTS / name, folder, dirs_exist_ok=True)
            note = read_note(folder).model_copy(update={"initializer": initializer})
            write_atomically(folder / "concept.json", note.model_dump_json(indent=2).encode())
            print(f"{name}, {kind}: {initializer}")
            method = MethodSpec(f"start {kind}", fast.options, fast.steps)
            tasks += [Task(folder, method, seed) for seed in range(options.seeds)]
    measure(tasks, options, ("start neutral", STEPS))


if __name__ == "__main__":
    main()
