import jax
import numpy as np
import optax
import pytest

from fteng.freeze.partition import Parameters, count, decay_mask, merge, size_bytes, split, trainable_mask
from fteng.freeze.plan import prefix_plan, stage_set_plan

STAGES = ("one", "two", "three")


def stage(value):
    conv = {"kernel": np.full((1, 1, 2, 2), value, np.float32), "bias": np.full(2, value, np.float32)}
    return {"conv": conv, "norm": {"scale": np.full(2, value, np.float32), "bias": np.full(2, value, np.float32)}}


@pytest.fixture
def parameters():
    return Parameters(tuple(stage(float(k)) for k in range(3)), {"kernel": np.ones((2, 3)), "bias": np.ones(3)})


def leaves(tree):
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def names(tree):
    return {name for name, _ in leaves(tree)}


@pytest.mark.parametrize("depth", range(4))
def test_prefix_splits_by_stage(parameters, depth):
    trainable, frozen = split(parameters, trains=trainable_mask(prefix_plan(STAGES, depth), parameters))
    assert {name for name in names(trainable) if name.startswith("stages")} == {
        name for name in names(parameters) if name.startswith("stages") and int(name.split(".")[1]) >= depth
    }
    assert not names(frozen.head)
    assert names(trainable) | names(frozen) == names(parameters)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("norm", {"norm.scale", "norm.bias"}),
        ("bias", {"norm.bias", "conv.bias"}),
        ("all", {"norm.scale", "norm.bias", "conv.bias", "conv.kernel"}),
    ],
)
def test_leaves_of_a_set(parameters, kind, expected):
    mask = trainable_mask(stage_set_plan(STAGES, ["two"], kind), parameters)
    trainable, _ = split(parameters, trains=mask)
    assert names(trainable.stages[1]) == expected
    assert not names(trainable.stages[0])
    assert not names(trainable.stages[2])


PLANS = [
    *(prefix_plan(STAGES, depth) for depth in range(4)),
    stage_set_plan(STAGES, ["two"]),
    prefix_plan(STAGES, 1, "norm"),
    stage_set_plan(STAGES, ["one", "three"], "bias"),
]


@pytest.mark.parametrize("plan", PLANS)
def test_merge_undoes_split(plan, parameters):
    again = merge(*split(parameters, trains=trainable_mask(plan, parameters)))
    assert jax.tree.structure(again) == jax.tree.structure(parameters)
    jax.tree.map(np.testing.assert_array_equal, again, parameters)


def test_a_hole_has_no_optimizer_state(parameters):
    trainable, _ = split(parameters, trains=trainable_mask(prefix_plan(STAGES, 3), parameters))
    state = optax.adam(1.0).init(trainable)
    assert count(state) == 2 * count(parameters.head) + 1
    assert size_bytes(trainable) == parameters.head["kernel"].nbytes + parameters.head["bias"].nbytes


def test_decay_spares_biases_and_norms(parameters):
    mask = decay_mask(parameters)
    assert mask.stages[0] == {"conv": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}


@pytest.mark.parametrize("plan", PLANS)
def test_a_masked_step_moves_what_trains_and_nothing_else(plan, parameters):
    mask = trainable_mask(plan, parameters)
    trainable, frozen = split(parameters, trains=mask)
    optimizer = optax.masked(optax.sgd(1.0), mask)
    updates, _ = optimizer.update(jax.tree.map(np.ones_like, trainable), optimizer.init(trainable), trainable)
    after = merge(jax.tree.map(np.add, trainable, updates), frozen)
    moved = {name for (name, old), (_, new) in zip(leaves(parameters), leaves(after), strict=True) if (old != new).any()}
    assert moved == names(trainable)
    for name, new in leaves(after):
        old = dict(leaves(parameters))[name]
        np.testing.assert_array_equal(new, old - 1 if name in moved else old)


def test_parameters_of_another_network_are_refused(parameters):
    with pytest.raises(ValueError, match="the plan has 2 stages, the parameters 3"):
        trainable_mask(prefix_plan(STAGES[:2], 1), parameters)
