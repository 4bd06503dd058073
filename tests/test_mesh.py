"""One step is the same on any number of devices to rounding, and what they tell each other is the gradient of what trains."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from fteng.config import Config, TrainConfig
from fteng.errors import UserError
from fteng.freeze.plan import prefix_plan
from fteng.mesh import ALONE, make_mesh
from fteng.paths import read_json
from fteng.results import read_predictions
from fteng.sweep.lanes import lanes_of
from fteng.trials import TrialSpec, Variant, study_context
from tests.study_runs import QUICK, ROOT, command, run

# Of the largest change that three steps made. float32 has 6e-8 of a number; what moves little is measured against what moves much.
SINGLE, DOUBLE = 3e-5, 3e-11


def spread(script: str, *, wide: bool = False) -> list[dict]:
    how = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_ENABLE_X64": str(int(wide))}
    words = [sys.executable, "-m", f"tests.{script}"]
    ended = subprocess.run(words, cwd=ROOT, env=os.environ | how, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def test_one_device_is_no_mesh_and_nothing_is_moved():
    assert make_mesh(1, 32) is make_mesh(0, 7) is ALONE
    values = jax.numpy.arange(3.0)
    assert ALONE.whole(values) is ALONE.frozen(values) is ALONE.split(values) is ALONE.join(values) is values
    like = jax.ShapeDtypeStruct((4, 2), np.float32)
    assert ALONE.like_batch(like) is ALONE.like_whole(like) is ALONE.like_frozen(like) is like
    items = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(ALONE.take(items, np.array([4, 0, 4])), items[[4, 0, 4]])


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"train.devices: got 2, but there are 1; allowed: 0 \(all of them\) or 1 to 1"):
        make_mesh(2, 32)


@pytest.mark.parametrize(
    ("lanes", "devices", "processes", "match"),
    [
        (2, 0, 1, r"train.lanes: got 2, but devices here: 1; allowed: 1 to 1"),
        (2, 4, 1, r"train.lanes: got 2 of 4 devices each, but devices here: 1; allowed: 1 to 1"),
        (2, 0, 2, r"train.lanes: got 2 with 2 processes, whose devices share each trial; allowed: 1; .* launch.sweep"),
    ],
)
def test_lanes_that_there_are_not(lanes, devices, processes, match, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(jax, "devices", lambda: [SimpleNamespace(process_index=index) for index in range(processes)])
    with pytest.raises(UserError, match=match):
        make_mesh(devices, 32, lanes=lanes)


LANES = """
import jax, numpy as np
from fteng.mesh import make_mesh
mesh = make_mesh(2, 8, lanes=2)
assert (mesh.devices, mesh.lanes, mesh.all_devices) == (2, 2, 4)
rows = np.arange(16.0, dtype=np.float32).reshape(8, 2)
everywhere = mesh.batch(rows), mesh.whole(rows), mesh.whole(jax.random.key(7))
for index, ids in enumerate(([0, 1], [2, 3])):
    lane = mesh.lane(index)
    split, whole, key = lane.seen(everywhere)
    for seen in (split, whole):
        assert sorted(device.id for device in seen.sharding.device_set) == ids
        np.testing.assert_array_equal(np.asarray(seen), rows)
    assert [shard.data.shape for shard in split.addressable_shards] == [(4, 2)] * 2
    assert jax.random.key_data(key).tolist() == jax.random.key_data(jax.random.key(7)).tolist()
    assert sorted(device.id for device in lane.whole(rows).sharding.device_set) == ids
    assert lane.seen(split) is split
"""


@pytest.mark.slow
def test_each_lane_has_devices_of_its_own():
    how = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    ended = subprocess.run(
        [sys.executable, "-c", LANES], cwd=ROOT, env=os.environ | how, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr


def test_trials_that_share_their_batches_take_the_lanes_in_turn():
    plans = [prefix_plan(("a", "b"), depth) for depth in (2, 1)]
    specs = [TrialSpec(*ways, {}) for ways in itertools.product(plans, [Variant()], (0.1, 0.2, 0.3), (0, 1))]
    lanes = lanes_of(specs, TrainConfig(), 2)
    assert lanes.keys() == {spec.id for spec in specs}
    for plan in plans:
        for seed in (0, 1):
            assert [lanes[spec.id] for spec in specs if (spec.plan, spec.seed) == (plan, seed)] == [0, 1, 0]
    assert set(lanes_of(specs, TrainConfig(), 1).values()) == {0}


def test_where_a_trial_is_computed_is_not_what_it_is():
    def context(**recipe: object) -> dict:
        config = Config()
        config.train = dataclasses.replace(config.train, **recipe)
        return study_context(config, weights_digest="w", data_digest="d", preprocess={})

    assert context(devices=8, lanes=2, shard_frozen=True) == context()
    assert context(batch_size=16) != context()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_step_on_1_2_4_and_8_devices(precision):
    rows = spread("spread_step", wide=precision == "double")
    assert {row["devices"] for row in rows} == {1, 2, 4, 8}
    assert {row["case"] for row in rows} == {"frozen prefix", "everything", "everything, batch norm follows", "mixup"}
    for row in rows:
        assert row["apart"] < (DOUBLE if precision == "double" else SINGLE), row
        assert row["donated"], row
        assert 0.95 < row["flops"] < 1.05, row
        if row["devices"] == 1:
            assert row["collectives"] == {}, row
    # Strong scaling: one sum of the gradients (and the loss), whatever the number of devices; nothing for what is frozen.
    width = 8 if precision == "double" else 4
    for row in rows:
        if row["devices"] > 1 and row["case"] in ("frozen prefix", "everything") and not row["sharded"]:
            assert row["collectives"] == {"all-reduce": row["trainable"] + width}, row
        if row["case"] == "everything, batch norm follows" and row["devices"] > 1:
            assert list(row["collectives"]) == ["all-reduce"], row
            assert row["trainable"] < row["collectives"]["all-reduce"] < 1.02 * row["trainable"], row
    # By choice each device holds a part of what is frozen, and gathers it.
    (parted,) = [row for row in rows if row["sharded"]]
    assert parted["frozen"] / 8 <= parted["frozen_here"] < parted["frozen"] / 7
    assert parted["collectives"]["all-gather"] > 0


@pytest.mark.slow
def test_loops_over_images_stay_on_their_device_and_sums_outside_of_them():
    rows = {row["case"]: row for row in spread("spread_loops")}
    assert rows.keys() == {"depthwise", "patches in groups", "winograd in groups", "survey"}
    for row in rows.values():
        assert row["called"] == [], row
        assert row["apart"] < 1e-5, row
        assert row["entry"] == (["all-gather", "all-reduce"] if row["case"] == "survey" else ["all-reduce"]), row


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--dry_run",)])
def test_a_batch_that_devices_do_not_divide_is_one_line(tmp_path, flags):
    ended = run(tmp_path / "study", "--config.train.devices=0", *flags, XLA_FLAGS="--xla_force_host_platform_device_count=3")
    assert ended.returncode == 2
    assert "a step of 32 images cannot be shared by 3 devices" in ended.stderr
    assert "such as 30 or 33, or train.devices to 1, 2" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_on_four_devices_is_that_on_one(tmp_path):
    """To rounding, and choices are equal. By SGD: AdamW divides rounding by rounding, after which a trial that tunes goes its own
    way, by up to 7.5e-4 of the largest logit where a head alone differed by 1.7e-5."""
    alone, sgd = tmp_path / "alone", "--config.train.optimizer=sgd"
    assert run(alone, sgd).returncode == 0
    emulated = "--xla_force_host_platform_device_count=4"
    ended = run(tmp_path / "study", sgd, "--config.train.devices=4", "--config.train.shard_frozen=true", XLA_FLAGS=emulated)
    assert ended.returncode == 0, ended.stderr
    assert "on each of 4 devices" in ended.stderr
    for folder in (alone / "trials").iterdir():
        other = tmp_path / "study" / "trials" / folder.name
        first, second = (read_predictions(where / "predictions.parquet") for where in (folder, other))
        for split, answers in first.items():
            apart = np.abs(answers.logits - second[split].logits).max()
            assert apart < 1e-4 * np.abs(answers.logits).max()
        audit = {check["check"]: check["passed"] for check in read_json(other / "result.json")["audit"]}
        assert audit == {check["check"]: check["passed"] for check in read_json(folder / "result.json")["audit"]}
    summaries = [read_json(where / "report" / "summary.json") for where in (alone, tmp_path / "study")]
    chosen = [(one["recommendation"]["freeze_depth"], one["recommendation"]["tap"]) for one in summaries]
    assert chosen[0] == chosen[1]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--config.sweep.search=race",), ()])
@pytest.mark.usefixtures("all_cores")
def test_trials_side_by_side_are_those_in_turn(tmp_path, flags):
    """To the bit, where each lane has one device."""
    two = (*QUICK, "--config.sweep.freeze_depths=16,all", "--config.sweep.learning_rates=1e-3,3e-4", "--config.sweep.seeds=0")
    alone = run(tmp_path / "alone", *flags, base=two)
    lanes, emulated = "--config.train.lanes=2", "--xla_force_host_platform_device_count=2"
    if flags:
        beside = run(tmp_path / "beside", *flags, lanes, base=two, XLA_FLAGS=emulated)
    else:
        # Stopped on two lanes, it goes on on one device.
        arguments = command(tmp_path / "beside", lanes, base=two)
        arguments[2] = "tests.disturbed"
        stopped = subprocess.run(
            arguments, cwd=ROOT, env=os.environ | {"XLA_FLAGS": emulated, "DISTURB": "terminate"}, capture_output=True, text=True
        )
        assert stopped.returncode == 143, stopped.stderr
        beside = run(tmp_path / "beside", base=two)
    assert (alone.returncode, beside.returncode) == (0, 0), alone.stderr + beside.stderr
    for folder in (tmp_path / "alone" / "trials").iterdir():
        other = tmp_path / "beside" / "trials" / folder.name
        results = [read_json(where / "result.json") for where in (folder, other)]
        assert results[0]["status"] == results[1]["status"]
        first, second = (read_predictions(where / "predictions.parquet") for where in (folder, other))
        for split, answers in first.items():
            np.testing.assert_array_equal(answers.logits, second[split].logits)
