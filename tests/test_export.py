"""The model a study ends with, and the file a user takes home, are the network that was judged."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

from fteng import export
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.data.prepare import prepare
from fteng.errors import UserError
from fteng.model import read_model
from fteng.paths import StudyPaths
from fteng.results import read_predictions
from fteng.train.evaluate import make_forward


@pytest.fixture(scope="module")
def tuned(finished):
    workdir, _ = finished
    return workdir, next(path.name for path in (workdir / "trials").iterdir() if path.name.startswith("depth16"))


@pytest.mark.parametrize("which", ["trial", "probe"])
def test_the_model_answers_as_the_trial_did(tuned, which):
    workdir, trial = tuned
    model = read_model(workdir, trial if which == "trial" else "probe:block9")
    where = StudyPaths(workdir).trial(trial).predictions if which == "trial" else workdir / "probes" / "block9.parquet"
    wanted = read_predictions(where)["test"]
    dataset = prepare(model.config.data, model.backbone.preprocess.interpolation, lambda *_: None)
    images = jnp.asarray(dataset.images[dataset.splits["test"]])
    assert dataset.ids[dataset.splits["test"]].tolist() == wanted.ids.tolist()
    logits = make_forward(model.backbone, len(model.plan.stages))(model.parameters, model.stats, images)
    np.testing.assert_allclose(logits, wanted.logits, rtol=1e-3, atol=1e-3 * np.abs(wanted.logits).max())
    assert model.classes == tuple("0123456789")


def test_the_file_is_the_network_bit_for_bit_and_says_what_it_is(tuned, tmp_path):
    workdir, trial = tuned
    out = tmp_path / "tuned.safetensors"
    (said,) = export.export(workdir, out, trial)
    assert trial in said
    model = read_model(workdir, trial)
    backbone, weights = load(BackboneConfig("efficientnet_lite0", str(out)))
    jax.tree.map(np.testing.assert_array_equal, weights.params, model.parameters.stages)
    jax.tree.map(np.testing.assert_array_equal, weights.stats, model.stats)
    jax.tree.map(np.testing.assert_array_equal, weights.source_head, model.parameters.head)
    assert backbone.preprocess == model.backbone.preprocess._replace(image_size=32, crop=1.0)
    with safetensors.safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == list("0123456789")
    assert metadata["trial"] == trial
    pretrained = load(BackboneConfig("efficientnet_lite0", "package"))[1]
    jax.tree.map(np.testing.assert_array_equal, weights.params[:16], pretrained.params[:16])
    assert not np.array_equal(weights.params[16]["project"]["kernel"], pretrained.params[16]["project"]["kernel"])


def test_a_truncated_network_says_what_is_not_there(tuned, tmp_path):
    workdir, _ = tuned
    out = tmp_path / "short.safetensors"
    assert export.main([str(workdir), "--trial=probe:block9", f"--out={out}"]) == 0
    backbone, weights = load(BackboneConfig("efficientnet_lite0", str(out), last_stage="block9"))
    assert backbone.stages[-1] == "block9"
    wanted = read_model(workdir, "probe:block9").parameters.head
    jax.tree.map(np.testing.assert_array_equal, weights.source_head, wanted)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trial=nonsense"], "no trial of .* is called 'nonsense'; allowed: probe:STAGE, or one of depth"),
        (["--trial=depth"], "2 trials of .* is called 'depth'"),
        (["--trial=probe:block99"], "no stage is called 'block99'; allowed: stem, "),
        (["--naming=keras"], "got 'keras', allowed for efficientnet_lite0: "),
        (["--out=weights.pth"], r"got weights.pth, allowed: a name that ends in \.safetensors"),
        (["--out=/proc/none/w.safetensors"], "cannot write /proc/none"),
    ],
)
def test_each_mistake_is_one_line(tuned, tmp_path, capsys, flags, said):
    workdir, _ = tuned
    assert export.main([str(workdir), f"--out={tmp_path / 'w.safetensors'}", *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(said, told), told


def test_no_study_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"holds no study\.json"):
        read_model(tmp_path)
