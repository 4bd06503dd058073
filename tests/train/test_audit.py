"""Each check of the audit goes red when what it guards is broken."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
import pytest

from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import prefix_plan
from fteng.train import audit, step
from fteng.train.step import head_logits


@pytest.fixture(scope="module")
def whole(lab):
    return Parameters(lab.start.stages, lab.head), lab.start.stats


def audited(lab, plan, program, before, after, optimizer):
    return {check.check: check for check in audit.audit_trial(lab.spec(plan), lab.bench.recipe, program, before, after, optimizer)}


def masked_optimizer(plan, parameters):
    mask = partition.trainable_mask(plan, parameters)
    return optax.masked(optax.scale_by_adam(), mask).init(parameters)


def test_all_is_well(lab, deep_plan, deep_program, whole):
    checks = audited(lab, deep_plan, deep_program, whole, whole, masked_optimizer(deep_plan, whole[0]))
    assert all(check.passed for check in checks.values())
    assert len(checks) == 4


@pytest.mark.parametrize(("stage", "passes"), [(0, False), (15, False), (16, True)])
def test_one_changed_bit_of_a_frozen_stage(lab, deep_plan, deep_program, whole, stage, passes):
    leaf, *others = jax.tree.leaves(whole[0].stages[stage])
    changed = leaf.ravel().at[0].set(jnp.nextafter(leaf.ravel()[0], jnp.inf)).reshape(leaf.shape)
    tree = jax.tree.unflatten(jax.tree.structure(whole[0].stages[stage]), [changed, *others])
    stages = (*whole[0].stages[:stage], tree, *whole[0].stages[stage + 1 :])
    checks = audited(
        lab, deep_plan, deep_program, whole, (whole[0]._replace(stages=stages), whole[1]), masked_optimizer(deep_plan, whole[0])
    )
    check = checks["frozen parameters are bit-equal"]
    assert check.passed is passes
    assert check.fatal
    assert passes or lab.backbone.stages[stage] in check.detail


def test_a_moved_statistic(lab, deep_plan, deep_program, whole):
    stats = (jax.tree.map(lambda leaf: leaf + 1, whole[1][0]), *whole[1][1:])
    checks = audited(lab, deep_plan, deep_program, whole, (whole[0], stats), masked_optimizer(deep_plan, whole[0]))
    assert checks["statistics of kept batch norm are bit-equal"].passed is False


def test_optimizer_state_of_frozen_leaves(lab, deep_plan, deep_program, whole):
    optimizer = optax.scale_by_adam().init(whole[0])
    checks = audited(lab, deep_plan, deep_program, whole, whole, optimizer)
    assert checks["optimizer state is of trainable leaves only"].passed is False


def test_flops_are_what_the_suffix_needs(deep_plan, deep_program):
    for share, passed in ((1.04, True), (1.06, False), (0.96, True), (0.94, False)):
        counted = deep_program._replace(flops=share * deep_program.expected_flops)
        assert audit.check_flops(deep_plan, counted).passed is passed, share


@pytest.mark.slow
def test_gradients_through_the_frozen_prefix_cost_flops(lab, deep_plan, deep_program, monkeypatch):
    """What one logged norm over all gradients does: the whole backward pass is back, here of a step that has its prefix in it."""

    def make_wasteful(backbone, shape, mask, recipe, shares):
        lean = step_before(backbone, shape, mask, recipe, shares)

        def run(state, frozen, x, labels, rates, key):
            parameters, stats = step.whole(state, frozen)

            def loss_of(everything):
                end = len(shape.modes)
                y, _ = backbone.apply(everything.stages, stats, x, start=shape.entry.stage, stop=end, modes=shape.modes)
                return optax.softmax_cross_entropy_with_integer_labels(
                    head_logits(everything.head, backbone.pool(y)), labels
                ).mean()

            norm = optax.tree.norm(jax.grad(loss_of)(parameters))
            after = lean(state, frozen, x, labels, rates, key)
            return after._replace(loss_sum=after.loss_sum + 0 * norm)

        return run

    assert audit.check_flops(deep_plan, deep_program).passed
    step_before = step.make_step
    monkeypatch.setattr(step, "make_step", make_wasteful)
    # A short network, which compiles soon: five stages, the last one tuned.
    head = {"kernel": jnp.zeros((lab.backbone.channels[4], 10)), "bias": jnp.zeros(10)}
    plan = prefix_plan(lab.backbone.stages[:5], 4)
    mixed = dataclasses.replace(lab.bench.recipe, mixup=0.2)
    check = audit.check_flops(plan, lab.program(plan, recipe=mixed, head=head))
    assert check.passed is False
    assert check.value > 1.2
