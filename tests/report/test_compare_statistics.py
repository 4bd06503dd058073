"""Models of different studies against each other."""

import zlib

import numpy as np
import pytest

from fteng.analysis.between import Answered, every_couple
from fteng.analysis.bootstrap import group_weights
from fteng.analysis.compare import holm
from tests.analysis.paired import paired
from tests.report.compare_fixture import make_answers

NAMES = ("one", "two", "three")
METRIC = "balanced_accuracy"


def model(skill: float, seed: int, images: int, *, seeds: int = 2, groups: int = 120) -> Answered:
    answers = [make_answers(skill, 10 * seed + each, images=images, groups=groups) for each in range(seeds)]
    return Answered(answers, f"images {images}", NAMES)


def test_the_same_images_are_compared_in_pairs():
    one, other = model(2.2, 1, 0), model(1.8, 2, 0)
    (row,) = every_couple([one, other], METRIC, 1000, 0.95)
    weights = group_weights(one.seeds[0].groups, 1000, zlib.crc32(b"images 0"))
    expected = paired(one.seeds, other.seeds, METRIC, weights, 0.95)
    assert row["how"] == "paired"
    assert [row[name] for name in ("difference", "low", "high", "p")] == pytest.approx(list(expected))


def test_pairing_tells_more_than_two_samples_do():
    together = every_couple([model(2.2, 1, 0), model(1.8, 2, 0)], METRIC, 1000, 0.95)[0]
    apart = every_couple([model(2.2, 1, 0), model(1.8, 2, 0)._replace(images="others")], METRIC, 1000, 0.95)[0]
    assert apart["how"] == "unpaired"
    assert apart["difference"] == pytest.approx(together["difference"])
    assert together["high"] - together["low"] < 0.9 * (apart["high"] - apart["low"])


def test_two_samples_vary_as_the_sum_of_both():
    one, other = model(2.2, 1, 0, seeds=1), model(2.2, 2, 1, seeds=1)
    (row,) = every_couple([one, other], METRIC, 4000, 0.95)
    alone = []
    for each in (one, other):
        # Against a model that is always wrong nothing but this model's own score varies.
        answers = each.seeds[0]
        never = answers._replace(logits=np.eye(3, dtype=np.float32)[(answers.labels + 1) % 3])
        (found,) = every_couple([each, each._replace(seeds=[never])], METRIC, 4000, 0.95)
        alone.append(found["high"] - found["low"])
    assert row["high"] - row["low"] == pytest.approx(np.hypot(*alone), rel=0.06)


@pytest.mark.slow
def test_no_more_false_alarms_than_promised():
    """In 300 null pairs of other images, 5 % promised: more than 26 would come in 0.5 % of such simulations."""
    draws = [every_couple([model(2.0, 2 * k + 1, 2 * k), model(2.0, 2 * k + 2, 2 * k + 1)], METRIC, 200, 0.95) for k in range(300)]
    assert sum(row["p"] < 0.05 for (row,) in draws) <= 26


def test_other_classes_and_missing_answers_are_not_compared():
    models = [model(2.2, 1, 0), model(2.0, 2, 0)._replace(classes=("a", "b", "c")), Answered([], "images 0", NAMES)]
    rows = every_couple(models, METRIC, 200, 0.95)
    assert [row["how"] for row in rows] == ["other classes", "no score", "no score"]
    assert {row[name] for row in rows for name in ("difference", "low", "high", "p", "p_holm")} == {None}


def test_p_is_corrected_over_the_pairs_that_were_tested():
    models = [model(2.6, 1, 0), model(2.0, 2, 0), model(1.6, 3, 1), model(2.0, 4, 1)._replace(classes=("a", "b", "c"))]
    rows = every_couple(models, METRIC, 500, 0.95)
    tested = [row for row in rows if row["how"] != "other classes"]
    assert len(tested) == 3
    assert [row["p_holm"] for row in tested] == pytest.approx(holm([row["p"] for row in tested]))


def test_one_group_tells_nothing():
    (row,) = every_couple([model(2.2, 1, 0, groups=1), model(2.0, 2, 1)], METRIC, 200, 0.95)
    assert row["p"] is None
    assert row["p_holm"] is None
