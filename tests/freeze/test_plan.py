import pytest

from fteng.errors import UserError
from fteng.freeze.plan import expand, last_stage, parse_freeze_depth, prefix_plan, stage_set_plan

STAGES = ("stem", "block1", "block2", "head_conv")
GROUPS = {"stage1": ("block1", "block2")}


@pytest.mark.parametrize(("depth", "trains"), [(0, STAGES), (1, STAGES[1:]), (3, ("head_conv",)), (4, ())])
def test_prefix(depth, trains):
    plan = prefix_plan(STAGES, depth)
    assert plan.trainable_stages == trains
    assert plan.boundary == plan.freeze_depth == depth


def test_a_set_that_is_no_prefix_has_a_boundary_but_no_depth():
    plan = stage_set_plan(STAGES, ["block1"])
    assert (plan.boundary, plan.freeze_depth, plan.trainable_stages) == (1, None, ("block1",))
    assert stage_set_plan(STAGES, STAGES[2:]) == prefix_plan(STAGES, 2)


@pytest.mark.parametrize(("text", "depth"), [("0", 0), ("4", 4), ("all", 4), ("stem", 1), ("stage1", 3), ("last", 4)])
def test_depth_by_number_or_name(text, depth):
    assert parse_freeze_depth(text, STAGES, GROUPS) == depth


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "allowed: 0"),
        ("blok1", "did you mean block1"),
        ("xyz", "allowed: stem"),
        ("-1", "allowed: 0"),
        ("²", "no stage or group is called '²'; allowed: stem"),
    ],
)
def test_a_wrong_depth_says_what_is_allowed(text, says):
    with pytest.raises(UserError, match=says):
        parse_freeze_depth(text, STAGES, GROUPS)


def test_names_expand_in_order():
    assert expand(["head_conv", "stage1"], STAGES, GROUPS) == ("block1", "block2", "head_conv")
    assert last_stage("stage1", STAGES, GROUPS) == 2
    with pytest.raises(UserError, match=r"called 'nothing'; allowed: stem, .*, stage1"):
        expand(["nothing"], STAGES, GROUPS)
    with pytest.raises(UserError, match="did you mean stage1"):
        expand(["stag1"], STAGES, GROUPS)


def test_last_is_the_last_stage_in_a_set_too():
    assert expand(["last"], STAGES, GROUPS) == ("head_conv",)
    assert expand(["last", "block1"], STAGES, GROUPS) == ("block1", "head_conv")
    assert stage_set_plan(STAGES, ["last"]).trainable_stages == ("head_conv",)


@pytest.mark.parametrize(
    ("name", "says"), [("blok1", "did you mean block1"), ("nothing", "allowed: stem, block1, block2, head_conv$")]
)
def test_a_set_names_the_stage_that_was_meant(name, says):
    with pytest.raises(UserError, match=says):
        stage_set_plan(STAGES, ["stem", name])


@pytest.mark.parametrize(
    "make", [lambda leaves: prefix_plan(STAGES, 1, leaves), lambda leaves: stage_set_plan(STAGES, ["stem"], leaves)]
)
def test_leaves_that_no_plan_knows_are_refused(make):
    assert [make(leaves).leaves for leaves in ("all", "norm", "bias")] == ["all", "norm", "bias"]
    with pytest.raises(UserError, match="leaves: got 'biases', allowed: all, norm, bias"):
        make("biases")
