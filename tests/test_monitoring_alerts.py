"""Alerts: one message when it begins and one when it is over, with the cause that explains it."""

import pytest
import yaml

from hailtime.config import CONFIGS
from hailtime.errors import ConfigError
from hailtime.monitoring.alerts import AlertBook, Rule, read_rules
from hailtime.monitoring.situation import Measure, Situation, share

MINUTE = 60.0
LATE = Rule("late", "late_share", above=0.15, window_min=30, least=300, for_min=10)
MISSING = Rule("missing", "missing_points", above=0.05, window_min=15, least=300, for_min=5)


def late(value, n=2000):
    return share(round(value * n), n)


def at(minute, **measures):
    return Situation(minute * MINUTE, measures)


def played(book, situations, **more):
    return [message for situation in situations for message in book.look(situation, **more)]


def test_an_alert_begins_after_its_time_and_is_told_once():
    book = AlertBook([LATE])
    messages = played(book, [at(m, late_share=late(0.3 if m >= 20 else 0.1)) for m in range(0, 120, 5)])
    assert [(m.kind, m.at_s / MINUTE, m.alerts) for m in messages] == [("firing", 30, ("late",))]
    assert book.firing == ("late",)
    over = played(book, [at(m, late_share=late(0.1)) for m in range(120, 240, 5)])
    assert [(m.kind, m.at_s / MINUTE) for m in over] == [("resolved", 180)]


def test_a_peak_that_does_not_last_is_no_alert():
    assert played(AlertBook([LATE]), [at(m, late_share=late(0.3 if m == 20 else 0.1)) for m in range(0, 60, 5)]) == []


def test_what_swings_about_its_limit_is_told_once():
    values = [0.3, 0.3, 0.3, *[0.14] * 30, *[0.1] * 9, *[0.16] * 5, *[0.1] * 9]
    messages = played(AlertBook([LATE]), [at(5 * i, late_share=late(value)) for i, value in enumerate(values)])
    assert [m.kind for m in messages] == ["firing"]


@pytest.mark.parametrize(
    ("measure", "is_told"),
    [(late(0.3, 299), False), (late(0.16, 310), False), (late(0.16, 5000), True), (late(0.3, 310), True)],
    ids=["too few", "may be chance", "small and sure", "large"],
)
def test_few_rows_need_a_larger_step(measure, is_told):
    messages = played(AlertBook([LATE]), [at(m, late_share=measure) for m in range(0, 30, 5)])
    assert bool(messages) == is_told


def test_what_cannot_be_told_ends_nothing():
    book = AlertBook([LATE])
    played(book, [at(m, late_share=late(0.3)) for m in range(0, 30, 5)])
    assert played(book, [at(m) for m in range(30, 90, 5)]) == []
    assert book.firing == ("late",)


def test_states_survive_a_restart():
    book = AlertBook([LATE])
    played(book, [at(m, late_share=late(0.3)) for m in (0, 5)])
    again = AlertBook([LATE], book.to_dict())
    assert [m.at_s / MINUTE for m in played(again, [at(m, late_share=late(0.3)) for m in (10, 15)])] == [10]
    third = AlertBook([LATE], again.to_dict())
    assert played(third, [at(20, late_share=late(0.3))]) == []


def test_what_begins_together_is_one_message_and_the_broken_feed_is_the_cause():
    broken = Measure(0.5, 2000, 0.48, ("driver_lat", "driver_lon"))
    book = AlertBook([Rule("late", "late_share", 0.15, 30, 300, 5), MISSING])
    (message,) = played(book, [at(m, late_share=late(0.3), missing_points=broken) for m in range(0, 20, 5)])
    assert message.alerts == ("late", "missing")
    assert message.cause.kind == "breakage"
    assert "driver_lat, driver_lon stopped coming: missing in 50%" in message.text


def test_an_error_that_begins_with_a_release_is_the_releases():
    messages = played(AlertBook([LATE]), [at(m, late_share=late(0.3)) for m in range(0, 20, 5)], released_s=-300.0)
    assert (messages[0].cause.kind, messages[0].cause.next_command) == ("release", "python scripts/rollback.py")


def test_the_same_inputs_and_another_outcome_is_a_changed_world():
    messages = played(AlertBook([LATE]), [at(m, late_share=late(0.3)) for m in range(0, 20, 5)])
    assert messages[0].cause.kind == "changed world"
    assert "30% of the drivers come later than P90" in messages[0].text


def test_the_shipped_rules_are_read():
    rules = read_rules(yaml.safe_load((CONFIGS / "alerts.yaml").read_text()))
    assert {rule.measure for rule in rules} >= {"late_share", "error_ratio", "missing_points", "new_share"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesure": 1}, "no setting 'mesure', did you mean 'measure'"),
        ({"measure": "late"}, "measure is one of .* got 'late'"),
        ({"above": "much"}, "above must be a number above 0, got 'much'"),
        ({"least": 0}, "least must be a number above 0, got 0"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_rule_that_cannot_work_is_told(change, message):
    good = {"measure": "late_share", "above": 0.1, "window_min": 30, "least": 300, "for_min": 5}
    with pytest.raises(ConfigError, match=message):
        read_rules({"late": {**good, **change}})
