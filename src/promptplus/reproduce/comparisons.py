"""The paper's claims that one method beats another, and ours, as comparisons of two trained methods."""

from dataclasses import dataclass

from promptplus.reproduce.plan import FULL, MethodAt, Plan

EQUAL = "At equal steps XTI beats TI in subject and text similarity"
TENTH = "XTI at 500 steps beats TI at 5000 in both similarities"
EARLY = "XTI at 100 steps beats TI at 1000 in both similarities"
FAST = "Our preset fast at 50 steps beats {} in both similarities"
DREAMBOOTH = "XTI at 500 steps beats {} in both similarities"
BEST_RATE = "At each one's best learning rate XTI at {} steps beats TI at {} in both similarities"
ONE_PICTURE = "With one picture XTI beats {} in both similarities"


@dataclass(frozen=True)
class Comparison:
    """A claim that a method beats a baseline.

    Attributes:
        says: the claim.
        paper: what the paper says about it.
        method, baseline: their names and steps.
    """

    says: str
    paper: str
    method: MethodAt
    baseline: MethodAt


def comparisons(plan: Plan, full: Plan = FULL) -> list[Comparison]:
    """All comparisons of a plan. What a quick run does not measure is there as ``full`` measures it."""
    xti, long, fast = ("paper-xti", 500), ("paper-ti", 5000), ("fast", 50)
    both = [
        Comparison(EQUAL, "yes", plan.ours, plan.rival),
        Comparison(TENTH, "yes, ten times faster", xti, long),
    ]
    if plan.name == "quick":
        return [*both, *comparisons(full)[len(both) :]]
    ends = {method.name: method.end for method in (*plan.methods, *plan.few_methods)}
    one, one_ti, one_dreambooth = (ends[f"one picture, {name}"] for name in ("XTI", "TI", "DreamBooth"))
    return [
        *both,
        Comparison(EARLY, "yes, ten times faster", ("paper-xti", 100), ("paper-ti", 1000)),
        Comparison(FAST.format("XTI at 500"), "not in the paper", fast, xti),
        Comparison(FAST.format("TI at 5000"), "not in the paper", fast, long),
        Comparison(DREAMBOOTH.format("DreamBooth"), "not known", xti, ends["dreambooth"]),
        Comparison(DREAMBOOTH.format("DreamBooth-LoRA"), "not in the paper", xti, ends["dreambooth-lora"]),
        Comparison(ONE_PICTURE.format("TI"), "not known", one, one_ti),
        Comparison(ONE_PICTURE.format("DreamBooth"), "DreamBooth overfits", one, one_dreambooth),
        *_at_best_rates(plan),
    ]


def _at_best_rates(plan: Plan) -> list[Comparison]:
    if not plan.tuned_methods:
        return []
    xti, ti = plan.tuned_methods
    return [
        Comparison(BEST_RATE.format(steps, ti.steps[-1]), "not known", (xti.name, steps), ti.end)
        for steps in (xti.steps[-1], xti.steps[0])
    ]
