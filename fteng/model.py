"""The model a study ends with: the recommended way, or a named trial or probe, as one network with its head."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fteng import named
from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import load
from fteng.backbones.weights import Weights
from fteng.config import Config
from fteng.config_check import from_dict
from fteng.data.prepare import Dataset, prepare
from fteng.errors import UserError
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan, stage_set_plan
from fteng.paths import StudyPaths
from fteng.record import read_study
from fteng.results import Predictions, read_predictions
from fteng.starts import Pretrained, read_start
from fteng.train.checkpoint import read_final
from fteng.train.shape import shape_of
from fteng.train.start import untrained
from fteng.train.step import initial_state, whole
from fteng.trials import Variant

Tree = Any


class Model(NamedTuple):
    """A network as it stands after a trial, or before any with the head of a probe.

    plan: its stages end with the tap; parameters, stats: of those stages, and the head; source: the weights it started from;
    name: of the trial, or `probe:STAGE`.
    """

    config: Config
    backbone: Backbone
    plan: FreezePlan
    parameters: Parameters
    stats: tuple[Tree, ...]
    source: Weights
    classes: tuple[str, ...]
    name: str


def read_model(workdir: Path, name: str = "") -> Model:
    """name: a trial's id, or `probe:STAGE`; empty for what the report recommends. Raises UserError."""
    study = StudyPaths(workdir)
    record = read_study(study, "config", "weights", "dataset", "trials")
    config = from_dict(record["config"])
    backbone, weights = load(config.backbone)
    if weights.digest != record["weights"]["sha256"]:
        raise UserError(
            f"{config.backbone.weights} is not the file of {workdir}'s study any more (sha256 differs); restore that file"
        )
    pretrained, name = Pretrained(config, backbone, weights), name or named.recommended(study)
    classes = tuple(record["dataset"]["classes"])
    if (tap := named.tap_of(name, backbone.stages)) is not None:
        plan = stage_set_plan(backbone.stages[: backbone.stages.index(tap) + 1], ())
        # Trials may start from zero; the probe itself does not.
        solved = dataclasses.replace(config, train=dataclasses.replace(config.train, head_init="probe"))
        heads = read_start("pretrained", [tap], pretrained._replace(config=solved), study).heads
        end = len(plan.stages)
        parameters = Parameters(weights.params[:end], heads[tap])
        return Model(config, backbone, plan, parameters, weights.stats[:end], weights, classes, name)
    return _trained(study, pretrained, _result(study, record, name), classes)


def study_images(workdir: Path, model: Model) -> Dataset:
    """The images of the study, as the model wants them. Raises UserError where they, or their split, are not what they were."""
    dataset = prepare(model.config.data, model.backbone.preprocess.resampling, lambda *_: None)
    if dataset.digest != read_study(StudyPaths(workdir), "dataset")["dataset"]["digest"]:
        raise UserError("the images of the study, or their split, are no longer what they were; put them back")
    return dataset


def stored_answers(workdir: Path, model: Model) -> dict[str, Predictions]:
    """What the study has on disk of this model: its answers to the images of val and test. Raises UserError."""
    study = StudyPaths(workdir)
    if named.tap_of(model.name, model.plan.stages) is not None:
        return read_predictions(study.probe(model.plan.tap))
    return read_predictions(study.trial(model.name).predictions)


def _trained(study: StudyPaths, pretrained: Pretrained, result: Mapping[str, Any], classes: tuple[str, ...]) -> Model:
    stages, tap = pretrained.backbone.stages, result["tap"]
    plan = stage_set_plan(stages[: stages.index(tap) + 1], result["trainable_stages"], result["leaves"])
    variant, recipe = Variant(**result["variant"]), pretrained.config.train
    start = read_start(variant.start, [tap], pretrained, study)
    state, frozen = initial_state(untrained(start, shape_of(plan, variant, recipe)), recipe)
    final = read_final(study.trial(result["id"]).final, {"trainable": state.trainable, "stats": state.stats})
    parameters, stats = whole(state._replace(**final), frozen)
    return Model(pretrained.config, pretrained.backbone, plan, parameters, stats, pretrained.weights, classes, result["id"])


def _result(study: StudyPaths, record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = named.find_id(name, [row["id"] for row in record["trials"]])
    where = study.trial(found)
    if not where.result.exists():
        raise UserError(f"trial {found} has not finished; run the study to its end")
    result = where.read_result("status", "note")
    if result["status"] != "done":
        raise UserError(f"trial {found} {result['status']} ({result['note']}); name another")
    return result
