"""Made-up studies of one textile on several networks, with answers to test images: what a page of many is tested with."""

import zlib
from typing import Any

import numpy as np

from fteng import paths
from fteng.report.compare_studies import Study
from fteng.results import Predictions
from tests.report.hostile_fixture import EVIL
from tests.report.report_fixture import make_summary

CLASSES = 3


def make_answers(skill: float, seed: int, *, images: int = 0, groups: int = 120) -> Predictions:
    """images: a seed of the test images; two of one seed answer the same ones. skill: how far the right class stands out."""
    of_images, of_model = np.random.default_rng(images), np.random.default_rng(seed)
    n = 2 * groups
    labels = of_images.integers(0, CLASSES, n)
    hard = of_images.normal(size=(n, CLASSES))
    logits = skill * np.eye(CLASSES)[labels] + 0.8 * hard + 0.6 * of_model.normal(size=(n, CLASSES))
    names = np.array([f"{images}/{index:04}.jpg" for index in range(n)])
    return Predictions(names, np.repeat([f"roll{index}" for index in range(groups)], 2), labels, logits.astype(np.float32))


def make_advice(rng: np.random.Generator) -> dict[str, Any]:
    """The part of `similarity` that a page of many reads."""
    lost = float(rng.uniform(0, 9))
    row = {"low": lost - 3, "high": lost + 3, "seconds_saved": 12.0, "reason": "", "measured": {"label": "first 12 stages frozen"}}
    nothing = {"regret": None, "low": None, "high": None, "seconds_saved": None, "reason": "it says nothing here", "measured": None}
    return {
        "metric": "balanced_accuracy",
        "profile": {"first_noticeable": "block2"},
        "grade": {
            "advice": [
                {"name": "ours", "label": "ours", "regret": lost / 2} | row,
                {"name": "folklore", "label": "the folklore", "regret": lost} | row,
                {"name": "last", "label": "the last stage"} | nothing,
            ]
        },
    }


def make_studies(count: int, trials: int = 24) -> list[Study]:
    """Every second one is tested on the same images as the one before it; trials: of each, as near as six depths allow."""
    studies = []
    for index in range(count):
        rng = np.random.default_rng(index)
        summary = make_summary(seeds=range(max(1, trials // 12)))
        summary["backbone"] = f"network{index}"
        summary["dataset"]["digest"] = paths.digest(index // 2)
        summary["run"]["config"]["data"]["split_seed"] = index // 2
        summary["similarity"] = make_advice(rng)
        for row in [*summary["depth_curve"], *summary["probes"]]:
            shift = float(rng.uniform(-0.06, 0.06))
            row["test"] = {name: {part: value + shift for part, value in found.items()} for name, found in row["test"].items()}
        answers = [make_answers(2.0 + 0.1 * index, 100 * index + seed, images=index // 2) for seed in range(2)]
        studies.append(Study(f"study{index}", f"../study{index}/report/index.html", summary, answers))
    return studies


def make_evil_studies() -> list[Study]:
    """Two studies in which every name from outside tries to be markup, a script or a template."""
    studies = []
    for study in make_studies(2):
        summary = study.summary | {"backbone": EVIL, "stages": [name + EVIL for name in study.summary["stages"]]}
        summary["dataset"]["name"] = EVIL
        for row in [*summary["depth_curve"], *summary["profile"], *summary["probes"], *summary["trials"]]:
            for name in {"tap", "stage", "label"} & set(row):
                row[name] += EVIL
        summary["run"] |= {"command": EVIL, "device": EVIL, "git": EVIL}
        summary["run"]["config"]["data"]["path"] = EVIL + str(zlib.crc32(study.name.encode()))
        advice = summary["similarity"]["grade"]["advice"][1]
        advice |= {"label": EVIL, "measured": {"label": EVIL}}
        studies.append(study._replace(name=study.name + EVIL, link="../" + EVIL, summary=summary))
    return studies
