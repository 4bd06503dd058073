"""The zero of each distance, and that nothing is noticed where there is nothing: simulated under the null."""

import numpy as np
import pytest

from benchmarks.alarms import noticed, told_apart, within
from benchmarks.simulated import SHAPES, images, known, source
from fteng.similarity.layers import known_stage
from fteng.similarity.zero import noticeable, two_samples, zeros
from fteng.undefined import UndefinedError


def test_a_shift_is_noticed_where_it_is_and_nowhere_else():
    truth = source()
    found = []
    for seed in range(8):
        stages = images(seed, 256)
        stages[1] = stages[1] + 0.5
        found.append(noticeable([known(x, mean, var, 16) for x, (mean, var) in zip(stages, truth, strict=True)]))
    p = np.array(found)
    assert (p[:, 1] <= 0.01).all()
    assert (np.minimum(p[:, 0], p[:, 2]) > 0.05).sum() >= 6


@pytest.mark.parametrize("distance", ["mean_shift", "diagonal_frechet", "log_variance_ratio"])
def test_zero_is_the_distance_that_chance_makes(distance):
    mean, var = source()[0]
    from fteng.similarity import distances

    def measured(x):
        one, other = x.mean(axis=0), x.var(axis=0)
        return {
            "mean_shift": distances.mean_shift(one, mean, var),
            "log_variance_ratio": distances.log_variance_ratio(other, var),
            "diagonal_frechet": distances.diagonal_frechet(one, other, mean, var),
        }[distance]

    samples = [images(seed, 256)[0] for seed in range(200)]
    chance = np.mean([measured(x) for x in samples])
    bands = [zeros(known(x, mean, var, 16))[distance] for x in samples[:40]]
    assert np.mean([band.mean for band in bands]) == pytest.approx(chance, rel=0.12)
    inside = [band.low <= measured(x) <= band.high for band, x in zip(bands, samples, strict=False)]
    # Nominally 95 %; the variance of skewed features is harder to bound.
    assert np.mean(inside) > 0.8
    # A shift between source and data is no part of it.
    shifted = zeros(known(samples[0] + 3, mean, var, 16))[distance]
    assert shifted.mean == pytest.approx(bands[0].mean, rel=1e-9) if distance == "mean_shift" else shifted.mean > 0


def test_fewer_than_six_parts_say_so():
    mean, var = source()[0]
    stage = known(images(0, 40)[0], mean, var, 5)
    for function in (zeros, lambda stage: noticeable([stage])):
        with pytest.raises(UndefinedError, match="6 parts"):
            function(stage)


def test_identical_stages_have_the_same_p():
    mean, var = source()[0]
    stage = known(images(0, 128)[0] + 0.3, mean, var, 16)
    p = noticeable([stage, stage])
    assert p[0] == p[1] <= 0.05


def test_a_stage_without_source_or_with_dead_channels_says_why():
    layer = {"mean": np.zeros(3), "var": np.ones(3)}
    dead = {"mean": np.zeros(3), "var": np.zeros(3)}
    with pytest.raises(UndefinedError, match="there is no source"):
        known_stage((), (), [], absent="there is no source")
    with pytest.raises(UndefinedError, match="no channel varies"):
        known_stage({"bn": layer}, {"bn": dead}, [], absent="")
    half = {"mean": np.zeros(3), "var": np.array([1.0, 0.0, 1.0])}
    found = known_stage({"b": {"bn": layer}, "a": [layer]}, {"b": {"bn": half}, "a": [layer]}, [], absent="")
    assert len(found.mean) == 5
    assert found.part_means.shape == (0, 5)


def test_two_sides_of_one_distribution_are_alike_and_others_are_not():
    taps, side = images(0, 160), np.arange(160) < 80
    groups = np.arange(160) // 4
    alike = two_samples(taps, side, groups)
    assert min(row["p"] for row in alike) > 0.05
    taps[2] = taps[2] + 2.0 * side[:, None]
    rows = two_samples(taps, side, groups)
    assert rows[2]["p"] <= 0.01
    assert rows[2]["value"] > rows[2]["high"]
    with pytest.raises(UndefinedError, match="two groups"):
        two_samples(taps, side, np.arange(160) < 80)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [6, 16])
def test_false_alarms_of_a_noticeable_difference_are_at_most_five_percent(shape, parts):
    assert noticed(1000, shape, parts) <= within(1000)


@pytest.mark.slow
def test_false_alarms_of_two_samples_are_at_most_five_percent():
    assert told_apart(1000) <= within(1000)
