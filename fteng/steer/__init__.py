"""What a user asks of a study beside its config, also while it runs: trials to stop, to add, to clone. Imports no jax.

`WORKDIR/steering.json` holds it. A study looks at the end of every epoch for trials to stop, and once its own trials have ended for
those that were added; the same command goes on with what was asked for since.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from fteng import locks, paths
from fteng.config_check import check_item
from fteng.errors import UserError
from fteng.freeze.plan import prefix_plan
from fteng.paths import StudyPaths
from fteng.trials import TrialSpec

# What may be changed, and the key of the config that says what it may be.
_KEYS = {
    "learning_rate": "sweep.learning_rates",
    "seed": "sweep.seeds",
    "layer_decay": "sweep.layer_decays",
    "unfreezing": "sweep.unfreezing",
}
# How notes of such trials begin.
BY_USER = "stopped by its user"


class Steering(NamedTuple):
    """stopped: ids of trials that are to end after their epoch; added: what each more trial is, see `fill`."""

    stopped: tuple[str, ...] = ()
    added: tuple[Mapping[str, Any], ...] = ()


def read(study: StudyPaths) -> Steering:
    """What was asked for so far. Raises UserError where the file is damaged."""
    file = study.steering
    if not file.exists():
        return Steering()
    value = paths.read_json(file)
    try:
        return Steering(tuple(value["stopped"]), tuple(value["added"]))
    except (KeyError, TypeError):
        raise UserError(f"{file} is damaged; delete it to forget what was asked for, or put it right") from None


@contextmanager
def changing(study: StudyPaths) -> Iterator[list[Steering]]:
    """A list of one, what was asked for; what stands in it at the end is written. One change at a time."""
    with locks.held(study.steering.with_suffix(".lock")):
        asked = [read(study)]
        yield asked
        paths.write_json(study.steering, {"stopped": list(asked[0].stopped), "added": list(asked[0].added)})


def added(specs: Sequence[TrialSpec], steering: Steering) -> tuple[TrialSpec, ...]:
    """The trials asked for beside `specs`, in the order in which they were; one that the config has learned to ask for is left
    out. Raises UserError where one is like a trial that the config asks for no more."""
    known = {spec.id: spec for spec in specs}
    found = []
    for each in steering.added:
        if each["like"] not in known:
            raise UserError(
                f"steering.json adds a trial like {each['like']}, which the config asks for no more; put its depth, rate and seed"
                " back, or delete the entry"
            )
        spec = derive(known[each["like"]], each)
        if spec.id not in known:
            known[spec.id] = spec
            found.append(spec)
    return tuple(found)


def derive(like: TrialSpec, change: Mapping[str, Any]) -> TrialSpec:
    """`like` with a change. change: of `learning_rate`, `seed`, `freeze_depth`, `layer_decay`, `unfreezing` those that differ; and
    `step`, where it goes on from the weights that `like` had at that step. Raises UserError on a depth that there is not, and on
    what the config would not take."""
    for name, key in _KEYS.items():
        if name in change:
            check_item(key, change[name], f"--{name}")
    variant = like.variant._replace(**{name: change[name] for name in ("layer_decay", "unfreezing") if name in change})
    if "step" in change:
        variant = variant._replace(parent=f"{like.id}@{change['step']}")
    plan = like.plan
    if "freeze_depth" in change:
        plan = prefix_plan(plan.stages, change["freeze_depth"], plan.leaves)
    rest = {name: change[name] for name in ("learning_rate", "seed") if name in change}
    return like._replace(plan=plan, variant=variant, **rest)
