"""Which trials go together."""

import random

import pytest

from fteng.jobs.plan import make_units
from fteng.trials import TrialWork


def sweep(tracks=6, rates=4, seeds=3, walk=1.0):
    return [
        TrialWork(f"t{track}-{rate}-{seed}", f"pretrained/{track}", seed, 10.0 * (track + 1), walk)
        for track in range(tracks)
        for seed in range(seeds)
        for rate in range(rates)
    ]


@pytest.mark.parametrize("workers", [1, 2, 7, 100, 1000])
def test_every_trial_stands_in_one_unit_of_its_cache(workers):
    work = sweep()
    units = make_units(work, workers)
    assert sorted(trial for unit in units for trial in unit.trials) == sorted(one.trial for one in work)
    cache = {one.trial: one.cache for one in work}
    assert all(len({cache[trial] for trial in unit.trials}) == 1 for unit in units)
    assert len({unit.name for unit in units}) == len(units)
    assert [unit.seconds for unit in units] == sorted((unit.seconds for unit in units), reverse=True)


def test_one_worker_walks_each_cache_once():
    assert len(make_units(sweep(), 1)) == 6


def test_seeds_part_before_rates_do():
    units = make_units(sweep(tracks=1), 1)
    assert [len(unit.trials) for unit in units] == [12]
    parted = make_units(sweep(tracks=1, walk=0.0), 2)
    assert len(parted) > 2
    assert all(len({trial.rpartition("-")[2] for trial in unit.trials}) == 1 for unit in parted)


def test_no_part_trains_for_less_than_its_walk_takes():
    work = sweep(walk=35.0)
    units = make_units(work, 1000)
    seconds = {one.trial: one.seconds for one in work}
    trained = {}
    for unit in units:
        trained.setdefault(unit.trials[0].partition("-")[0], []).append(sum(seconds[trial] for trial in unit.trials))
    # The last part of a cache may be the rest of it.
    assert all(length >= 10 for parts in trained.values() for length in parts)
    assert len(trained["t0"]) < len(trained["t5"]) <= 12


def test_list_scheduling_is_near_the_bound_and_names_are_not_used_twice():
    rng = random.Random(0)
    work = [one._replace(seconds=rng.uniform(1, 100)) for one in sweep(tracks=20)]
    units = make_units(work, 16, taken={"pretrained-0-0"})
    assert "pretrained-0-0" not in {unit.name for unit in units}
    ends = [0.0] * 16
    for unit in units:
        slot = ends.index(min(ends))
        ends[slot] += unit.seconds
    total = sum(unit.seconds for unit in units)
    assert max(ends) <= 4 / 3 * max(total / 16, units[0].seconds)


def test_work_without_length_is_planned_too():
    assert len(make_units([TrialWork("a", "x/0", 0, 0.0, 0.0), TrialWork("b", "x/0", 1, 0.0, 0.0)], 4)) == 1
    assert make_units([], 4) == []
