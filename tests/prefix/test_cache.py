"""A cached prefix gives the numbers of a recomputed one, bit for bit, and a file on disk is believed only with its proof."""

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, Config
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare
from fteng.entry import Entry
from fteng.errors import UserError
from fteng.feed import make_feed
from fteng.prefix import cache, kept_files
from fteng.prefix.budget import Choice
from fteng.prefix.walk import Walk
from fteng.train.batches import TrainingRows
from fteng.train.start import Start

ENTRIES = (Entry(3), Entry(5), Entry(5, pooled=True))


def choices(place: str, *entries: Entry) -> list[Choice]:
    return [Choice(entry, place, 1000, 1.0, 1.0, "") for entry in entries]


@pytest.fixture(scope="module")
def site():
    config = Config()
    config.data.source, config.data.image_size, config.data.limit = "digits", 32, 100
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package", last_stage="block4"))
    dataset = prepare(config.data, Resampling("bicubic"), lambda *_: None)
    start = Start(weights.params, weights.stats, {}, {"weights": weights.digest}, (weights.params, weights.stats))
    return backbone, dataset, start


def make_job(site, **recipe) -> cache.CacheJob:
    backbone, dataset, start = site
    settings = dataclasses.replace(Config().train, **recipe)
    layout = cache.make_layout(dataset, settings)
    walk = Walk(backbone, settings, ENTRIES)
    return cache.CacheJob(walk, start, dataset, make_feed(dataset.images), layout, 16, {"recipe": repr(settings)})


def training(job: cache.CacheJob, views: int, seed: int = 0) -> TrainingRows:
    rows = job.dataset.splits["train"]
    return TrainingRows(rows, job.dataset.labels[rows], batch=16, epochs=3, seed=seed, balanced=False, views=views)


def all_of(inputs, job, views, seed=0):
    rows = job.dataset.splits["val"]
    trained = [np.asarray(x) for x in inputs.train(training(job, views, seed), seed)]
    return np.stack(trained), np.stack([np.asarray(x) for x in inputs.plain([rows[:16], rows[4:20]])])


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


RECIPES = {
    "plain": ({}, 1),
    "two views": ({"augment": ("shift", "colour"), "views": 2}, 2),
    "half": ({"activations": "float16"}, 1),
}
QUICK = {("plain", "memory"), ("two views", "disk")}


@pytest.mark.parametrize(
    ("place", "recipe", "views"),
    [
        pytest.param(place, *RECIPES[name], id=f"{name}-{place}", marks=[] if (name, place) in QUICK else pytest.mark.slow)
        for name in RECIPES
        for place in ("memory", "disk", "device")
    ],
)
def test_cached_is_recomputed_bit_for_bit(site, tmp_path, place, recipe, views):
    job = make_job(site, **recipe)
    kept = cache.fill(job, choices(place, *ENTRIES), tmp_path, print, lambda _: None)
    for entry in ENTRIES:
        cached, recomputed = cache.inputs_at(job, kept, entry), cache.inputs_at(job, {}, entry)
        assert cached.cached
        assert not recomputed.cached
        # Views of a fixed number do not depend on the seed of a trial, or its trials could not share them.
        assert_same(all_of(cached, job, views, seed=1), all_of(recomputed, job, views, seed=1))
        assert (kept[entry].error > 0) is ("activations" in recipe)
        assert kept[entry].error < 1e-2


def test_what_is_not_kept_starts_from_the_nearest_kept_below(site, tmp_path):
    job = make_job(site)
    kept = cache.fill(job, choices("memory", Entry(3)), tmp_path, print, lambda _: None)
    above = cache.inputs_at(job, kept, Entry(5))
    assert not above.cached
    assert (above.begin, above.entry, above.kept_images) == (3, 5, job.layout.slots)
    assert_same(all_of(above, job, 1), all_of(cache.inputs_at(job, {}, Entry(5)), job, 1))


def test_what_is_rounded_is_read_where_it_was_kept_and_nowhere_above(site):
    for precision, exact in (("float32", True), ("float16", False)):
        job = make_job(site, activations=precision)
        assert cache.read_from(job, {Entry(3)}, Entry(3)) == (3, job.layout.slots)
        assert cache.read_from(job, {Entry(3)}, Entry(5)) == ((3, job.layout.slots) if exact else (0, 0))


@pytest.mark.slow
def test_fresh_views_differ_from_step_to_step_and_seed_to_seed_and_only_evaluation_is_kept(site, tmp_path):
    job = make_job(site, augment=("shift", "flip"), views=0)
    kept = cache.fill(job, choices("memory", Entry(3)), tmp_path, print, lambda _: None)
    inputs = cache.inputs_at(job, kept, Entry(3))
    assert not inputs.cached
    assert job.layout.slots == sum(len(job.dataset.splits[split]) for split in ("val", "test"))
    one, other = all_of(inputs, job, 0), all_of(inputs, job, 0, seed=1)
    assert_same(one, all_of(inputs, job, 0))
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(one[0], other[0])


@pytest.mark.slow
def test_views_take_turns_and_each_image_has_its_own(site):
    job = make_job(site, augment=("shift",), views=2)
    rows, inputs = training(job, 2), cache.inputs_at(job, {}, Entry(3))
    seen: dict[tuple[int, int], list[bytes]] = {}
    for index, x in enumerate(inputs.train(rows, 0)):
        for row, view, values in zip(*rows[index], np.asarray(x), strict=True):
            seen.setdefault((int(row), int(view)), []).append(values.tobytes())
    # Three epochs of two views: the first again in the third.
    assert all(len(set(values)) == 1 for values in seen.values())
    assert {view for _, view in seen} == {0, 1}
    both = {row for row, view in seen if view == 0} & {row for row, view in seen if view == 1}
    assert sum(seen[row, 0] != seen[row, 1] for row in both) > len(both) * 0.8


@pytest.mark.parametrize("harm", ["cut off", "one bit", "foreign", "no proof"])
def test_a_file_without_its_proof_is_computed_again(site, tmp_path, harm):
    job, told, walked = make_job(site), [], []
    cache.fill(job, choices("disk", Entry(3)), tmp_path, told.append, walked.append)
    (file,) = tmp_path.glob("*.npy")
    proof = file.with_suffix(".json")
    whole = file.read_bytes()
    walked.clear()
    cache.fill(job, choices("disk", Entry(3)), tmp_path, told.append, walked.append)
    assert told == walked == []
    if harm == "cut off":
        file.write_bytes(whole[:-7])
    elif harm == "one bit":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif harm == "foreign":
        proof.write_text(json.dumps(json.loads(proof.read_text()) | {"key": "0" * 64}))
    else:
        proof.unlink()
    kept = cache.fill(job, choices("disk", Entry(3)), tmp_path, told.append, walked.append)
    assert len(told) == 1
    assert str(file) in told[0]
    assert "computed again" in told[0]
    assert sum(walked) == job.layout.slots
    assert file.read_bytes() == whole
    assert_same(all_of(cache.inputs_at(job, kept, Entry(3)), job, 1), all_of(cache.inputs_at(job, {}, Entry(3)), job, 1))


def test_two_at_once_take_turns_and_compute_it_once(site, tmp_path):
    """Units of one track are pulled by two workers together."""
    job, told = make_job(site), []
    begun, walked = threading.Event(), {"first": 0, "second": 0}

    def slowly(count):
        walked["first"] += count
        begun.set()
        time.sleep(0.05)

    def count(images):
        walked["second"] += images

    with ThreadPoolExecutor() as pool:
        first = pool.submit(cache.fill, job, choices("disk", Entry(3)), tmp_path, print, slowly)
        assert begun.wait(60)
        second = pool.submit(cache.fill, job, choices("disk", Entry(3)), tmp_path, told.append, count)
        found = [each.result(60) for each in (first, second)]
    assert walked == {"first": job.layout.slots, "second": 0}
    assert [f"another process fills {tmp_path}; waiting for it"] == told
    mine, theirs = (all_of(cache.inputs_at(job, kept, Entry(3)), job, 1) for kept in found)
    assert_same(mine, theirs)
    assert_same(mine, all_of(cache.inputs_at(job, {}, Entry(3)), job, 1))


@pytest.mark.slow
def test_another_recipe_is_another_file(site, tmp_path):
    for views in (1, 2):
        job = make_job(site, augment=("shift",), views=views)
        cache.fill(job, choices("disk", Entry(3)), tmp_path, print, lambda _: None)
    assert len(list(tmp_path.glob("*.npy"))) == 2


@pytest.mark.slow
def test_half_precision_that_overflows_is_one_line(site, tmp_path):
    job = make_job(site, activations="float16")
    huge = (*job.start.stages[:4], jax.tree.map(lambda leaf: leaf * 1e6, job.start.stages[4]))
    loud = job._replace(start=job.start._replace(stages=huge))
    with pytest.raises(UserError, match=r"float16.*65504.*float32"):
        cache.fill(loud, choices("memory", Entry(5)), tmp_path, print, lambda _: None)


def test_a_full_disk_is_told_before_it_is_full(site, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_files.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match=r"is full.*cache_disk_gib"):
        cache.fill(make_job(site), choices("disk", Entry(3)), tmp_path, print, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
