"""Trials that advance together are the trials they would have been alone."""

import itertools

import jax
import numpy as np
import pytest

from fteng.errors import Interrupted
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import prefix_plan
from fteng.mesh import ALONE, Mesh
from fteng.paths import TrialPaths
from fteng.results import read_predictions
from fteng.train.population import _answer, advance, answers_of
from fteng.train.trial import end

RATES = (1e-3, 3e-4, 1e-4)


def together(lab, members, *, bench=None, upto=None):
    bench = bench or lab.bench
    inputs = lab.recomputed(lab.entry(members[0].spec.plan))
    advance(bench, members, inputs, upto or bench.length.steps, lambda _: None)
    sound = [member for member in members if member.lost_at is None]
    answers = {split: answers_of(bench, sound, inputs, split) for split in ("val", "test")}
    for member in members:
        mine = {split: found[sound.index(member)] for split, found in answers.items()} if member in sound else {}
        end(bench, member, mine, first_of_shape=True)


def outcome(where: TrialPaths):
    answers = {split: found.logits.tobytes() for split, found in read_predictions(where.predictions).items()}
    return answers, where.metrics.read_text()


@pytest.fixture(scope="module")
def alone(lab, deep_plan, deep_program, tmp_path_factory):
    root = tmp_path_factory.mktemp("alone")
    for rate in RATES:
        lab.run(lab.spec(deep_plan, rate), deep_program, TrialPaths(root / f"{rate}"))
    return [outcome(TrialPaths(root / f"{rate}")) for rate in RATES]


def test_each_member_is_itself_alone_and_a_diverging_one_disturbs_nobody(lab, deep_plan, deep_program, alone, tmp_path):
    places = [TrialPaths(tmp_path / f"{rate}") for rate in RATES]
    members = [lab.begin(lab.spec(deep_plan, rate), deep_program, where) for rate, where in zip(RATES, places, strict=True)]
    lost = jax.tree.map(lambda leaf: leaf.at[0].set(np.inf), lab.head)
    broken = lab.begin(lab.spec(deep_plan, 2e-3), deep_program, TrialPaths(tmp_path / "broken"), head=lost)
    together(lab, [members[0], broken, *members[1:]])
    assert broken.lost_at is not None
    assert [outcome(where) for where in places] == alone


def test_one_that_its_user_ends_disturbs_nobody_and_may_go_on(lab, deep_plan, deep_program, alone, tmp_path):
    places = [TrialPaths(tmp_path / f"{rate}") for rate in RATES]
    specs = [lab.spec(deep_plan, rate) for rate in RATES]
    members = [lab.begin(spec, deep_program, where) for spec, where in zip(specs, places, strict=True)]
    bench = lab.bench._replace(halted=lambda: [specs[0].id])
    inputs, total = lab.recomputed(lab.entry(deep_plan)), bench.length.steps
    advance(bench, members, inputs, total, lambda _: None)
    assert [member.step for member in members] == [total // 2, total, total]
    (answers,) = answers_of(bench, members[:1], inputs, "val")
    result = end(bench, members[0], {"val": answers}, first_of_shape=True, stopped="asked to")
    assert (result["status"], result["steps"], result["test"]) == ("stopped", total // 2, {})
    rest = {split: answers_of(bench, members[1:], inputs, split) for split in ("val", "test")}
    for index, member in enumerate(members[1:]):
        end(bench, member, {split: found[index] for split, found in rest.items()}, first_of_shape=True)
    places[0].result.unlink()
    lab.run(specs[0], deep_program, places[0])
    assert [outcome(where) for where in places] == alone


@pytest.mark.slow
def test_members_that_a_kill_left_at_different_steps_catch_up(lab, deep_plan, deep_program, alone, tmp_path):
    places = [TrialPaths(tmp_path / f"{rate}") for rate in RATES]
    specs = [lab.spec(deep_plan, rate) for rate in RATES]
    for stop, spec, where in zip((1, 3), specs, places, strict=False):
        asked = itertools.count(1)
        bench = lab.bench._replace(should_stop=lambda asked=asked, stop=stop: next(asked) >= stop)
        with pytest.raises(Interrupted):
            lab.run(spec, deep_program, where, bench=bench)
    members = [lab.begin(spec, deep_program, where) for spec, where in zip(specs, places, strict=True)]
    assert [member.step for member in members] == [1, 3, 0]
    together(lab, members)
    assert [outcome(where) for where in places] == alone


@pytest.mark.slow
def test_plans_of_one_boundary_share_their_batches(lab, tmp_path):
    """A whole suffix and its biases alone enter at the same place."""
    plans = [prefix_plan(lab.backbone.stages, 17, leaves) for leaves in ("all", "bias")]
    programs = [lab.program(plan) for plan in plans]
    for name in ("alone", "together"):
        places = [TrialPaths(tmp_path / name / plan.leaves) for plan in plans]
        if name == "alone":
            for plan, program, where in zip(plans, programs, places, strict=True):
                lab.run(lab.spec(plan), program, where)
        else:
            members = [lab.begin(lab.spec(plan), p, where) for plan, p, where in zip(plans, programs, places, strict=True)]
            together(lab, members)
    for plan in plans:
        assert outcome(TrialPaths(tmp_path / "alone" / plan.leaves)) == outcome(TrialPaths(tmp_path / "together" / plan.leaves))


def test_every_step_takes_the_rate_of_its_own(lab, deep_plan, deep_program, tmp_path):
    taken = []

    def run(state, frozen, x, labels, rates, key):
        taken.append(rates)
        return deep_program.run(state, frozen, x, labels, rates, key)

    member = lab.begin(lab.spec(deep_plan), deep_program._replace(run=run), TrialPaths(tmp_path))
    advance(lab.bench, [member], lab.recomputed(lab.entry(deep_plan)), lab.bench.length.steps, lambda _: None)
    member.checkpoints.close()
    assert len(np.unique(member.rates[:, -1])) == lab.bench.length.steps
    np.testing.assert_array_equal(np.stack(taken), member.rates)


def test_a_batch_that_is_not_on_the_device_is_refused(lab, deep_plan, deep_program, tmp_path):
    member, inputs = lab.begin(lab.spec(deep_plan), deep_program, TrialPaths(tmp_path)), lab.recomputed(lab.entry(deep_plan))

    def on_host(plan, seed):
        return (np.asarray(x) for x in inputs.train(plan, seed))

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        advance(lab.bench, [member], inputs._replace(train=on_host), 1, lambda _: None)


def test_answers_are_computed_under_the_mesh_of_their_lane():
    """Convolutions that loop over images ask for it where they are traced."""
    seen = []

    def forward(parameters, stats, x):
        seen.append((parameters, stats, jax.sharding.get_abstract_mesh().axis_names))
        return x

    lane, network = Mesh(jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("trials", "data"))), (Parameters((), {}), ())
    for mesh in (lane, ALONE):
        logits = _answer(forward, network, mesh, mesh.whole(jax.numpy.ones((2, 3))))
        assert logits.shape == (2, 3)
    assert seen == [(*network, ("trials", "data")), (*network, ())]
