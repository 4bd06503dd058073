"""Steer a study, also while it runs: see `_HELP`."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fteng import paths, steer
from fteng.config_check import from_dict
from fteng.errors import UserError, says_user_errors
from fteng.freeze.plan import FreezePlan
from fteng.named import find_id
from fteng.paths import StudyPaths
from fteng.record import read_study
from fteng.trials import TrialSpec, Variant, study_context

_HELP = """\
Steer a study, also while it runs. Trials are named by their id, or by any beginning of it that is clear.

  stop TRIAL ...    end it after its epoch; its checkpoint and its validation score stay
  resume TRIAL ...  take that back; it goes on from the checkpoint to the very end it would have had
  add TRIAL         one more trial like it with something changed, from the same start
  clone TRIAL       the same from the weights that TRIAL has now, or had at its end; the record says from whom it descends
  list              what was asked for, and the trials with their state

A running study looks at the end of every epoch, and begins added trials when its own have ended; else the next run of its command
does. Nothing that has a result is changed.
"""
_EXAMPLE = """\
examples:
  python -m fteng.steer runs/demo stop depth0-rate0.001-seed0
  python -m fteng.steer runs/demo add depth4 --freeze_depth=6 --learning_rate=3e-4
  python -m fteng.steer runs/demo clone depth4-rate0.001-seed0 --learning_rate=1e-4
"""
# A checkpoint that is copied may be replaced by the next one.
_TRIES = 5


@says_user_errors
def main(arguments: Sequence[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.steer", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir of the study")
    parser.add_argument("what", choices=("stop", "resume", "add", "clone", "list"))
    parser.add_argument("trials", nargs="*", metavar="TRIAL")
    parser.add_argument("--learning_rate", type=float, help="add, clone: another peak rate")
    parser.add_argument("--seed", type=int, help="add, clone: another seed")
    parser.add_argument("--freeze_depth", type=int, help="add: another depth; a clone keeps its parent's")
    parser.add_argument("--layer_decay", type=float, help="add, clone: another factor on the rate a stage away from the head")
    parser.add_argument("--unfreezing", choices=("at_once", "gradual"), help="add, clone")
    given = parser.parse_args(arguments)
    print(_steer(StudyPaths(given.workdir), given))
    return 0


def _steer(study: StudyPaths, given: argparse.Namespace) -> str:
    """What has been done, in a line."""
    specs = _specs(study)
    change = {
        name: value
        for name in ("learning_rate", "seed", "freeze_depth", "layer_decay", "unfreezing")
        if (value := getattr(given, name)) is not None
    }
    if change and given.what not in ("add", "clone"):
        raise UserError(f"--{next(iter(change))} is for add and clone; {given.what} takes trials alone")
    if given.what == "list":
        return _listed(study, specs)
    known = {spec.id: spec for spec in specs}
    chosen = [known[find_id(name, list(known), probes=False)] for name in given.trials]
    if not chosen:
        raise UserError(f"{given.what}: which trial? python -m fteng.steer {study.root} list shows them")
    if given.what in ("add", "clone"):
        if len(chosen) > 1:
            raise UserError(f"{given.what} takes one trial, got {len(chosen)}")
        return _more(study, chosen[0], change, clone=given.what == "clone")
    return _ended(study, [spec.id for spec in chosen], stop=given.what == "stop")


def _specs(study: StudyPaths) -> list[TrialSpec]:
    """Of every trial that is planned, or was asked for."""
    record = read_study(study, "config", "weights", "dataset", "stages", "trials")
    config = from_dict(record["config"])
    of = {"weights_digest": record["weights"]["sha256"], "data_digest": record["dataset"]["digest"]}
    context = study_context(config, **of, preprocess=record["weights"]["preprocess"])
    planned = [_spec(row, record["stages"], context) for row in record["trials"]]
    return [*planned, *steer.added(planned, steer.read(study))]


def _spec(row: dict[str, Any], stages: Sequence[str], context: dict[str, Any]) -> TrialSpec:
    upto = tuple(stages[: list(stages).index(row["tap"]) + 1])
    plan = FreezePlan(upto, tuple(stage in row["trainable_stages"] for stage in upto), row["leaves"])
    spec = TrialSpec(plan, Variant(**row["variant"]), row["learning_rate"], row["seed"], context)
    if spec.id != row["id"]:
        raise UserError(f"trial {row['id']} was planned by another version of fteng; run the study's command again first")
    return spec


def _listed(study: StudyPaths, specs: Sequence[TrialSpec]) -> str:
    asked = steer.read(study)
    rows = []
    for spec in specs:
        state = study.trial(spec.id).status() or "waiting"
        if spec.id in asked.stopped:
            state += " (asked to stop)"
        rows.append(f"{spec.id}  {state}{f'  from {spec.variant.parent}' if spec.variant.parent else ''}")
    return "\n".join(rows)


def _ended(study: StudyPaths, ids: Sequence[str], *, stop: bool) -> str:
    if stop and paths.read_json(study.study)["config"]["sweep"]["search"] == "race":
        raise UserError("a race stops trials itself, by a rule that needs all of them; sweep.search=exhaustive takes your word")
    for name in ids:
        if stop and study.trial(name).status() not in (None, "stopped"):
            raise UserError(f"{name} has ended already; its result stays as it is")
    with steer.changing(study) as asked:
        rest = tuple(name for name in asked[0].stopped if name not in ids)
        asked[0] = asked[0]._replace(stopped=(*rest, *ids) if stop else rest)
    after = "will end after its epoch, or not begin" if stop else "goes on: in a running study, when the others have ended"
    return "\n".join(f"{name} {after}" for name in ids)


def _more(study: StudyPaths, like: TrialSpec, change: dict[str, Any], *, clone: bool) -> str:
    """An added trial, or a clone with its parent's weights beside it."""
    change = {"like": like.id, **change}
    with steer.changing(study) as asked:
        copied = None
        if clone:
            if "freeze_depth" in change:
                raise UserError("a clone keeps the freeze depth of its parent; add takes another one")
            copied, change["step"] = _snapshot(study, like.id)
        try:
            spec = steer.derive(like, change)
            # As they are now: somebody else may have asked for it since.
            if any(other.id == spec.id for other in _specs(study)):
                raise UserError(f"this is {spec.id}, which is planned already; change its rate, seed or another of its numbers")
            if copied is not None:
                target = study.trial(spec.id).parent
                target.parent.mkdir(parents=True, exist_ok=True)
                # Of a clone that was killed before it was asked for.
                shutil.rmtree(target, ignore_errors=True)
                copied.replace(target)
        finally:
            if copied is not None and copied.exists():
                shutil.rmtree(copied)
        asked[0] = asked[0]._replace(added=(*asked[0].added, change))
    return f"{spec.id} is added; it begins when the study's own trials have ended, or at the next run of its command"


def _snapshot(study: StudyPaths, parent: str) -> tuple[Path, int]:
    """(a copy of the parent's newest weights, their step). Raises UserError where it has none."""
    where = study.trial(parent)
    copied = study.trials / f".clone-{parent}"
    for _ in range(_TRIES):
        shutil.rmtree(copied, ignore_errors=True)
        if where.result.exists() and where.final.exists():
            shutil.copytree(where.final, copied)
            return copied, where.read_result("steps")["steps"]
        steps = sorted((int(path.name) for path in where.running.glob("[0-9]*") if path.name.isdigit()), reverse=True)
        if not steps:
            break
        try:
            shutil.copytree(where.running / str(steps[0]) / "state", copied)
        except (OSError, shutil.Error):
            continue
        return copied, steps[0]
    raise UserError(f"{parent} has no weights of its own yet: no checkpoint, no end; wait for train.checkpoint_every steps, or add")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
