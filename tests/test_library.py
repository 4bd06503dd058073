"""The example of docs/library.md runs word by word, and what the document promises of it holds."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from sklearn.datasets import load_digits

import fteng
from fteng.backbones.backbone import BatchNormMode
from fteng.errors import UserError
from fteng.freeze import partition
from fteng.freeze.plan import stage_set_plan

ROOT = Path(__file__).parent.parent
DOC = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOC, re.DOTALL | re.MULTILINE)
RNGS = nnx.Rngs(0)


@cache
def conv() -> nnx.Conv:
    return nnx.Conv(3, 4, (3, 3), rngs=RNGS)


class Ran(NamedTuple):
    """before: the model's numbers when the example had made it."""

    names: dict[str, Any]
    before: dict[str, Any]


def numbers(module: nnx.Module) -> dict[str, Any]:
    return jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))))


@pytest.fixture(scope="module")
def ran() -> Ran:
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[0], "docs/library.md", "exec"), names)
    # Statistics as of a network that has seen something, so that to lose them would show.
    for norm in (names["model"].norm1, names["model"].norm2):
        norm.mean[...], norm.var[...] = jnp.linspace(-0.1, 0.1, norm.num_features), jnp.full(norm.num_features, 0.5)
    before = numbers(names["model"])
    for block in BLOCKS[1:]:
        exec(compile(block, "docs/library.md", "exec"), names)
    return Ran(names, before)


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_the_example_has_fifteen_lines_and_the_document_every_name() -> None:
    assert len([line for line in BLOCKS[1].splitlines() if line.strip()]) == 15
    table = re.findall(r"^\| `(\w+)", DOC, re.MULTILINE)
    assert sorted(table) == sorted(fteng.__all__)


@pytest.mark.slow
def test_frozen_leaves_keep_their_bits_in_the_model_of_the_user(ran: Ran) -> None:
    after = numbers(ran.names["model"])
    for layer in ("conv1", "norm1", "conv2", "norm2"):
        assert_same(after[layer], ran.before[layer])
    assert not np.array_equal(after["conv3"]["kernel"], ran.before["conv3"]["kernel"])
    assert not np.array_equal(after["conv3"]["bias"], ran.before["conv3"]["bias"])


@pytest.mark.slow
def test_what_is_frozen_has_no_gradient_and_no_state(ran: Ran) -> None:
    trial, state = ran.names["trial"], ran.names["state"]
    trained = ran.before["conv3"]["kernel"].size + ran.before["conv3"]["bias"].size + 64 * 10 + 10
    assert partition.count(state.trainable) == trained
    # Two moments of AdamW, and its count.
    assert partition.size_bytes(state.optimizer) == 2 * 4 * trained + 4
    assert jax.tree.leaves(state.trainable.stages[:2]) == []
    assert trial.entry == (2, False)
    assert int(state.step) == trial.steps > 100


@pytest.mark.slow
def test_cached_equals_recomputed(ran: Ran) -> None:
    trial, kept = ran.names["trial"], ran.names["kept"]
    recomputed, state = trial.inputs(keep=False), trial.begin()
    assert (kept.cached, recomputed.cached) == (True, False)
    for x, labels in trial.batches(recomputed):
        state = trial.step(state, x, labels)
    assert_same(state, ran.names["state"])
    assert trial.scores(state, recomputed, "val") == trial.scores(state, kept, "val")


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(ran: Ran) -> None:
    trial, kept, state = ran.names["trial"], ran.names["kept"], ran.names["trial"].begin()
    for _, (x, labels) in zip(range(50), trial.batches(kept), strict=False):
        state = trial.step(state, x, labels)
    for x, labels in trial.batches(kept, start=int(state.step)):
        state = trial.step(state, x, labels)
    assert_same(state, ran.names["state"])


@pytest.mark.slow
def test_probes_and_the_trial_beat_chance(ran: Ran) -> None:
    assert [probe.stage for probe in ran.names["probes"]] == ["stem", "body", "top"]
    accuracies = [probe.test["accuracy"] for probe in ran.names["probes"]]
    # Ten classes, and random filters: chance is 0.1.
    assert min(accuracies) > 0.3
    assert ran.names["trial"].scores(ran.names["state"], ran.names["kept"], "test")["accuracy"] > max(accuracies)


@pytest.mark.slow
def test_the_stages_say_what_the_model_says(ran: Ran) -> None:
    backbone, stages = ran.names["backbone"], ran.names["stages"]
    _, weights = fteng.from_flax(stages, image_size=8, mean=127.5, std=127.5)
    x = backbone.preprocess.apply(jnp.asarray(ran.names["data"].images[:5]))
    ours, kept = backbone.outputs(weights.params, weights.stats, x)
    assert_same(kept, weights.stats)
    for stage, y in zip(stages.values(), ours, strict=True):
        stage.eval()
        x = stage(x)
        np.testing.assert_allclose(np.asarray(y), np.asarray(x), atol=1e-6)


class Normed(nnx.Module):
    """With a layer that is asked for the batch's statistics, whatever anybody says."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm, self.drops = nnx.BatchNorm(3, rngs=rngs), nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(x, use_running_average=False)
        return jnp.concatenate([drop(y, deterministic=False) for drop in self.drops], axis=-1)


@pytest.mark.slow
def test_the_engine_says_what_batch_norm_and_dropout_do() -> None:
    backbone, weights = fteng.from_flax({"normed": Normed(nnx.Rngs(0))}, image_size=8, mean=0, std=1)
    assert backbone.channels == (6,)
    x = jnp.asarray(np.random.default_rng(0).normal(2, 3, (4, 8, 8, 3)), jnp.float32)
    run = jax.jit(partial(backbone.apply, weights.params, weights.stats, x), static_argnames="modes")
    for mode, factor in ((BatchNormMode.KEEP, 0.0), (BatchNormMode.BATCH, 0.25), (BatchNormMode.OBSERVE, 1.0)):
        # A traced number.
        y, (stats,) = run(modes=mode, momentum=0.75)
        follows, layer = mode is BatchNormMode.BATCH, nnx.BatchNorm(3, momentum=0.75, rngs=nnx.Rngs(0))
        np.testing.assert_allclose(y[..., :3], layer(x, use_running_average=not follows), atol=1e-5)
        found, batch = stats["body"]["norm"], (x.mean((0, 1, 2)), x.var((0, 1, 2)))
        np.testing.assert_allclose(found["mean"], factor * batch[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["var"], 1 - factor + factor * batch[1], rtol=1e-4)
    key = jax.random.key(0)
    dropped = np.asarray(run(key=key)[0] == 0)
    assert 0.4 < dropped.mean() < 0.6
    assert (dropped[..., :3] != dropped[..., 3:]).mean() > 0.4


def test_stages_without_numbers_vectors_and_a_tap_of_ones_own() -> None:
    stages = {
        "grey": lambda x: x[..., :1] - np.ones((8, 8, 1), np.float32),
        "flat": lambda x: x.reshape(len(x), -1),
        "dense": nnx.Linear(64, 5, rngs=nnx.Rngs(0)),
        "tokens": lambda x: jnp.stack([x, 2 * x], axis=1),
    }
    backbone, weights = fteng.from_flax(stages, image_size=8, mean=(0, 0, 0), std=255, pool=lambda y: y.reshape(len(y), -1))
    assert backbone.channels == (64, 64, 5, 10)
    assert weights.params[:2] == ({}, {})
    mask = partition.trainable_mask(stage_set_plan(backbone.stages, ["dense"]), partition.Parameters(weights.params, {}))
    assert mask.stages == (False, False, {"body": {"kernel": True, "bias": True}}, False)


class Small(NamedTuple):
    backbone: Any
    weights: Any
    data: Any

    def trial(self, depth: int, **options: Any) -> fteng.Trial:
        return fteng.Trial(*self, fteng.prefix_plan(self.backbone.stages, depth), **options)


@pytest.fixture(scope="module")
def small() -> Small:
    digits, labels = load_digits(n_class=3, return_X_y=True)
    data = fteng.make_dataset((digits[:90].reshape(-1, 8, 8) * 15).astype(np.uint8), labels[:90])
    flat = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.BatchNorm(192, rngs=RNGS))
    return Small(*fteng.from_flax({"norm": nnx.BatchNorm(3, rngs=RNGS), "flat": flat}, image_size=8, mean=0, std=255), data)


@pytest.mark.parametrize("depth", [pytest.param(0, marks=pytest.mark.slow), 1, pytest.param(2, marks=pytest.mark.slow)])
def test_kept_views_train_to_the_same_bits_at_every_depth(small: Small, depth: int) -> None:
    recipe = fteng.TrainConfig(augment=("shift",), views=2, epochs=2, batch_size=16)
    trial = small.trial(depth, batch_norm="batch", learning_rate=0.01, recipe=recipe)
    ends = []
    kept, recomputed = trial.inputs(keep=True), trial.inputs(keep=False)
    assert (kept.cached, recomputed.cached) == (depth > 0, False)
    for inputs in (kept, recomputed):
        state = trial.begin()
        for x, y in trial.batches(inputs):
            state = trial.step(state, x, y)
        ends.append((trial.network(state), trial.scores(state, inputs, "test")))
    assert_same(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    # What is frozen keeps its bits, statistics too; what trains moves, and its statistics follow the batch.
    parameters, stats = ends[0][0]
    for index in range(2):
        found = jax.tree.leaves((parameters.stages[index], stats[index]))
        source = jax.tree.leaves((small.weights.params[index], small.weights.stats[index]))
        assert [not np.array_equal(a, b) for a, b in zip(found, source, strict=True)] == [index >= depth] * 4
    if kept.cached:
        with pytest.raises(UserError, match="kept augmented"):
            trial.scores(state, kept, "train")


def test_images_of_another_size_are_taken_where_they_fit() -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 10, 10), np.uint8)
    data = fteng.make_dataset(images, np.arange(30) % 2)
    plan = fteng.prefix_plan(["first"], 1)
    assert fteng.Trial(*fteng.from_flax(sole(conv()), image_size=8, mean=0, std=255), data, plan).entry.pooled
    flat = fteng.from_flax(sole(lambda x: x.reshape(len(x), -1)), image_size=8, mean=0, std=255)
    with pytest.raises(UserError, match="images of 10 pixels do not run through a network made for 8; resize them to 8"):
        fteng.Trial(*flat, data, plan)


def test_layers_reached_twice_and_through_transforms_are_under_the_same_hand() -> None:
    class Twice(nnx.Module):
        def __init__(self) -> None:
            self.norm = nnx.BatchNorm(3, rngs=RNGS)
            self.again = self.norm

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.again(nnx.remat(lambda norm, x: norm(x))(self.norm, x))

    backbone, weights = fteng.from_flax(sole(Twice()), image_size=8, mean=0, std=255)
    assert weights.params[0] == {"body": {"again": weights.params[0]["body"]["again"]}}
    x = jnp.asarray(np.random.default_rng(0).normal(5, 3, (4, 8, 8, 3)), jnp.float32)
    y, _ = backbone.apply(weights.params, weights.stats, x, modes=BatchNormMode.BATCH)
    np.testing.assert_allclose(y.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(backbone.apply(weights.params, weights.stats, x)[0], x, rtol=1e-4)


def sole(body: Any) -> dict[str, Any]:
    return {"first": body}


class Keeps(nnx.Module):
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


class MyNorm(nnx.BatchNorm):
    pass


class Masked(nnx.Module):
    def __init__(self) -> None:
        self.norm = nnx.BatchNorm(3, rngs=RNGS)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(x, mask=jnp.ones(x.shape))


# Made where they are tested: to make a layer compiles, which every worker would do.
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (dict, "got no stage"),
        (lambda: sole(lambda x: nnx.relu(conv()(x))), "'first' is a function that holds jax arrays"),
        (lambda: sole(conv().__call__), "holds jax arrays"),
        (
            lambda: {"one": conv(), "two": nnx.Sequential(nnx.Conv(4, 3, (1, 1), rngs=RNGS), conv())},
            "'one' and 'two' share parameters",
        ),
        (lambda: sole(Keeps(nnx.Rngs(0))), "'first' holds a Rng"),
        (lambda: sole(Keeps(nnx.data(jnp.ones(3)))), "'value'"),
        (lambda: sole(Keeps(nnx.BatchStat(jnp.ones(3)))), "holds a BatchStat at 'value'"),
        (lambda: sole(Keeps(nnx.Param(jnp.ones(3, jnp.bfloat16)))), "value is bfloat16, allowed: float32"),
        (lambda: sole(MyNorm(3, rngs=RNGS)), "a MyNorm of its own making"),
        (lambda: sole(nnx.BatchNorm(8, axis=1, rngs=RNGS)), "over axis 1"),
        (lambda: sole(Masked()), "with a mask"),
        (lambda: sole(nnx.Dropout(0.1, broadcast_dims=(1,), rngs=RNGS)), "broadcast_dims"),
        (lambda: sole(nnx.Linear(4, 4, rngs=RNGS)), r"'first' does not run on \(2, 8, 8, 3\)"),
        (lambda: sole(linen.Dense(3)), "'first' does not run on"),
        (lambda: sole(lambda x: (x, x)), "allowed: one array of floats"),
        (lambda: sole(lambda x: x.mean()), "allowed: one array of floats"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(make: Callable[[], dict[str, Any]], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        fteng.from_flax(make(), image_size=8, mean=0, std=255)
    assert "\n" not in str(raised.value)


def test_other_wrong_arguments_are_refused(small: Small) -> None:
    trial, shift = partial(small.trial, 1), fteng.TrainConfig(augment=("shift",))
    other = fteng.prefix_plan(["flat", "norm"], 1)
    wrong = (
        (lambda: fteng.from_flax(sole(conv()), image_size=8, mean=(1, 2), std=1), "mean: got"),
        (lambda: fteng.from_flax(sole(conv()), image_size=8, mean=0, std=0), "std: got 0"),
        (lambda: fteng.to_flax(sole(conv()), [{}, {}], [{}, {}]), "2 params"),
        (lambda: fteng.Trial(*small, other), "plan: got stages flat, norm"),
        (lambda: fteng.Trial(*small, fteng.prefix_plan([], 0)), "plan: got stages"),
        (lambda: trial(head={"kernel": np.ones((3, 10)), "bias": np.ones(10)}), "head: got"),
        (lambda: trial(batch_norm="adapt"), "batch_norm: got 'adapt'"),
        (lambda: trial(learning_rate=0.0), "learning_rate"),
        (lambda: trial(recipe=fteng.TrainConfig(devices=2)), "on one device"),
        (lambda: trial(recipe=fteng.TrainConfig(optimizer="adam")), "train.optimizer"),
        (lambda: trial(recipe=shift).inputs(keep=True), "fresh views"),
        (lambda: trial().scores(trial().begin(), trial().inputs(keep=False), "dev"), "split: got 'dev'"),
    )
    for call, said in wrong:
        with pytest.raises(UserError, match=said):
            call()


def test_a_data_set_of_arrays_keeps_their_order_and_what_belongs_together() -> None:
    digits, labels = load_digits(return_X_y=True)
    images = (digits[:300].reshape(-1, 8, 8) * 15).astype(np.uint8)
    writers = np.arange(300) // 3
    data = fteng.make_dataset(images, labels[:300], groups=writers)
    np.testing.assert_array_equal(data.images, np.repeat(images[..., None], 3, axis=-1))
    np.testing.assert_array_equal(data.labels, labels[:300])
    assert data.classes == tuple("0123456789")
    parts = [set(writers[rows]) for rows in data.splits.values()]
    assert not set.intersection(*parts[:2]) | set.intersection(*parts[1:]) | set.intersection(parts[0], parts[2])
    given = np.array(["train", "dev", "test"])[np.arange(300) % 3]
    data = fteng.make_dataset(images, labels[:300], splits=given.tolist())
    assert [rows[0] for rows in data.splits.values()] == [0, 1, 2]
    many = fteng.make_dataset(np.repeat(images[:60], 2, axis=0), np.repeat(np.arange(12), 10))
    assert many.classes[:3] == ("00", "01", "02")
    np.testing.assert_array_equal(many.labels, np.repeat(np.arange(12), 10))


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 8, 8)), np.arange(4), "images: got float64"),
        (np.zeros((4, 8, 9), np.uint8), np.arange(4), "images: got"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.arange(4), "images: got"),
        (np.zeros((4, 8, 8), np.uint8), np.arange(3), "labels: got 3 for 4"),
        (np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 2, 4]), "from 0 to 4"),
        (np.zeros((4, 8, 8), np.uint8), np.array([0.0, 1.0, 0.0, 1.0]), "labels: got float64"),
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4, int), "two or more"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(images: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fteng.make_dataset(images, labels)


def test_the_import_is_light_and_says_what_there_is() -> None:
    code = "import sys, fteng; assert set(fteng.__all__) <= set(dir(fteng)); fteng.UserError; fteng.prefix_plan; fteng.TrainConfig"
    code += "; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert all(getattr(fteng, name).__doc__ for name in fteng.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fteng.nothing
