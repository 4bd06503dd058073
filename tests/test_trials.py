import pytest

from fteng.config import Config
from fteng.errors import UserError
from fteng.trials import Variant, enumerate_trials, plans, study_context, variants

STAGES = ("stem", "block1", "block2", "conv")
GROUPS = {"stage1": ("block1", "block2")}


def config(**sweep):
    made = Config()
    for name, value in sweep.items():
        setattr(made.sweep, name, value)
    return made


def test_cheapest_plan_first_and_each_once():
    found = plans(config(freeze_depths=("0", "4", "all", "stage1")), STAGES, GROUPS)
    assert [plan.freeze_depth for plan in found] == [4, 3, 0]


def test_beyond_a_tap_a_depth_is_its_probe():
    found = plans(config(freeze_depths=("0", "3", "all"), taps=("block1",)), STAGES, GROUPS)
    assert [(plan.tap, plan.freeze_depth) for plan in found] == [("block1", 2), ("block1", 0)]


def test_leaves_multiply_all_but_the_probe():
    found = plans(config(freeze_depths=("2", "all"), leaves=("all", "norm")), STAGES, GROUPS)
    assert [(plan.freeze_depth, plan.leaves) for plan in found] == [(4, "all"), (2, "all"), (2, "norm")]


def test_a_set_beyond_the_tap_is_refused():
    with pytest.raises(UserError, match="reaches beyond the tap"):
        plans(config(stage_sets=(("conv",),), taps=("stem",)), STAGES, GROUPS)


def ids(made, **context):
    return [
        spec.id
        for spec in enumerate_trials(
            made,
            plans(made, STAGES, GROUPS),
            study_context(made, **{"weights_digest": "w", "data_digest": "d", "preprocess": {"mean": [1.0]}} | context),
        )
    ]


def test_an_id_is_the_content():
    base = config(freeze_depths=("0", "2"), learning_rates=(1e-3, 1e-4), seeds=(0, 1))
    assert len(set(ids(base))) == 8
    assert ids(base) == ids(base)
    assert set(ids(base)) < set(ids(config(freeze_depths=("0", "2"), learning_rates=(1e-3, 1e-4), seeds=(0, 1, 2))))
    assert not set(ids(base)) & set(ids(base, weights_digest="other"))
    assert not set(ids(base)) & set(ids(base, data_digest="other"))
    assert not set(ids(base)) & set(ids(base, preprocess={"mean": [2.0]}))


def test_recipe_is_identity_but_the_pace_of_checkpoints_is_not():
    one, other = config(), config()
    other.train.checkpoint_every = 7
    assert ids(one) == ids(other)
    other.train.weight_decay = 0.5
    assert not set(ids(one)) & set(ids(other))


def test_variants_multiply_where_they_make_a_difference():
    made = config(
        freeze_depths=("0", "all"),
        batch_norm=("keep", "adapt", "batch"),
        layer_decays=(1.0, 0.7),
        init=("pretrained", "random"),
    )
    everything, probe = (plan for plan in reversed(plans(made, STAGES, GROUPS)))
    tuned = variants(made, everything)
    assert len(tuned) == len(set(tuned)) == 2 * 3 + 2 * 2
    assert {variant.start for variant in tuned} == {"pretrained", "pretrained-adapted", "random-adapted"}
    assert set(variants(made, probe)) == {Variant(), Variant(batch_norm="adapt"), Variant(init="random")}


def test_each_variant_is_another_trial_and_says_what_it_is():
    made = config(freeze_depths=("0",), batch_norm=("keep", "adapt"), unfreezing=("at_once", "gradual"), init=("mean_var",))
    specs = list(enumerate_trials(made, plans(made, STAGES, GROUPS), {}))
    assert len({spec.id for spec in specs}) == len(specs) == 2
    assert [spec.variant.label for spec in specs] == [
        "control: redrawn weights",
        "control: redrawn weights, gradual unfreezing",
    ]
    assert Variant().label == ""
