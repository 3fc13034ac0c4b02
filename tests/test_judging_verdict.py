"""Judgements and verdicts: their rules, their guarantees, and their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.judge import Bare, Look, judge
from guardclash.judging.judgement import MINIMUM, Judgement
from guardclash.judging.rules import PValues, beside, check_rule, combined, paper, paper_absolute, strict
from guardclash.judging.stats import Sample, one_sample, tost, welch
from guardclash.judging.verdict import Trainings, Verdict, judge_accuracy, lowest

WM = Metric("wm_accuracy", "φ_WM", MaxDrop(0.30))
LOSS = Metric("loss", "L", MaxDrop(0.30), higher_is_better=False)
RAD = Metric("rad", "φ_RAD", Floor(0.01))
DI = Metric("di_p", "φ_DI", Ceiling(-3), higher_is_better=False, log10=True)
EPSILON = Metric("epsilon", "ε", MaxGrowth(1.5), higher_is_better=False)
FPR = Metric("fpr", "FPR", Ceiling(0.05), higher_is_better=False)
MARKED = Sample((0.2, 0.21, 0.22))
"""A trace that RAD's floor asks for."""

values = st.lists(st.floats(0, 1).map(lambda v: round(v, 3)), min_size=MINIMUM, max_size=8)
spread = st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.integers(MINIMUM, 20)).map(
    # No numbers so small that half of one is 0: other units would make another sample of them.
    lambda s: Sample.of(round(s[0], 9), round(s[1], 9), s[2])
)
sample = st.one_of(values.map(tuple).map(Sample), spread)
bares = st.one_of(st.none(), sample).map(Bare)
thresholds = st.floats(0.01, 0.9)


def judged(metric: Metric, alone: Sample | None, together: Sample, **options) -> Judgement:
    return judge(metric, metric.criterion, alone, together, **options)


def both(outcome: str) -> dict[str, str]:
    return {"paper": outcome, "strict": outcome}


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
        (("not measured together", "undecided", "compatible"), "not measured together"),
        (("ineffective", "not credible", "conflict"), "conflict"),
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
    assert judgement == judged(WM, alone, together, alpha=0.01)
    assert judgement.claims == judgement.decisive("strict") == judgement.uncorrected("paper") == judgement.raw
    assert judgement.gain is None and judgement.baselines == judgement.others == () and not judgement.too_few


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
    still = judged(EPSILON, Sample((3.0,) * 3), Sample((4.4,) * 3))
    assert still.threshold == pytest.approx(1.5) and still.drop == pytest.approx(1.4)
    assert still.outcomes == {"paper": "equivalent", "strict": "compatible"}
    assert judged(EPSILON, Sample((3.0,) * 3), Sample((4.5,) * 3)).outcome("strict") == "compatible"
    assert judged(EPSILON, Sample((3.0,) * 3), Sample((4.6,) * 3)).outcomes == both("conflict")


def test_growth_of_a_negative_value_is_towards_zero():
    alone = Sample((-2.0,) * 3)
    assert judged(EPSILON, alone, Sample((-1.2,) * 3)).outcomes == {"paper": "equivalent", "strict": "compatible"}
    assert judged(EPSILON, alone, Sample((-0.8,) * 3)).outcomes == both("conflict")
    assert (
        judged(EPSILON, alone, Sample((-0.7, -0.8))).raw.inferior
        < 0.5
        < judged(EPSILON, alone, Sample((-1.2, -1.3))).raw.inferior
    )


def test_growth_without_bound_is_a_conflict_and_no_error():
    bounded, endless = Sample((3.0, 3.1, 3.0)), EPSILON.sample((3.0, np.inf, 3.1))
    lost = judged(EPSILON, bounded, endless)
    assert lost.outcomes == both("conflict") and lost.point == "conflict" and lost.failing == 1
    assert judged(EPSILON, endless, endless.scaled(1)).outcomes == both("ineffective"), "nothing to lose"
    regained = judged(EPSILON, endless, bounded, bare=Bare(absent=endless.scaled(1))).outcomes
    assert combined([regained["strict"]]) == combined([regained["paper"]]) == "compatible"
    assert judged(EPSILON, endless, bounded, bare=Bare(absent=bounded)).outcomes == both("ineffective"), (
        "the others' bound"
    )
    assert json.loads(json.dumps(lost.to_dict(), allow_nan=False))["together"]["mean"] == "inf"


def test_the_spread_of_a_growth_limit_counts():
    alone, together = Sample((2.9, 3.0, 3.1)), Sample((4.2, 4.3, 4.4))
    assert judged(EPSILON, alone, together).raw.noninferior == pytest.approx(welch(together, alone.scaled(1.5)).p_less)


def test_a_floor_waits_for_alone_and_asks_together():
    together = Sample((0.02, 0.03, 0.025))
    for alone in (None, Sample(), Sample((0.9,)), Sample((0.9, 0.8))):
        waiting = judged(RAD, alone, together, look=Look((5, 3)))
        assert waiting.outcomes == both("undecided")
        assert waiting.missing == (f"alone: {alone.n if alone else 0} of 5",)
    judgement = judged(RAD, MARKED, together, look=Look((3, 3)))
    assert judgement.outcomes == {"paper": "effective", "strict": "compatible"}
    assert judgement.raw.noninferior == judgement.claims.noninferior
    assert judgement.raw.noninferior == pytest.approx(one_sample(together, 0.01).p_greater)
    assert judgement.threshold == 0.01 and judgement.raw.equivalence is None
    assert judgement.together_interval[0] > 0.01
    assert judged(RAD, MARKED, Sample((0.001, 0.002, 0.001))).outcomes == both("conflict")
    assert judged(RAD, MARKED, Sample((0.001, 0.02, 0.0))).outcomes == both("undecided")
    assert judged(RAD, MARKED, Sample((0.001, 0.03, 0.01))).outcomes == {"paper": "effective", "strict": "undecided"}


def test_missing_a_floor_is_a_conflict_only_if_it_is_a_loss():
    below, near = Sample((0.001, 0.002, 0.001)), Sample((0.0, 0.012, 0.024))
    lost = judged(RAD, MARKED, below)
    assert lost.raw.inferior == pytest.approx(one_sample(below, 0.01).p_less)
    assert lost.claims.inferior == pytest.approx(max(lost.raw.inferior, welch(below, MARKED).p_less))
    unshown = judged(RAD, near, below)  # its mean meets the floor, and together may be no worse
    assert unshown.raw.inferior < 0.05 < unshown.claims.inferior == pytest.approx(welch(below, near).p_less)
    assert unshown.point == "conflict" and unshown.outcomes == both("undecided")
    assert judged(RAD, Sample((-0.2, -0.07, 0.06)), below).outcomes == both("ineffective"), "an improvement, on record"


def test_rounding_does_not_break_a_bound():
    alone = Sample((0.1, 0.1, 0.1))
    for together in (Sample((0.1 + 0.2,) * 3), Sample((0.1 + 0.2, 0.3, 0.3)), Sample((0.3,) * 3)):
        judgement = judge(FPR, Ceiling(0.3), alone, together)
        assert judgement.point == judgement.outcome("strict") == "compatible"
    assert judge(FPR, Ceiling(0.3), alone, Sample((0.3001,) * 3)).point == "conflict"


def test_a_ceiling_on_log10_p_values():
    alone = Sample((-9.0, -8.0, -8.5))
    assert judged(DI, alone, DI.sample((-np.inf,) * 5)).outcomes == {"paper": "effective", "strict": "compatible"}
    assert judged(DI, alone, Sample((-1.0, -0.5, -0.9))).outcomes == both("conflict")
    assert judged(DI, alone, Sample((-3.0,) * 3)).outcomes == {"paper": "effective", "strict": "compatible"}


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
    assert judgement.outcomes == {"paper": "undecided", "strict": "undecided"} and judgement.too_few
    assert judgement.point is not None and not judgement.missing
    assert judgement.raw == PValues() and judgement.replicates_needed is None


@pytest.mark.parametrize("metric", [WM, LOSS, RAD, DI, EPSILON])
@pytest.mark.parametrize(("alone", "together"), [(2, 5), (5, 2), (2, 2), (1, 5), (5, 1)])
def test_fewer_than_three_replicates_decide_nothing(metric, alone, together):
    for values in ((0.9, 0.9), (0.9, 0.0), (0.0, 0.9), (-9.0, -9.0), (-9.0, 3.0), (3.0, -9.0)):
        judgement = judged(metric, Sample(values[:1] * alone), Sample(values[1:] * together))
        assert judgement.outcomes == both("undecided") and judgement.too_few


@pytest.mark.parametrize("n", [1, 2])
def test_what_is_computed_needs_no_replicates(n):
    computed = replace(EPSILON, computed=True)
    assert judged(computed, Sample((3.0,) * n), Sample((4.6,) * n)).outcomes == both("conflict")
    assert judged(computed, Sample((3.0,) * n), Sample((4.4,) * n)).outcome("strict") == "compatible"


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
    judgement = judged(WM, alone, together, look=Look(asked))
    assert judgement.outcomes == {"paper": "undecided", "strict": "undecided"}
    assert judgement.missing == missing


def test_replicates_needed_are_named_only_where_they_help():
    undecided = judged(ACCURACY, Sample.of(0.95, 0.004, 5), Sample.of(0.88, 0.09, 10))
    assert undecided.outcome("strict") == "undecided" and undecided.replicates_needed == 58
    more = replace(undecided.together, summary=(0.88, 0.09, 200))
    assert judged(ACCURACY, Sample.of(0.95, 0.004, 200), more).replicates_needed is None
    assert judged(ACCURACY, Sample.of(0.9, 0.01, 5), Sample.of(0.8, 0.01, 5)).replicates_needed is None
    assert judged(RAD, MARKED, Sample.of(0.02, 0.03, 3)).replicates_needed > 3


def test_replicates_needed_regard_the_choice_of_a_baseline():
    alone, together = Sample.of(0.87, 0.004, 5), Sample.of(0.80, 0.06, 10)
    one = judge_accuracy({"a": alone}, together)
    two = judge_accuracy({"a": alone, "b": alone}, together)
    assert one.replicates_needed == 27 and two.replicates_needed == 34


@given(alone=sample, together=sample, threshold=thresholds, more=st.floats(0, 0.5), bare=bares)
@settings(deadline=None, max_examples=150)
def test_a_larger_threshold_never_turns_compatible_into_conflict(alone, together, threshold, more, bare):
    tight = judge(WM, MaxDrop(threshold), alone, together, bare=bare)
    loose = judge(WM, MaxDrop(threshold + more), alone, together, bare=bare)
    for rule in ("paper", "strict"):
        words = [combined([j.outcome(rule)]) for j in (tight, loose)]
        if "ineffective" in words:  # the larger the drop, the more is asked of an effect
            assert bare.unprotected is not None and words[1] == "ineffective"
            continue
        ranks = [("compatible", "undecided", "conflict").index(word) for word in words]
        assert ranks[1] <= ranks[0] or (tight.gain is not None and words == ["compatible", "undecided"])


@given(alone=sample, together=sample, threshold=thresholds, bare=bares)
@settings(deadline=None, max_examples=100)
def test_an_improvement_is_never_a_conflict(alone, together, threshold, bare):
    for metric in (WM, LOSS, RAD, FPR):
        judgement = judge(metric, type(metric.criterion)(threshold), alone, together, bare=bare)
        if judgement.drop <= 0:
            assert "conflict" not in judgement.outcomes.values()
            assert judgement.point == "compatible" or judgement.gain is not None


@given(
    alone=sample,
    together=sample,
    threshold=thresholds,
    metric=st.sampled_from((WM, LOSS, RAD, FPR, EPSILON)),
    bare=bares,
)
@settings(deadline=None, max_examples=150)
def test_one_sided_tests_never_claim_both(alone, together, threshold, metric, bare):
    criterion = metric.criterion if metric is EPSILON else type(metric.criterion)(threshold)
    judgement = judge(metric, criterion, alone, together, bare=bare)
    assert judgement.raw.noninferior + judgement.raw.inferior == pytest.approx(1)
    assert judgement.claims.noninferior >= judgement.raw.noninferior
    assert not (judgement.claims.noninferior < 0.05 and judgement.claims.inferior < 0.05)
    if (outcome := judgement.outcome("strict")) not in ("undecided", "ineffective"):
        assert outcome == judgement.point
    assert (judgement.outcome("paper") == "conflict") <= (judgement.point == "conflict")


@given(alone=sample, together=sample, threshold=thresholds, power=st.integers(-8, 8), bare=bares)
@settings(deadline=None, max_examples=100)
def test_units_do_not_matter(alone, together, threshold, power, bare):
    unit = 2.0**power
    scaled = Bare(bare.unprotected and bare.unprotected.scaled(unit))
    for metric in (WM, LOSS, RAD, FPR):
        kind = type(metric.criterion)
        before = judge(metric, kind(threshold), alone, together, bare=bare)
        after = judge(metric, kind(threshold * unit), alone.scaled(unit), together.scaled(unit), bare=scaled)
        assert after.outcomes == before.outcomes and after.point == before.point


@given(alone=sample, together=sample, threshold=thresholds, bare=bares)
@settings(deadline=None, max_examples=60)
def test_direction_is_a_mirror(alone, together, threshold, bare):
    mirrored = Bare(bare.unprotected and bare.unprotected.scaled(-1))
    for high, low, sign in ((WM, LOSS, 1), (RAD, FPR, -1)):
        up = judge(high, type(high.criterion)(threshold), alone, together, bare=bare)
        bound = type(low.criterion)(sign * threshold)
        down = judge(low, bound, alone.scaled(-1), together.scaled(-1), bare=mirrored)
        assert down.outcomes == up.outcomes and down.drop == up.drop and down.failing == up.failing
        assert down.replicates_needed == up.replicates_needed and down.claims == up.claims


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
    judgement = judge_accuracy({"wm": full, "di": short, "advtr": Sample()}, full, look=Look((3, 3)))
    assert judgement.against == "wm" and judgement.others == (("di", 0.9),)
    assert judgement.missing == ("di alone: 1 of 3", "advtr alone: 0 of 3")
    assert judgement.outcome("paper") == "undecided"
    nothing = judge_accuracy({"wm": Sample(), "di": Sample()}, full, look=Look((3, 3)))
    assert nothing.missing == ("di alone: 0 of 3", "wm alone: 0 of 3")


def test_what_is_shared_must_be_better_the_more_there_is():
    recall = Metric("recall", "R", MaxDrop(0.2))
    judgement = judge_accuracy({}, Sample((0.8, 0.9)), recall.criterion, metric=recall)
    assert judgement.metric == replace(recall, gain=False), "what all models have is no protection's effect"
    with pytest.raises(UserError, match="loss"):
        judge_accuracy({}, Sample((0.8, 0.9)), LOSS.criterion, metric=LOSS)


def test_accuracy_against_a_floor_is_lost_only_against_every_baseline():
    low, high, together = Sample((0.8, 0.81, 0.82)), Sample((0.9, 0.91, 0.89)), Sample((0.8, 0.81, 0.82))
    short = judge_accuracy({"wm": Sample((0.9,)), "di": low}, together, Floor(0.5), look=Look((3, 3)))
    assert short.missing == ("wm alone: 1 of 3",) and short.outcomes == both("undecided")
    judgement = judge_accuracy({"wm": high, "di": low}, together, Floor(0.5), look=Look((3, 3)))
    assert not judgement.missing and judgement.claims.noninferior == judgement.raw.noninferior
    assert judgement.outcomes == {"paper": "effective", "strict": "compatible"}
    broken = judge_accuracy({"wm": high, "di": low}, together, Floor(0.85))
    assert broken.raw.inferior < 0.05 < broken.claims.inferior == pytest.approx(welch(together, low).p_less)
    assert broken.outcomes == both("undecided"), "di alone has no more"
    assert judge_accuracy({"wm": high, "di": high}, together, Floor(0.85)).outcomes == both("conflict")


GOOD = judged(WM, Sample((0.97, 0.96, 0.98)), Sample((0.95, 0.96, 0.94)))
BAD = judged(RAD, MARKED, Sample((0.001, 0.002, 0.001)))
OPEN = judged(ACCURACY, Sample.of(0.95, 0.004, 5), Sample.of(0.88, 0.09, 10))
WAITING = judged(ACCURACY, Sample((0.9,)), Sample(), look=Look((5, 10)))


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
    assert verdict == replace(verdict)


def test_judgements_and_verdicts_are_values():
    verdict = Verdict("mnist cnn4", ("wm", "raddata"), (GOOD, BAD))
    assert hash(GOOD) == hash(replace(GOOD)) and hash(verdict) == hash(replace(verdict))


@pytest.mark.parametrize(
    ("together", "alone", "judgements", "outcome"),
    [
        ((2,), (), (GOOD, OPEN), "does not train together"),
        ((0, 1, 2), (), (WAITING,), "does not train together"),
        ((0, 1), (), (BAD, OPEN), "conflict"),  # a loss that is shown is graver
        ((0, 1), (1,), (GOOD, OPEN), "undecided"),  # it diverges alone as well
        ((), (), (GOOD,), "compatible"),
    ],
)
def test_a_combination_that_diverges_does_not_train_together(together, alone, judgements, outcome):
    trainings = (
        Trainings("{a, b}", (0, 1, 2), together),
        Trainings("{a}", (0, 1), alone),
        Trainings("{b}", (0, 1), ()),
    )
    verdict = Verdict("r", ("a", "b"), judgements, trainings=trainings)
    assert verdict.outcomes == both(outcome)
    if outcome == "does not train together":
        assert verdict.settled("strict") and not verdict.missing, "no run of the study would change it"
    assert Verdict("r", ("a", "b"), judgements).outcome("strict") != "does not train together"


def test_verdicts_are_strictly_valid_json():
    reported = judge(WM, None, None, Sample((0.5,)))
    growing = judged(EPSILON, Sample((3.0, 3.0)), EPSILON.sample((3.0, np.inf)), against="dpsgd")
    infinite = judged(DI, DI.sample((-np.inf,) * 3), DI.sample((-np.inf,) * 3))
    gaining = judged(WM, Sample((0.5, 0.51, 0.52)), Sample((0.5, 0.45, 0.5)), bare=Bare(Sample((0.1, 0.1, 0.1))))
    verdict = Verdict("mnist", ("wm", "di"), (GOOD, BAD, OPEN, WAITING, gaining, reported, growing, infinite))
    for rule in ("paper", "strict", "bounded"):
        data = json.loads(json.dumps(verdict.to_dict(rule), allow_nan=False))
        assert data["combination"] == ["wm", "di"] and data["rule"] == rule
        assert data["outcomes"] == {one: verdict.outcome(one) for one in beside(rule)} and rule in data["outcomes"]
        assert data["clash"] is None and len(data["missing"]) == 2
        expected = ("undecided", []) if rule == "bounded" else ("conflict", ["rad"])
        assert (data["outcome"], data["broken"]) == expected
        good, bad, opened, waiting, gained = data["judgements"][:5]
        said = {"paper": "no difference", "strict": "compatible", "bounded": "undecided"}  # no range is known
        assert good["outcome"] == said[rule]
        assert good["alone"] == {
            "mean": pytest.approx(0.97),
            "std": pytest.approx(0.01),
            "n": 3,
            "values": [0.97, 0.96, 0.98],
        }
        assert good["interval"][0] < good["difference"] < good["interval"][1] and good["confidence"] == 0.9
        assert good["definition"]["criterion"] == {"max_drop": 0.3} and good["gain"] is None
        assert (good["failing"], good["apart"]) == (0, []) and 0.6 < good["unseen"] < 0.7
        untested = {f"p_{name}": None for name in vars(PValues())}
        assert good["adjusted"] == (untested if rule == "bounded" else None)
        assert good["p_noninferior"] == GOOD.raw.noninferior and bad["gain"]["p_alone"] < 0.05
        claimed = {f"p_{name}": value for name, value in vars(gaining.claims).items()}
        assert gaining.claims != gaining.raw and gained["adjusted"] == (untested if rule == "bounded" else claimed)
        assert gained["gain"]["p_retained"] < 0.05 and gained["gain"]["unprotected"] == [0.1, 0.1, 0.1]
        assert opened["replicates_needed"] == 58 and opened["together"]["values"] == []
        assert waiting["missing"] == ["together: 0 of 10", "alone: 1 of 5"]
        assert waiting["together"] == {"mean": None, "std": None, "n": 0, "values": []}
        assert waiting["p_difference"] is None and waiting["interval"] is None
    keys = "metric symbol outcome outcomes alone together difference interval p_difference p_equivalence threshold"
    assert set(keys.split()) < set(good) and {"p_noninferior", "p_inferior", "against", "others", "point"} < set(good)


def test_importing_verdicts_needs_no_numerics():
    code = "import sys, guardclash.judging.verdict; print(sorted({'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
