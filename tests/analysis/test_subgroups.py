import numpy as np
import pytest

from benchmarks.simulated import as_predictions, draw
from fteng.analysis.bootstrap import depth_score, group_weights, interval
from fteng.analysis.subgroups import table


def test_a_row_is_the_metric_of_its_images() -> None:
    (depth,) = draw(np.random.default_rng(0), 120, [0.85], seeds=2, luck=0.2)
    sex = np.where(depth[0].groups.astype(int) % 2 == 0, "female", "male")
    rows = {row["level"]: row for row in table(depth, sex.tolist(), "auc", 200, 0.95)}
    assert list(rows) == ["female", "male"]
    part = [seed._replace(**{field: getattr(seed, field)[sex == "male"] for field in seed._fields}) for seed in depth]
    expected = interval(part, "auc", group_weights(part[0].groups, 200, seed=0), 0.95)
    assert (rows["male"]["value"], rows["male"]["low"], rows["male"]["high"]) == expected
    assert rows["male"]["value"] == depth_score(part, "auc")
    assert rows["male"]["images"] == int((sex == "male").sum())
    assert rows["male"]["groups"] == 60
    assert sum(rows["male"]["classes"]) == rows["male"]["images"]
    assert rows["male"]["note"] == ""


def test_empty_and_thin_cells_say_so() -> None:
    labels = np.array([0, 0, 0, 1, 0, 0, 1])
    predictions = as_predictions(labels, np.array([0.0, 1, -1, 2, 0, 1, 1]), np.array([0, 1, 2, 3, 4, 4, 5]))
    attribute = ["leg", "leg", "leg", "leg", "arm", "arm", None]
    rows = table([predictions], attribute, "auc", 100, 0.95)
    assert [row["level"] for row in rows] == ["arm", "leg", "not stated"]
    arm, leg, unknown = rows
    assert leg["value"] == 1
    assert leg["note"] == "too few groups for an interval"
    assert arm["value"] is None
    assert arm["note"] == "ROC-AUC is undefined: a class has no image"
    assert (arm["images"], arm["groups"], arm["classes"]) == (2, 1, [2, 0])
    assert unknown["images"] == 1
    blank = table([predictions], ["", " ", "a", "a", "a", "a", "a"], "accuracy", 100, 0.95)
    assert [(row["level"], row["images"]) for row in blank] == [("a", 5), ("not stated", 2)]


def test_an_attribute_of_other_images_is_refused() -> None:
    predictions = as_predictions(np.array([0, 1]), np.zeros(2))
    with pytest.raises(ValueError, match="got 1 values for 2 images"):
        table([predictions], ["a"], "auc", 100, 0.95)
