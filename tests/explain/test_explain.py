"""Maps that add up to the logit, changes that are exactly none where nothing was tuned, and a file that knows what it is of."""

import base64
import io
import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from fteng import paths, summary
from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import Conv, Dense
from fteng.backbones.naming import Naming
from fteng.backbones.network import Network, Stage, make_network
from fteng.backbones.vit import class_and_mean
from fteng.backbones.weights import Weights
from fteng.config import Config
from fteng.errors import UserError
from fteng.explain import explain
from fteng.explain.changes import alignment, change, relative_change
from fteng.explain.look import all_stages, make_look
from fteng.explain.saliency import evidence, explain_mistakes, method_of
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import prefix_plan
from fteng.model import Model, read_model
from fteng.progress import make_reporter
from fteng.summary.errors import explainable
from tests.probe.tiny_network import SIZE, images, tiny_network, tiny_weights

CLASSES = 3


class _Convolved(nnx.Module):
    def __init__(self, rng: np.random.Generator):
        self.conv = Conv(3, 4, size=3, padding=1, bias=True, gain=1.0, rng=rng)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        return self.conv(x)


class _Squeezed(nnx.Module):
    """What fully connected stages are to a network: one place that sees all others."""

    def __init__(self, rng: np.random.Generator):
        self.fc = Dense(4 * SIZE * SIZE, 5, rng=rng)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        return jax.nn.relu(self.fc(x.reshape(len(x), 1, 1, -1)))


class _Patches(nnx.Module):
    def __init__(self, rng: np.random.Generator):
        self.conv = Conv(3, 4, size=2, stride=2, bias=True, gain=1.0, rng=rng)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        tokens = self.conv(x).reshape(len(x), -1, 4)
        return jnp.concatenate([jnp.ones((len(x), 1, 4)), tokens], axis=1)


class _Mixed(nnx.Module):
    """Linear, and the class token reads all patches: gradient times input is then exact."""

    def __init__(self, rng: np.random.Generator):
        self.fc = Dense(4, 4, rng=rng)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        return self.fc(x).at[:, 0].add(x[:, 1:].mean(axis=1))


def other_network(stages: list[Stage], **options: Any) -> Network:
    preprocess = Preprocess((120.0, 110.0, 100.0), (60.0, 61.0, 62.0), "RGB", "bilinear", SIZE)
    return make_network("other", stages, groups={}, namings=[Naming("ours", {}, frozenset(), preprocess)], **options)


def as_model(network: Network, weights: Weights, features: int, *, depth: int = 0, end: int = 2) -> Model:
    rng, config = np.random.default_rng(3), Config()
    config.data.image_size = SIZE
    head = {"kernel": jnp.asarray(rng.normal(size=(features, CLASSES)), jnp.float32), "bias": jnp.arange(3.0)}
    plan = prefix_plan(network.backbone.stages[:end], depth)
    parameters = Parameters(weights.params[:end], head)
    return Model(config, network.backbone, plan, parameters, weights.stats[:end], weights, ("a", "b", "c"), "trial")


def logits_of(model: Model, pictures: np.ndarray) -> np.ndarray:
    backbone, end = model.backbone, len(model.plan.stages)
    y, _ = backbone.apply(model.parameters.stages, model.stats, backbone.preprocess.apply(jnp.asarray(pictures)), stop=end)
    return np.asarray(backbone.pool(y) @ model.parameters.head["kernel"])


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def convolutional() -> Model:
    network = tiny_network()
    return as_model(network, tiny_weights(network), 6)


def test_places_add_up_to_the_logit(convolutional: Model) -> None:
    look, pictures = make_look(convolutional), images(40)
    assert (look.stage, look.tokens, method_of(convolutional, look)) == (1, False, "cam")
    seen = look.outputs(*all_stages(convolutional), pictures, np.arange(40))
    classes = np.stack([np.arange(40) % 3, (np.arange(40) + 1) % 3], axis=1)
    maps = evidence(convolutional, look, seen, classes)
    assert maps.shape == (40, 2, SIZE // 2, SIZE // 2)
    expected = np.take_along_axis(centred(logits_of(convolutional, pictures)), classes, axis=1)
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_a_map_is_of_the_last_stage_that_has_places() -> None:
    network = other_network([Stage("conv", 4, _Convolved), Stage("fc", 5, _Squeezed)])
    params, stats = network.initial(0)
    model = as_model(network, Weights(params, stats, None, "d" * 64, "ours"), 5)
    look = make_look(model)
    assert (look.stage, method_of(model, look)) == (0, "grad_cam")
    seen = look.outputs(*all_stages(model), images(4), np.arange(4))
    assert evidence(model, look, seen, np.zeros((4, 2), int)).shape == (4, 2, SIZE, SIZE)


def test_patches_of_tokens_add_up_but_for_the_class_token() -> None:
    network = other_network([Stage("embed", 8, _Patches), Stage("mix", 8, _Mixed)], pool=class_and_mean)
    params, stats = network.initial(0)
    model = as_model(network, Weights(params, stats, None, "d" * 64, "ours"), 8)
    look, pictures = make_look(model), images(5)
    assert (look.stage, look.tokens, method_of(model, look)) == (0, True, "gradient_input")
    seen = look.outputs(*all_stages(model), pictures, np.arange(5))
    maps = evidence(model, look, seen, np.tile([0, 2], (5, 1)))
    assert maps.shape == (5, 2, 4, 4)
    # The same network on patches of nothing: what is left is the class token and the biases.
    silent, _ = model.backbone.apply(params, stats, jnp.asarray(seen).at[:, 1:].set(0), start=1, stop=2)
    rest = np.asarray(class_and_mean(silent) @ model.parameters.head["kernel"])
    expected = centred(logits_of(model, pictures) - rest)[:, [0, 2]]
    np.testing.assert_allclose(maps.sum(axis=(2, 3)), expected, rtol=1e-3, atol=1e-4)


def test_pictures_are_small_and_one_scale_serves_both(convolutional: Model) -> None:
    look, pictures = make_look(convolutional), images(6)
    found = explain_mistakes(convolutional, look, pictures, np.array([4, 1]), [0, 1], [1, 2])
    assert (found["method"], found["stage"], found["places"]) == ("cam", "plain", [4, 4])
    assert len(found["mistakes"]) == 2
    for row, shown in zip((4, 1), found["mistakes"], strict=True):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["jpeg"]))), float)
        assert np.abs(picture - pictures[row]).mean() < 20
        strongest = []
        for side in ("answer", "truth"):
            if shown[side]:
                overlay = Image.open(io.BytesIO(base64.b64decode(shown[side])))
                assert (overlay.mode, overlay.size) == ("RGBA", (32, 32))
                strongest.append(np.asarray(overlay)[..., 3].max())
        # Smoothing between places takes a little off the strongest.
        assert 120 < max(strongest) <= 160


def test_what_did_not_move_has_changed_by_exactly_nothing(convolutional: Model) -> None:
    look, pictures, rows = make_look(convolutional), images(40), np.arange(40)
    before = look.features(convolutional.source.params, convolutional.source.stats, pictures, rows)
    moved = jax.tree.map(lambda leaf: leaf * 1.1, convolutional.source.params[1])
    parameters = convolutional.parameters._replace(stages=(convolutional.parameters.stages[0], moved))
    plan = prefix_plan(convolutional.backbone.stages, 1)
    first, second = change(convolutional._replace(parameters=parameters, plan=plan), look, before, pictures, rows)
    assert first == {"stage": "normed", "trained": False, "relative": 0.0, "cka": 1.0}
    assert second["trained"]
    assert second["relative"] == pytest.approx(0.1, rel=1e-5)
    # The outputs are scaled, which likeness does not mind.
    assert second["cka"] == pytest.approx(1.0, abs=1e-5)


def test_a_shorter_tap_is_compared_up_to_itself() -> None:
    network = tiny_network()
    model = as_model(network, tiny_weights(network), 4, end=1)
    look = make_look(model)
    assert look.stage == 0
    assert [len(part) for part in all_stages(model)] == [2, 2]
    before = look.features(model.source.params, model.source.stats, images(8), np.arange(8))
    assert [row["stage"] for row in change(model, look, before, images(8), np.arange(8))] == ["normed"]


def test_likeness_is_undefined_rather_than_wrong() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 50)).astype(np.float32)
    turn = np.linalg.qr(rng.normal(size=(50, 50)))[0].astype(np.float32)
    assert alignment(values, values) == 1
    assert alignment(values, 3 * values @ turn) == pytest.approx(1, abs=1e-4)
    unrelated = alignment(values, rng.normal(size=(20, 50)).astype(np.float32))
    # More channels than images would make plain CKA high by chance.
    assert unrelated is not None
    assert unrelated < 0.3
    assert alignment(values, np.full_like(values, np.nan)) is None
    assert alignment(values, np.ones_like(values)) is None
    assert alignment(values[:3], 2 * values[:3]) is None
    assert relative_change({"w": np.zeros(3)}, {"w": np.ones(3)}) is None
    assert relative_change({}, {}) is None


def test_a_study_ends_with_what_its_networks_say(finished: Any, tmp_path: Path) -> None:
    workdir = shutil.copytree(finished[0], tmp_path / "work")
    files = paths.StudyPaths(workdir)
    kept = json.loads((workdir / "explained.json").read_text())
    collected = paths.read_json(files.report / "summary.json")
    assert kept["of"] == collected["explainable"]
    assert collected["explained"]["reason"] == ""
    assert len(kept["saliency"]["mistakes"]) == len(collected["mistakes"]["rows"])
    assert [row["trial"] for row in kept["changes"]["trials"]] == kept["of"]["trials"]
    for row in kept["changes"]["trials"]:
        frozen = [stage for stage in row["stages"] if not stage["trained"]]
        assert len(frozen) >= 16
        assert {(stage["relative"], stage["cka"]) for stage in frozen} == {(0.0, 1.0)}
    tuned = [stage for row in kept["changes"]["trials"] for stage in row["stages"] if stage["trained"]]
    assert tuned
    assert all(stage["relative"] > 0 for stage in tuned)
    # A page of all this is not made again; one without it is.
    assert summary.current(files) == collected
    (workdir / "explained.json").rename(workdir / "aside")
    assert summary.current(files) is None
    (workdir / "aside").rename(workdir / "explained.json")
    # It is there: nothing is done, least of all a network read.
    shutil.rmtree(workdir / "trials")
    explain(files, collected, make_reporter(sys.stderr))
    assert json.loads((workdir / "explained.json").read_text()) == kept


def test_a_file_of_another_recommendation_is_not_shown(tmp_path: Path) -> None:
    files, wanted = paths.StudyPaths(tmp_path), {"name": "trial", "trials": []}
    assert summary.explained(files, None)["reason"].startswith("the networks were not looked at")
    assert summary.explained(files, wanted)["reason"].startswith("the networks were not looked at")
    kept = tmp_path / "explained.json"
    kept.write_text(json.dumps({"of": wanted, "saliency": None, "changes": None}))
    assert summary.explained(files, wanted) == {"saliency": None, "changes": None, "reason": ""}
    assert "before the recommendation became this one" in summary.explained(files, wanted | {"name": "probe:b"})["reason"]
    for damaged in ("{", "[]", "{}", json.dumps({"of": wanted})):
        kept.write_text(damaged)
        assert "damaged" in summary.explained(files, wanted)["reason"]


@pytest.mark.parametrize("damaged", ["{", "[]", "{}", "null", '{"run": []}'])
def test_a_damaged_page_is_made_anew_and_a_damaged_record_is_one_line(finished: Any, tmp_path: Path, damaged: str) -> None:
    workdir = shutil.copytree(finished[0], tmp_path / "work")
    files = paths.StudyPaths(workdir)
    (files.report / "summary.json").write_text(damaged)
    assert summary.current(files) is None
    with pytest.raises(UserError, match=r"summary\.json is .*make it anew: python -m fteng\.report"):
        read_model(workdir)
    trial = next(path for path in files.trials.iterdir())
    for broken in (files.trial(trial.name).result, files.probes / "result.json", files.study):
        broken.write_text(damaged)
        with pytest.raises(UserError, match=rf"{broken.name} is (damaged|not JSON)") as raised:
            summary.collect(workdir)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("best", [0, 7, 11])
def test_compared_plans_are_spread_over_the_depths(best: int) -> None:
    rows = [{"trials": [f"t{depth}"], "variant": {}, "trainable_stages": ["s"] * depth, "tap": "x"} for depth in range(12)]
    record = {"dataset": {"classes": ["a"], "digest": ""}, "weights": {"sha256": ""}, "config": {"judge": {"pictures": True}}}
    names = explainable(record, rows, rows[best], {"rows": []})["trials"]
    assert len(set(names)) == len(names) == 8
    assert names[0] == f"t{best}"
    assert {"t0", "t11"} <= set(names[:3])
    depths = sorted(int(name[1:]) for name in names)
    assert max(later - one for one, later in itertools.pairwise(depths)) <= 3
    few = explainable(record, rows[:3], {"trials": [], "tap": "x"}, {"rows": []})
    assert (few["name"], set(few["trials"])) == ("probe:x", {"t0", "t1", "t2"})


def test_what_is_gone_is_said_and_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = paths.StudyPaths(tmp_path)
    explain(files, {"explainable": None}, make_reporter(sys.stderr))
    explain(files, {"explainable": {"name": "trial", "trials": []}}, make_reporter(sys.stderr))
    assert not (tmp_path / "explained.json").exists()
    assert "the page will not show where the network looked: " in capsys.readouterr().err
