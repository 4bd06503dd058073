import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest

from fteng.errors import Interrupted
from fteng.freeze.plan import prefix_plan, stage_set_plan
from fteng.paths import TrialPaths, read_json
from fteng.results import read_predictions
from fteng.train.checkpoint import read_final
from fteng.train.shape import shape_of
from fteng.train.start import untrained
from fteng.train.step import initial_state
from fteng.trials import Variant


def outcome(lab, spec, where: TrialPaths):
    """All of a trial that must not depend on interruptions: everything but seconds and compilations."""
    result = read_json(where.result)
    del result["cost"], result["audit"]
    answers = {split: answers.logits.tobytes() for split, answers in read_predictions(where.predictions).items()}
    recipe = lab.bench.recipe
    network = untrained(lab.start._replace(heads={spec.plan.tap: lab.head}), shape_of(spec.plan, spec.variant, recipe))
    state, _ = initial_state(network, recipe)
    final = read_final(where.final, {"trainable": state.trainable, "stats": state.stats})
    return result, answers, where.metrics.read_text(), [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(final)]


def interrupted(lab, spec, program, where: TrialPaths, stop: int, total: int):
    """Run until `stop` steps are made; returns the position kept there."""
    asked = itertools.count(1)
    bench = lab.bench._replace(should_stop=lambda: next(asked) >= stop)
    with pytest.raises(Interrupted, match=f"at step {stop} of {total}"):
        lab.run(spec, program, where, bench=bench)
    assert not where.result.exists()
    return read_json(where.running / str(stop) / "position" / "metadata")


@pytest.mark.slow
def test_the_end_is_the_same_from_every_checkpoint(lab, deep_plan, deep_program, tmp_path):
    spec = lab.spec(deep_plan)
    whole = TrialPaths(tmp_path / "whole")
    steps: list[int] = []
    lab.run(spec, deep_program, whole, on_step=steps.append)
    total = steps[-1]
    assert steps == list(range(1, total + 1))
    assert total >= 4
    for stop in range(1, total):
        where = TrialPaths(tmp_path / f"stopped{stop}")
        interrupted(lab, spec, deep_program, where, stop, total)
        seen: list[int] = []
        lab.run(spec, deep_program, where, on_step=seen.append)
        assert seen == list(range(stop + 1, total + 1))
        assert outcome(lab, spec, where) == outcome(lab, spec, whole)
        assert not where.running.exists()


@pytest.mark.parametrize(
    ("change", "variant"),
    [
        pytest.param({}, Variant(batch_norm="batch"), id="moving-statistics", marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", "mixup": 0.4}, Variant(), id="sgd-mixup", marks=pytest.mark.slow),
        pytest.param({}, Variant(unfreezing="gradual"), id="gradual", marks=pytest.mark.slow),
        pytest.param({}, Variant(parent="other@3"), id="clone", marks=pytest.mark.slow),
    ],
)
def test_the_end_is_the_same_after_a_stop_whatever_is_trained(lab, deep_plan, deep_program, tmp_path, change, variant):
    recipe = dataclasses.replace(lab.bench.recipe, **change)
    other = lab._replace(bench=lab.bench._replace(recipe=recipe), forwards={}, inputs={}) if change else lab
    usual = not change and variant.batch_norm == "keep"
    program = deep_program if usual else other.program(deep_plan, variant=variant)
    spec, total = other.spec(deep_plan, variant=variant), other.bench.length.steps
    whole, where = TrialPaths(tmp_path / "whole"), TrialPaths(tmp_path / "stopped")
    if variant.parent:
        parent = TrialPaths(tmp_path / "parent")
        other.run(other.spec(deep_plan, 1e-2, seed=1), program, parent)
        for clone in (whole, where):
            shutil.copytree(parent.final, clone.parent)
    other.run(spec, program, whole)
    kept = interrupted(other, spec, program, where, total // 2, total)
    told: list[str] = []
    seen: list[int] = []
    result = other.run(spec, program, where, bench=other.bench._replace(say=told.append), on_step=seen.append)
    assert told == [f"trial {spec.id} goes on from step {total // 2} of {total}"]
    assert seen[0] == total // 2 + 1
    assert outcome(other, spec, where) == outcome(other, spec, whole)
    assert result["cost"]["seconds"] > kept["seconds"] > 0
    assert result["cost"]["data_wait_seconds"] >= kept["waited"]


def test_metrics_written_after_the_checkpoint_are_written_once(lab, deep_plan, deep_program, tmp_path):
    """A kill between a line of metrics and the next checkpoint, and one in the middle of a line."""
    where = TrialPaths(tmp_path)
    interrupted(lab, lab.spec(deep_plan), deep_program, where, 2, lab.bench.length.steps)
    with where.metrics.open("a") as file:
        file.write('{"step": 5, "stale": true}\n{"step": 6, "va')
    lab.run(lab.spec(deep_plan), deep_program, where)
    lines = [json.loads(line) for line in where.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert all("stale" not in line for line in lines)


def test_a_trial_that_diverges_is_recorded(lab, deep_plan, deep_program, tmp_path):
    where = TrialPaths(tmp_path)
    head = jax.tree.map(lambda leaf: leaf.at[0].set(np.inf), lab.head)
    result = lab.run(lab.spec(deep_plan), deep_program, where, head=head)
    assert result["status"] == "diverged"
    assert "not finite" in result["note"]
    assert result["val"] == result["test"] == {}
    assert read_json(where.result) == result


def test_rates_and_seeds_share_one_program_and_differ(lab, deep_plan, deep_program, tmp_path):
    outcomes = []
    for index, (rate, seed) in enumerate(((1e-3, 0), (1e-4, 0), (1e-3, 1))):
        where = TrialPaths(tmp_path / f"{rate}-{seed}")
        spec = lab.spec(deep_plan, rate, seed)
        result = lab.run(spec, deep_program, where, first=index == 0)
        compiled = next(check for check in result["audit"] if "compilation" in check["check"])
        assert compiled["passed"] is (None if index == 0 else True), compiled
        outcomes.append(outcome(lab, spec, where)[1]["test"])
    assert len(set(outcomes)) == 3


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (stage_set_plan, (["block16"], "norm")),
        pytest.param(prefix_plan, (16, "bias"), marks=pytest.mark.slow),
        pytest.param(prefix_plan, (18,), marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_plan_passes_its_audit(lab, tmp_path, make, arguments):
    plan = make(lab.backbone.stages, *arguments)
    result = lab.run(lab.spec(plan), lab.program(plan), TrialPaths(tmp_path))
    assert result["status"] == "done"
    assert [check["passed"] for check in result["audit"]] == [True] * 4 + [None]


def test_a_trial_in_which_a_frozen_bit_changed_has_failed(lab, deep_plan, deep_program, tmp_path):
    stages, stats = lab.start.source
    moved = jax.tree.map(lambda leaf: np.nextafter(leaf, np.inf), stages[0])
    other = lab._replace(start=lab.start._replace(source=((moved, *stages[1:]), stats)))
    result = other.run(other.spec(deep_plan), deep_program, TrialPaths(tmp_path))
    assert result["status"] == "failed"
    assert result["note"].startswith(f"frozen parameters are bit-equal: changed: {lab.backbone.stages[0]}")


@pytest.mark.slow
def test_statistics_follow_the_freeze(lab, deep_plan, tmp_path):
    """`batch` moves the statistics of trained stages; those of frozen ones stay, bit for bit."""
    variant = Variant(batch_norm="batch")
    result = lab.run(lab.spec(deep_plan, variant=variant), lab.program(deep_plan, variant=variant), TrialPaths(tmp_path))
    kept = next(check for check in result["audit"] if "batch norm" in check["check"])
    assert kept["passed"] is True
    assert "16 stages" in kept["detail"]


# Some reads of tensorstore end when asyncio's loop, in which another one has failed, is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(lab, deep_plan, deep_program, tmp_path):
    spec, told = lab.spec(deep_plan), []
    whole = TrialPaths(tmp_path / "whole")
    lab.run(spec, deep_program, whole)
    where = TrialPaths(tmp_path / "damaged")
    interrupted(lab, spec, deep_program, where, 3, lab.bench.length.steps)
    newest = where.running / "3"
    for file in (path for path in newest.rglob("*") if path.is_file() and path.stat().st_size > 100):
        file.write_bytes(file.read_bytes()[:10])
    seen: list[int] = []
    lab.run(spec, deep_program, where, bench=lab.bench._replace(say=told.append), on_step=seen.append)
    assert seen[0] == 3
    assert "step 3 is damaged" in told[0]
    assert told[1:] == [f"trial {spec.id} goes on from step 2 of {lab.bench.length.steps}"]
    assert outcome(lab, spec, where) == outcome(lab, spec, whole)
