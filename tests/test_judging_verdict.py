"""Judgements and verdicts: their rules, their guarantees, and their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.judgement import Judgement, judge
from guardclash.judging.rules import PValues, check_rule, combined, paper, paper_absolute, strict
from guardclash.judging.stats import Sample, holm, one_sample, tost, welch
from guardclash.judging.verdict import Verdict, corrected, judge_accuracy, lowest

WM = Metric("wm_accuracy", "φ_WM", MaxDrop(0.30))
LOSS = Metric("loss", "L", MaxDrop(0.30), higher_is_better=False)
RAD = Metric("rad", "φ_RAD", Floor(0.01))
DI = Metric("di_p", "φ_DI", Ceiling(-3), higher_is_better=False, log10=True)
EPSILON = Metric("epsilon", "ε", MaxGrowth(1.5), higher_is_better=False)
FPR = Metric("fpr", "FPR", Ceiling(0.05), higher_is_better=False)

values = st.lists(st.floats(0, 1).map(lambda v: round(v, 3)), min_size=2, max_size=8)
spread = st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.integers(2, 20)).map(lambda s: Sample.of(*s))
sample = st.one_of(values.map(tuple).map(Sample), spread)
thresholds = st.floats(0.01, 0.9)


def judged(metric: Metric, alone: Sample | None, together: Sample, **options) -> Judgement:
    return judge(metric, metric.criterion, alone, together, **options)


# Rules


@pytest.mark.parametrize(
    ("difference", "equivalence", "drop", "beyond", "outcome"),
    [
        (0.05, 0.9, 0.5, True, "no difference"),
        (0.049, 0.049, 0.1, False, "equivalent"),
        (0.049, 0.05, -0.5, False, "improved"),
        (0.049, 0.9, 0.5, True, "conflict"),
        (0.049, 0.2, 0.1, False, "undecided"),
        (None, None, 0.5, True, "undecided"),
    ],
)
def test_the_paper_rule(difference, equivalence, drop, beyond, outcome):
    assert paper(PValues(difference, equivalence), drop, beyond, 0.05) == outcome


@pytest.mark.parametrize(
    ("inferior", "beyond", "outcome"),
    [(0.99, False, "effective"), (0.01, True, "conflict"), (0.2, True, "undecided"), (None, True, "undecided")],
)
def test_the_paper_rule_for_bounds(inferior, beyond, outcome):
    assert paper_absolute(PValues(inferior=inferior), beyond, 0.05) == outcome


@pytest.mark.parametrize(
    ("noninferior", "inferior", "outcome"),
    [(0.01, 0.99, "compatible"), (0.99, 0.01, "conflict"), (0.05, 0.95, "undecided"), (None, None, "undecided")],
)
def test_the_strict_rule(noninferior, inferior, outcome):
    assert strict(PValues(noninferior=noninferior, inferior=inferior), 0.05) == outcome


@pytest.mark.parametrize(
    ("outcomes", "outcome"),
    [
        ((), "undecided"),
        (("reported",), "undecided"),
        (("equivalent", "no difference", "improved", "effective", "reported"), "compatible"),
        (("compatible", "undecided"), "undecided"),
        (("undecided", "conflict", "compatible"), "conflict"),
    ],
)
def test_outcomes_combine(outcomes, outcome):
    assert combined(outcomes) == outcome


def test_unknown_rules_meet_a_suggestion():
    assert check_rule("strict") == "strict"
    with pytest.raises(UserError, match="Did you mean 'strict'"):
        check_rule("strickt")
    with pytest.raises(UserError, match="no such rule"):
        judged(WM, Sample((0.9, 0.8)), Sample((0.9, 0.8))).outcome("papr")


# One metric


def test_a_judgement_shows_all_tests_of_a_drop():
    alone, together = Sample((0.97, 0.96, 0.98)), Sample((0.5, 0.55, 0.6, 0.45))
    judgement = judged(WM, alone, together, alpha=0.01)
    assert judgement.difference == pytest.approx(together.mean - alone.mean)
    assert judgement.drop == pytest.approx(alone.mean - together.mean)
    assert judgement.raw.difference == pytest.approx(welch(alone, together).p)
    assert judgement.raw.equivalence == pytest.approx(tost(alone, together, -0.3, 0.3).p)
    assert judgement.raw.noninferior == pytest.approx(tost(alone, together, -0.3, 0.3).p_high)
    assert judgement.raw.inferior == pytest.approx(1 - judgement.raw.noninferior)
    assert judgement.threshold == 0.30 and judgement.alpha == 0.01
    assert judgement.outcomes == {"paper": "conflict", "strict": "conflict"}
    low, high = judgement.interval
    assert low < judgement.difference < high < -0.30
    assert hash(judgement) == hash(judged(WM, alone, together, alpha=0.01))


def test_exactly_the_threshold_is_not_beyond_it_and_never_decided():
    judgement = judged(WM, Sample.of(0.97, 0.02, 5), Sample.of(0.67, 0.04, 10))
    assert judgement.drop < 0.30 and judgement.point == "compatible"
    assert judgement.outcomes == {"paper": "undecided", "strict": "undecided"}
    rounding_up = judged(ACCURACY, Sample.of(0.4, 0.02, 5), Sample.of(0.3, 0.02, 5))
    assert rounding_up.drop > 0.10 and rounding_up.point == "compatible"


def test_lower_is_better_turns_the_drop_round():
    worse = judged(LOSS, Sample((0.1, 0.11, 0.12)), Sample((0.9, 0.91, 0.92)))
    assert worse.difference == pytest.approx(0.8) and worse.drop == pytest.approx(0.8)
    assert worse.outcomes == {"paper": "conflict", "strict": "conflict"}
    better = judged(LOSS, Sample((0.9, 0.91, 0.92)), Sample((0.1, 0.11, 0.12)))
    assert better.outcomes == {"paper": "improved", "strict": "compatible"}


def test_growth_is_a_drop_relative_to_alone():
    still = judged(EPSILON, Sample((3.0, 3.0)), Sample((4.4, 4.4)))
    assert still.threshold == pytest.approx(1.5) and still.drop == pytest.approx(1.4)
    assert still.outcomes == {"paper": "equivalent", "strict": "compatible"}
    assert judged(EPSILON, Sample((3.0, 3.0)), Sample((4.5, 4.5))).outcome("strict") == "compatible"
    grown = judged(EPSILON, Sample((3.0, 3.0)), Sample((4.6, 4.6)))
    assert grown.outcomes == {"paper": "conflict", "strict": "conflict"}


def test_growth_of_a_negative_value_is_towards_zero():
    alone = Sample((-2.0, -2.0))
    assert judged(EPSILON, alone, Sample((-1.2, -1.2))).outcomes == {"paper": "equivalent", "strict": "compatible"}
    assert judged(EPSILON, alone, Sample((-0.8, -0.8))).outcomes == {"paper": "conflict", "strict": "conflict"}
    assert (
        judged(EPSILON, alone, Sample((-0.7, -0.8))).raw.inferior
        < 0.5
        < judged(EPSILON, alone, Sample((-1.2, -1.3))).raw.inferior
    )


def test_the_spread_of_a_growth_limit_counts():
    alone, together = Sample((2.9, 3.0, 3.1)), Sample((4.2, 4.3, 4.4))
    assert judged(EPSILON, alone, together).raw.noninferior == pytest.approx(welch(together, alone.scaled(1.5)).p_less)


def test_a_floor_asks_only_together():
    together = Sample((0.02, 0.03, 0.025))
    for alone in (None, Sample(), Sample((0.9,)), Sample((0.9, 0.8))):
        judgement = judged(RAD, alone, together, asked=(5, 3))
        assert judgement.outcomes == {"paper": "effective", "strict": "compatible"}
        assert judgement.raw.noninferior == pytest.approx(one_sample(together, 0.01).p_greater)
        assert judgement.threshold == 0.01 and judgement.raw.equivalence is None
        assert judgement.together_interval[0] > 0.01
    assert judged(RAD, None, Sample((0.001, 0.002, 0.001))).outcomes == {"paper": "conflict", "strict": "conflict"}
    assert judged(RAD, None, Sample((0.001, 0.02, 0.0))).outcomes == {"paper": "undecided", "strict": "undecided"}
    assert judged(RAD, None, Sample((0.001, 0.03, 0.01))).outcomes == {"paper": "effective", "strict": "undecided"}


def test_rounding_does_not_break_a_bound():
    assert judge(FPR, Ceiling(0.3), None, Sample((0.1 + 0.2, 0.1 + 0.2))).point == "compatible"
    assert judge(FPR, Ceiling(0.3), None, Sample((0.3001, 0.3001))).point == "conflict"


def test_a_ceiling_on_log10_p_values():
    assert judged(DI, None, DI.sample((-np.inf,) * 5)).outcomes == {"paper": "effective", "strict": "compatible"}
    assert judged(DI, None, Sample((-1.0, -0.5, -0.9))).outcomes == {"paper": "conflict", "strict": "conflict"}
    assert judged(DI, None, Sample((-3.0, -3.0))).outcomes == {"paper": "effective", "strict": "compatible"}


def test_a_study_may_set_another_criterion():
    alone, together = Sample((0.97, 0.96, 0.98)), Sample((0.80, 0.81, 0.79))
    judgement = judge(WM, MaxDrop(0.05), alone, together)
    assert judgement.outcome("strict") == "conflict" and judgement.metric.criterion == MaxDrop(0.05)
    assert judge(WM, None, alone, together).outcomes == {"paper": "reported", "strict": "reported"}
    with pytest.raises(UserError, match="wm_accuracy"):
        judge(WM, Ceiling(0.5), alone, together)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, -0.1, float("nan")])
def test_levels_lie_below_one_half(alpha):
    with pytest.raises(UserError, match="alpha"):
        judged(WM, Sample((1, 1)), Sample((1, 1)), alpha=alpha)


@pytest.mark.parametrize(
    ("metric", "alone"),
    [(WM, (3.0, 3.1)), (RAD, (3.0, 3.1)), (RAD, (-3.0,)), (DI, (-3.0, -3.1)), (DI, (3.0,)), (EPSILON, (3.0, 3.1))],
)
def test_one_replicate_decides_nothing(metric, alone):
    judgement = judged(metric, Sample(alone), Sample((3.0,)))
    assert judgement.outcomes == {"paper": "undecided", "strict": "undecided"}
    assert judgement.point is not None and not judgement.missing
    assert judgement.raw == PValues() and judgement.replicates_needed is None


@pytest.mark.parametrize(
    ("alone", "together", "asked", "missing"),
    [
        (None, Sample((0.9, 0.8)), (1, 1), ("alone: 0 of 1",)),
        (Sample((0.9, 0.8)), Sample(), (2, 2), ("together: 0 of 2",)),
        (Sample((0.9, 0.8)), Sample((0.1, 0.11)), (5, 10), ("together: 2 of 10", "alone: 2 of 5")),
        (Sample(), Sample(), (5, 10), ("together: 0 of 10", "alone: 0 of 5")),
    ],
)
def test_missing_replicates_leave_it_undecided(alone, together, asked, missing):
    judgement = judged(WM, alone, together, asked=asked)
    assert judgement.outcomes == {"paper": "undecided", "strict": "undecided"}
    assert judgement.missing == missing


def test_replicates_needed_are_named_only_where_they_help():
    undecided = judged(ACCURACY, Sample.of(0.95, 0.004, 5), Sample.of(0.88, 0.09, 10))
    assert undecided.outcome("strict") == "undecided" and undecided.replicates_needed == 58
    more = replace(undecided.together, summary=(0.88, 0.09, 200))
    assert judged(ACCURACY, Sample.of(0.95, 0.004, 200), more).replicates_needed is None
    assert judged(ACCURACY, Sample.of(0.9, 0.01, 5), Sample.of(0.8, 0.01, 5)).replicates_needed is None
    assert judged(RAD, None, Sample.of(0.02, 0.03, 3)).replicates_needed > 3


def test_replicates_needed_regard_the_choice_of_a_baseline():
    alone, together = Sample.of(0.87, 0.004, 5), Sample.of(0.80, 0.06, 10)
    one = judge_accuracy({"a": alone}, together)
    two = judge_accuracy({"a": alone, "b": alone}, together)
    assert one.replicates_needed == 27 and two.replicates_needed == 34


@given(alone=sample, together=sample, threshold=thresholds, more=st.floats(0, 0.5))
@settings(deadline=None, max_examples=150)
def test_a_larger_threshold_never_turns_compatible_into_conflict(alone, together, threshold, more):
    tight = judge(WM, MaxDrop(threshold), alone, together)
    loose = judge(WM, MaxDrop(threshold + more), alone, together)
    for rule in ("paper", "strict"):
        ranks = [("compatible", "undecided", "conflict").index(combined([j.outcome(rule)])) for j in (tight, loose)]
        assert ranks[1] <= ranks[0]


@given(alone=sample, together=sample, threshold=thresholds)
@settings(deadline=None, max_examples=100)
def test_an_improvement_is_never_a_conflict(alone, together, threshold):
    for metric in (WM, LOSS):
        judgement = judge(metric, MaxDrop(threshold), alone, together)
        if judgement.drop <= 0:
            assert "conflict" not in judgement.outcomes.values() and judgement.point == "compatible"


@given(alone=sample, together=sample, threshold=thresholds, metric=st.sampled_from((WM, LOSS, RAD, FPR, EPSILON)))
@settings(deadline=None, max_examples=150)
def test_one_sided_tests_never_claim_both(alone, together, threshold, metric):
    criterion = metric.criterion if metric is EPSILON else type(metric.criterion)(threshold)
    judgement = judge(metric, criterion, alone, together)
    p = judgement.raw
    assert p.noninferior + p.inferior == pytest.approx(1)
    if (outcome := judgement.outcome("strict")) not in ("undecided", "ineffective"):
        assert outcome == judgement.point
    assert (judgement.outcome("paper") == "conflict") <= (judgement.point == "conflict")


@given(alone=sample, together=sample, threshold=thresholds, power=st.integers(-8, 8))
@settings(deadline=None, max_examples=100)
def test_units_do_not_matter(alone, together, threshold, power):
    unit = 2.0**power
    for metric in (WM, LOSS):
        before = judge(metric, MaxDrop(threshold), alone, together)
        after = judge(metric, MaxDrop(threshold * unit), alone.scaled(unit), together.scaled(unit))
        assert after.outcomes == before.outcomes and after.point == before.point


@given(alone=sample, together=sample, threshold=thresholds)
@settings(deadline=None, max_examples=60)
def test_direction_is_a_mirror(alone, together, threshold):
    up = judge(WM, MaxDrop(threshold), alone, together)
    down = judge(LOSS, MaxDrop(threshold), alone.scaled(-1), together.scaled(-1))
    assert down.outcomes == up.outcomes and down.drop == up.drop
    assert down.replicates_needed == up.replicates_needed


@given(alone=sample, together=sample, threshold=thresholds)
@settings(deadline=None, max_examples=60)
def test_strict_outcomes_can_be_read_off_the_interval(alone, together, threshold):
    judgement = judge(WM, MaxDrop(threshold), alone, together)
    low, high = judgement.interval
    assume(min(abs(low + threshold), abs(high + threshold)) > 1e-6)
    read = "compatible" if low > -threshold else "conflict" if high < -threshold else "undecided"
    assert judgement.outcome("strict") == read


# Calibration


@pytest.mark.parametrize(("n", "spreads"), [((5, 10), (0.01, 0.05)), ((5, 10), (0.05, 0.01)), ((3, 4), (0.02, 0.02))])
def test_wrong_claims_at_the_threshold_are_as_rare_as_alpha(n, spreads):
    draws = np.random.default_rng(20230207)
    alone, together = draws.normal(0.9, spreads[0], (2000, n[0])), draws.normal(0.8, spreads[1], (2000, n[1]))
    outcomes = [
        judged(ACCURACY, Sample(tuple(a)), Sample(tuple(b))).outcome("strict")
        for a, b in zip(alone, together, strict=True)
    ]
    assert outcomes.count("compatible") / 2000 < 0.05 + 0.015
    assert outcomes.count("conflict") / 2000 < 0.05 + 0.015
    assert outcomes.count("undecided") / 2000 > 0.87


def test_wrong_claims_at_a_growth_limit_are_as_rare_as_alpha():
    draws = np.random.default_rng(4)
    alone, together = draws.normal(3.0, 0.1, (2000, 5)), draws.normal(4.5, 0.1, (2000, 10))
    outcomes = [
        judged(EPSILON, Sample(tuple(a)), Sample(tuple(b))).outcome("strict")
        for a, b in zip(alone, together, strict=True)
    ]
    assert outcomes.count("compatible") / 2000 < 0.065 and outcomes.count("conflict") / 2000 < 0.065


@pytest.mark.parametrize("mechanisms", [2, 3])
def test_choosing_the_lowest_baseline_is_paid_for(mechanisms):
    draws = np.random.default_rng(9)
    uncorrected = compatible = conflict = 0
    for _ in range(1500):
        baselines = {str(k): Sample(tuple(draws.normal(0.9, 0.01, 5))) for k in range(mechanisms)}
        judgement = judge_accuracy(baselines, Sample(tuple(draws.normal(0.8, 0.01, 10))))
        uncorrected += judgement.raw.noninferior < 0.05
        compatible += judgement.outcome("strict") == "compatible"
        conflict += judgement.outcome("strict") == "conflict"
    assert uncorrected / 1500 > 0.065
    assert compatible / 1500 < 0.065 and conflict / 1500 < 0.065


# Combinations


def test_the_lowest_baseline():
    samples = {"wm": Sample((0.8, 0.9)), "dpsgd": Sample((0.4, 0.5)), "advtr": Sample()}
    assert lowest(samples) == "dpsgd"
    assert lowest({"b": Sample((1.0,)), "a": Sample((1.0,))}) == "a"
    with pytest.raises(UserError, match="nothing is measured"):
        lowest({"advtr": Sample()})


def test_accuracy_waits_for_all_baselines():
    full, short = Sample((0.8, 0.81, 0.82)), Sample((0.9,))
    judgement = judge_accuracy({"wm": full, "di": short, "advtr": Sample()}, full, asked=(3, 3))
    assert judgement.against == "wm" and judgement.others == (("di", 0.9),)
    assert judgement.missing == ("di alone: 1 of 3", "advtr alone: 0 of 3")
    assert judgement.outcome("paper") == "undecided"
    nothing = judge_accuracy({"wm": Sample(), "di": Sample()}, full, asked=(3, 3))
    assert nothing.missing == ("di alone: 0 of 3", "wm alone: 0 of 3")


def test_what_is_shared_must_be_better_the_more_there_is():
    recall = Metric("recall", "R", MaxDrop(0.2))
    assert judge_accuracy({}, Sample((0.8, 0.9)), recall.criterion, metric=recall).metric == recall
    with pytest.raises(UserError, match="loss"):
        judge_accuracy({}, Sample((0.8, 0.9)), LOSS.criterion, metric=LOSS)


def test_accuracy_against_a_floor_needs_no_baseline():
    together = Sample((0.8, 0.81, 0.82))
    judgement = judge_accuracy({"wm": Sample((0.9,)), "di": Sample((0.8,))}, together, Floor(0.5), asked=(3, 3))
    assert not judgement.missing and judgement.chosen == judgement.raw
    assert judgement.outcomes == {"paper": "effective", "strict": "compatible"}


GOOD = judged(WM, Sample((0.97, 0.96, 0.98)), Sample((0.95, 0.96, 0.94)))
BAD = judged(RAD, None, Sample((0.001, 0.002, 0.001)))
OPEN = judged(ACCURACY, Sample.of(0.95, 0.004, 5), Sample.of(0.88, 0.09, 10))
WAITING = judged(ACCURACY, Sample((0.9,)), Sample(), asked=(5, 10))


@pytest.mark.parametrize(
    ("judgements", "clash", "outcome", "broken"),
    [
        ((GOOD,), None, "compatible", ()),
        ((GOOD, OPEN), None, "undecided", ()),
        ((GOOD, WAITING), None, "undecided", ()),
        ((GOOD, OPEN, BAD), None, "conflict", ("rad",)),
        ((), None, "undecided", ()),
        ((), "dpsgd and signgrad both set 'gradient'", "clash", ()),
    ],
)
def test_verdicts(judgements, clash, outcome, broken):
    verdict = Verdict("mnist cnn4", ("wm", "raddata"), judgements, clash)
    assert verdict.outcomes == {"paper": outcome, "strict": outcome}
    assert verdict.broken("strict") == verdict.broken("paper") == broken
    assert verdict.missing == (
        ("accuracy, together: 0 of 10", "accuracy, alone: 1 of 5") if WAITING in judgements else ()
    )
    assert hash(verdict) == hash(replace(verdict))


def test_verdicts_are_strictly_valid_json():
    reported = judge(WM, None, None, Sample((0.5,)))
    growing = judged(EPSILON, Sample((3.0, 3.0)), Sample((3.0, 3.0)), against="dpsgd")
    infinite = judged(DI, None, DI.sample((-np.inf, -np.inf)))
    verdict = Verdict("mnist", ("wm", "di"), (GOOD, BAD, OPEN, WAITING, reported, growing, infinite))
    for rule in ("paper", "strict"):
        data = json.loads(json.dumps(verdict.to_dict(rule), allow_nan=False))
        assert data["combination"] == ["wm", "di"] and data["outcome"] == "conflict" and data["broken"] == ["rad"]
        assert data["rule"] == rule and data["clash"] is None and len(data["missing"]) == 2
        good, bad, opened, waiting = data["judgements"][:4]
        assert good["outcome"] == {"paper": "no difference", "strict": "compatible"}[rule]
        assert good["alone"] == {
            "mean": pytest.approx(0.97),
            "std": pytest.approx(0.01),
            "n": 3,
            "values": [0.97, 0.96, 0.98],
        }
        assert good["interval"][0] < good["difference"] < good["interval"][1]
        assert good["definition"]["criterion"] == {"max_drop": 0.3} and good["adjusted"] is None
        assert bad["alone"] == {"mean": None, "std": None, "n": 0, "values": []} and bad["interval"] is None
        assert opened["replicates_needed"] == 58 and opened["together"]["values"] == []
        assert waiting["missing"] == ["together: 0 of 10", "alone: 1 of 5"] and waiting["p_difference"] is None
    keys = "metric symbol outcome outcomes alone together difference interval p_difference p_equivalence threshold"
    assert set(keys.split()) < set(good) and {"p_noninferior", "p_inferior", "against", "others", "point"} < set(good)


# Correction


@given(
    st.lists(st.tuples(sample, sample, st.sampled_from((WM, RAD, None))), min_size=1, max_size=6),
    st.sampled_from((0.01, 0.05)),
)
@example(
    [
        (Sample.of(0.0, 0.0, 2), Sample.of(0.0, 0.0, 2), RAD),
        (Sample.of(0.0, 0.0, 5), Sample((0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.5)), RAD),
    ],
    0.01,
)
@settings(deadline=None, max_examples=60)
def test_holm_adjusts_each_question_over_the_study(cases, alpha):
    judgements = [judge(m or WM, m and m.criterion, a, b, alpha) for a, b, m in cases]
    study = [Verdict("r", ("a", "b"), (judgement,)) for judgement in judgements]
    adjusted = [verdict.judgements[0] for verdict in corrected(study, "holm")]
    judged_ones = [i for i, (*_, m) in enumerate(cases) if m]
    assert [adjusted[i].adjusted.inferior for i in judged_ones] == pytest.approx(
        holm([judgements[i].raw.inferior for i in judged_ones])
    )
    drops = [i for i, (*_, m) in enumerate(cases) if m is WM]
    assert [adjusted[i].adjusted.difference for i in drops] == pytest.approx(
        holm([judgements[i].raw.difference for i in drops])
    )
    for before, after in zip(judgements, adjusted, strict=True):
        assert after.raw == before.raw and after.point == before.point
        missed = before.beyond and before.alone_inferior is not None and before.alone_inferior < alpha
        assert after.outcome("strict") in (before.outcome("strict"), "ineffective" if missed else "undecided")
        assert after.outcome("paper") != "conflict" or before.outcome("paper") == "conflict"


def test_correction_changes_outcomes_and_shows_both_p_values():
    close = judged(WM, Sample.of(0.97, 0.02, 5), Sample.of(0.55, 0.12, 5))
    assert 0.005 < close.raw.inferior < 0.05
    study = [Verdict("r", (str(i),), (close,)) for i in range(10)]
    after = corrected(study)[0]
    assert study[0].outcome("strict") == "conflict" and after.outcome("strict") == "undecided"
    data = after.judgements[0].to_dict("strict")
    assert data["p_inferior"] == close.raw.inferior
    assert data["adjusted"]["p_inferior"] == pytest.approx(min(1, 10 * close.raw.inferior))
    assert corrected(study, "none") == tuple(study)


def test_untested_judgements_keep_the_family_at_its_size():
    close = judged(WM, Sample.of(0.97, 0.02, 5), Sample.of(0.55, 0.12, 5))
    verdict = Verdict(
        "r", ("a",), (close, judged(WM, Sample(), Sample(), asked=(5, 10)), judge(WM, None, None, Sample()))
    )
    first, second, third = corrected([verdict])[0].judgements
    assert first.adjusted.inferior == pytest.approx(2 * close.raw.inferior)
    assert second.adjusted == third.adjusted == PValues()


def test_the_choice_of_a_baseline_is_corrected_before_the_study():
    judgement = judge_accuracy({"a": Sample.of(0.9, 0.01, 5), "b": Sample.of(0.92, 0.01, 5)}, Sample.of(0.82, 0.03, 5))
    assert judgement.decisive.noninferior == pytest.approx(2 * judgement.raw.noninferior)
    assert judgement.to_dict()["adjusted"]["p_noninferior"] == judgement.decisive.noninferior
    assert corrected([Verdict("r", ("a", "b"), (judgement,))])[0].judgements[0].decisive == judgement.decisive


def test_unknown_corrections_meet_a_suggestion():
    with pytest.raises(UserError, match="Did you mean 'holm'"):
        corrected([], "hol")


def test_importing_verdicts_needs_no_numerics():
    code = "import sys, guardclash.judging.verdict; print(sorted({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
