"""What a split by image does to a score, and that the report says so; on SYNTHETIC lesions, whose patients can be told apart."""

import pytest

from tests.data.isic_folder import make
from tests.study_runs import run
from tests.test_study import summary_of

pytestmark = pytest.mark.slow


def test_a_split_by_image_flatters_and_is_called_out(tmp_path):
    make(tmp_path / "isic", patients=60, seed=0)
    found = {}
    for split_by in ("image", "group"):
        flags = (
            f"--config.data.path={tmp_path / 'isic'}",
            f"--config.data.split_by={split_by}",
            "--config.data.limit=0",
            "--config.data.image_size=48",
            "--config.data.resize=squash",
            "--config.sweep.freeze_depths=all",
        )
        ended = run(tmp_path / split_by, *flags, config="configs/isic.py:efficientnet_lite0")
        assert ended.returncode == 0, ended.stderr
        found[split_by] = summary_of(tmp_path / split_by)
    checks = {
        name: next(check for check in summary["audit"] if "both sides of a split" in check["check"])
        for name, summary in found.items()
    }
    assert checks["group"]["passed"] is True
    assert checks["image"]["passed"] is False
    assert checks["image"]["value"] > 10
    # Over all taps: a single one of 18 can be lucky on 70 images.
    mean = {
        name: sum(probe["test"]["auc"]["value"] for probe in summary["probes"]) / len(summary["probes"])
        for name, summary in found.items()
    }
    assert mean["image"] > mean["group"] + 0.08
    assert mean["group"] < 0.62
    assert found["group"]["subgroups"], "the archive's age, sex and site make tables"
