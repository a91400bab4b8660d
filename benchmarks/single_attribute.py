"""Settings for concepts of one attribute, tried on the ``dev`` things: which layers, and how they are trained.

``python -m benchmarks.single_attribute [--attributes colour] [--layers fine] [--set learning_rate=0.1] [--things 6]``
prints the shares of pictures that have the attribute, in which nothing else leaks, and both: for the attribute's word
in these layers, and for what is learned there with a describing caption. ``--cut`` learns all layers with that caption,
and then gives the others the class word.
"""

import argparse

import numpy as np

import promptplus as pp
from promptplus.experiments.attribute_concepts import LEARNED, SingleAttributeJudge, prompt_scenes, unseen_things
from promptplus.experiments.mixing import seeds_by_pair
from promptplus.experiments.single_attribute import LAYERS, SETTINGS, Shares, Way, pictures_of, pictures_of_words
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.training.settings import InversionSettings, value_of_text


def measure(
    pplus: pp.PPlus, judge: SingleAttributeJudge, attribute: str, way: Way, things: int, prompts: int
) -> list[Shares]:
    """The mean shares of the word and of the learned concept, over the first ``dev`` things."""
    shares: list[list[Shares]] = []
    for each, seeds in zip(unseen_things("dev")[:things], seeds_by_pair(things, prompts), strict=True):
        thing = each.to_learn(attribute)
        scenes = prompt_scenes(thing, prompts)
        drawn = [
            pictures_of_words(pplus, thing, attribute, scenes, seeds, way.learn or LAYERS),
            pictures_of(pplus, way, thing, attribute, scenes, seeds),
        ]
        shares.append([judge.score(attribute, thing, scenes, pictures).shares for pictures in drawn])
    return [{name: float(np.mean([one[name] for one in own])) for name in own[0]} for own in zip(*shares, strict=True)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attributes", default=",".join(LEARNED), help="separated by commas")
    parser.add_argument("--layers", help="those that learn; default: those of each attribute")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the training")
    parser.add_argument("--things", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--cut", action="store_true", help="learn all layers, and cut out those of the attribute")
    options = parser.parse_args()
    if options.cut and options.layers:
        parser.error("--cut takes the layers of the study; leave --layers out")
    pairs = [text.split("=", 1) for text in options.set]
    settings = {name: value_of_text(InversionSettings, name, value) for name, value in pairs}
    learn: dict[str, str] = dict.fromkeys(LEARNED, str(options.layers)) if options.layers else LAYERS
    way = Way("learned", learn=None if options.cut else learn, cut=options.cut, settings=settings)
    judge = SingleAttributeJudge(AttributeJudge.load(), [thing.shape for thing in unseen_things("dev")])
    print(f"{options.things} things, {options.prompts} prompts each; {SETTINGS | settings}")
    with pp.PPlus(pp.load("pocket")) as pplus:
        for attribute in options.attributes.split(","):
            both = measure(pplus, judge, attribute, way, options.things, options.prompts)
            for name, shares in zip(("word", "learned"), both, strict=True):
                numbers = ", ".join(f"{measure} {value:.2f}" for measure, value in shares.items())
                print(f"{attribute} in {learn[attribute]}, {name}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
