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


def names(tree):
    return {jax.tree_util.keystr(path, simple=True, separator=".") for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("depth", range(4))
def test_prefix_splits_by_stage(parameters, depth):
    trainable, frozen = split(parameters, trainable_mask(prefix_plan(STAGES, depth), parameters))
    assert {name for name in names(trainable) if name.startswith("stages")} == {
        name for name in names(parameters) if name.startswith("stages") and int(name.split(".")[1]) >= depth
    }
    assert not names(frozen.head)
    assert names(trainable) | names(frozen) == names(parameters)


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ("norm", {"norm.scale", "norm.bias"}),
        ("bias", {"norm.bias", "conv.bias"}),
        ("all", {"norm.scale", "norm.bias", "conv.bias", "conv.kernel"}),
    ],
)
def test_leaves_of_a_set(parameters, leaves, expected):
    mask = trainable_mask(stage_set_plan(STAGES, ["two"], leaves), parameters)
    trainable, _ = split(parameters, mask)
    assert names(trainable.stages[1]) == expected
    assert not names(trainable.stages[0])
    assert not names(trainable.stages[2])


def test_merge_undoes_split(parameters):
    again = merge(*split(parameters, trainable_mask(prefix_plan(STAGES, 2), parameters)))
    assert jax.tree.structure(again) == jax.tree.structure(parameters)
    jax.tree.map(np.testing.assert_array_equal, again, parameters)


def test_a_hole_has_no_optimizer_state(parameters):
    trainable, _ = split(parameters, trainable_mask(prefix_plan(STAGES, 3), parameters))
    state = optax.adam(1.0).init(trainable)
    assert count(state) == 2 * count(parameters.head) + 1
    assert size_bytes(trainable) == parameters.head["kernel"].nbytes + parameters.head["bias"].nbytes


def test_decay_spares_biases_and_norms(parameters):
    mask = decay_mask(parameters)
    assert mask.stages[0] == {"conv": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}}
