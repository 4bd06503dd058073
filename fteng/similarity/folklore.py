"""The folklore's table of four cells, written down as a rule that can be followed and graded."""

from typing import Any, NamedTuple

from fteng.similarity.predict import AdvicePlan

# The folklore names no numbers. These are ours, and stand in every record beside the answer.
MUCH_A_CLASS = 100
SIMILAR_SHIFT = 0.5
SIMILAR_USEFUL = 0.5
RULE = (
    "Little and similar: a linear classifier on the last features. Little and different: a linear classifier on earlier features"
    " (here the middle stage). Much and similar, much and different: tune everything (lecture notes of CS231n, Stanford)."
    f" Much: at least {MUCH_A_CLASS} training images of the rarest class. Similar: the median of the stages' mean shifts is at most"
    f" {SIMILAR_SHIFT:g} source standard deviations; where there is no source profile, the source head's answer tells at least"
    f" {SIMILAR_USEFUL:g} of what there is to tell about the class; where there is neither, as declared (judge.task), else"
    " different."
)


class Told(NamedTuple):
    """cell: of the table, for people; plan: what it says; why: the numbers that chose the cell."""

    cell: str
    plan: AdvicePlan
    why: str


def folklore(stages: tuple[str, ...], images_a_class: int, shift: float | None, useful: float | None, declared: str = "") -> Told:
    """images_a_class: training images of the rarest class; shift: median mean shift; useful: share of the classes' entropy that
    the source head tells; declared: what the user says of the task, `similar`, `different` or nothing."""
    much = images_a_class >= MUCH_A_CLASS
    if shift is not None:
        similar, by = shift <= SIMILAR_SHIFT, f"the median mean shift is {shift:.2f}, similar up to {SIMILAR_SHIFT:g}"
    elif useful is not None:
        similar, by = useful >= SIMILAR_USEFUL, f"the source head tells {useful:.2f} of what there is to tell"
    elif declared:
        similar, by = declared == "similar", f"nothing is known of the source, and the task is declared {declared}"
    else:
        similar, by = False, "nothing is known of the source"
    last = len(stages)
    plans: dict[tuple[bool, bool], AdvicePlan] = {
        (False, True): AdvicePlan(stages[-1], last, False),
        (False, False): AdvicePlan(stages[(last - 1) // 2], (last - 1) // 2 + 1, False),
        (True, True): AdvicePlan(stages[-1], 0, True),
        (True, False): AdvicePlan(stages[-1], 0, True),
    }
    cell = f"{'much' if much else 'little'} and {'similar' if similar else 'different'}"
    counted = f"{images_a_class} training image{'' if images_a_class == 1 else 's'} of the rarest class"
    return Told(cell, plans[much, similar], f"{counted}; {by}")


def record(told: Told) -> dict[str, Any]:
    """As it stands in a record."""
    return {"cell": told.cell, "why": told.why, "rule": RULE, **told.plan._asdict()}
