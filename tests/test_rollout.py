"""The plan as it goes from one state to the next, and who answers which request."""

import hashlib
import re
from pathlib import Path

import pytest

from hailtime.errors import DeployError
from hailtime.rollout import Rollout

PROTOCOL = Path(__file__).parents[1] / "docs/protocol.md"
IDS = [f"request-{i}" for i in range(20_000)]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param(lambda plan: plan.with_canary(4, 5), Rollout(3, canary=4, canary_percent=5), id="canary"),
        pytest.param(lambda plan: plan.with_shadow(4), Rollout(3, shadow=4), id="shadow"),
        pytest.param(lambda plan: plan.with_canary(4, 5).with_shadow(5), Rollout(3, shadow=5), id="one at a time"),
        pytest.param(lambda plan: plan.with_canary(4, 5).promoted(), Rollout(4), id="canary promoted"),
        pytest.param(lambda plan: plan.with_shadow(4).promoted(), Rollout(4), id="shadow promoted"),
        pytest.param(lambda plan: plan.with_canary(4, 5).aborted(), Rollout(3), id="canary aborted"),
        pytest.param(lambda plan: plan.with_shadow(4).aborted(), Rollout(3), id="shadow aborted"),
    ],
)
def test_plan_changes(change, after):
    assert change(Rollout(3)) == after


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(Rollout.promoted, "must be a canary or a shadow to promote", id="promote nobody"),
        pytest.param(Rollout.aborted, "must be a canary or a shadow to abort", id="abort nobody"),
        pytest.param(lambda plan: plan.with_canary(3, 5), "another version than the stable one, got 3", id="itself"),
        pytest.param(lambda plan: plan.with_canary(4, 0), "more than 0 and less than 100 %, got 0", id="nobody"),
        pytest.param(lambda plan: plan.with_canary(4, 100), "less than 100 %, got 100", id="everybody"),
        pytest.param(lambda plan: plan.with_canary(4, float("nan")), "got nan", id="no number"),
    ],
)
def test_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(DeployError, match=message):
        change(Rollout(3))


@pytest.mark.parametrize("percent", [0.5, 5, 50])
def test_canary_gets_its_share(percent):
    plan = Rollout(3, canary=4, canary_percent=percent)
    share = sum(plan.version_for(one) == 4 for one in IDS) / len(IDS)
    # four standard deviations of a share of 20,000 draws
    assert share == pytest.approx(percent / 100, abs=4 * (percent / 100 * (1 - percent / 100) / len(IDS)) ** 0.5)


def test_request_keeps_its_version_and_a_larger_share_keeps_its_riders():
    small, large = (Rollout(3, canary=4, canary_percent=percent) for percent in (5, 25))
    assert [small.version_for(one) for one in IDS] == [small.version_for(one) for one in IDS]
    assert all(large.version_for(one) == 4 for one in IDS if small.version_for(one) == 4)


def test_next_canary_draws_other_riders():
    first, second = (
        {one for one in IDS if Rollout(1, canary=v, canary_percent=5).version_for(one) == v} for v in (2, 3)
    )
    assert len(first & second) / len(first) == pytest.approx(0.05, abs=0.03)


def test_without_a_canary_the_stable_version_answers_all():
    assert {Rollout(3, shadow=4).version_for(one) for one in IDS} == {3}


def test_the_table_of_the_protocol_is_how_a_version_is_drawn():
    """docs/protocol.md spells the draw out for other languages; hashlib says the same as its table and as the plan."""
    rows = re.findall(r"^\| `(.+)` \| (\d+) \| (\d) \|$", PROTOCOL.read_text(), re.MULTILINE)
    assert {version for _, _, version in rows} == {"3", "4"}
    for request_id, number, version in rows:
        assert int(hashlib.sha256(f"4:{request_id}".encode()).hexdigest()[:8], 16) == int(number)
        assert Rollout(3, canary=4, canary_percent=25).version_for(request_id) == int(version)
