import csv
import io

import numpy as np
import pytest

from fteng import challenge
from fteng.challenge import to_csv
from fteng.errors import UserError
from fteng.results import Predictions


def answers(*ids):
    n = len(ids)
    return Predictions(np.array(ids), np.array(ids), np.zeros(n, np.int64), np.array([[0.0, np.log(3.0)]] * n, np.float32))


def test_one_row_an_image_by_name_and_shares():
    rows = list(csv.DictReader(io.StringIO(to_csv(["benign", "malignant"], answers("a/ISIC_1.jpg", "ISIC_2.jpg")))))
    assert [row["image"] for row in rows] == ["ISIC_1", "ISIC_2"]
    assert float(rows[0]["malignant"]) == pytest.approx(0.75)
    assert float(rows[0]["benign"]) + float(rows[0]["malignant"]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("classes", "ids", "says"),
    [(["a", "b"], ("x/1.jpg", "y/1.png"), "two images are called '1'"), (["a", "image"], ("1",), "called 'image'")],
)
def test_what_the_format_cannot_hold_is_refused(classes, ids, says):
    with pytest.raises(UserError, match=says):
        to_csv(classes, answers(*ids))


def test_no_study_is_one_line(tmp_path, capsys):
    assert challenge.main([str(tmp_path), f"--out={tmp_path / 'x.csv'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
