"""Verdicts that were wrong: each case of an outside audit, from values by seed to the word that is said."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from guardclash.errors import UserError
from guardclash.judging.criteria import ACCURACY, Ceiling, Floor, MaxDrop, MaxGrowth, Metric
from guardclash.judging.judge import Bare, judge
from guardclash.judging.judgement import Judgement
from guardclash.judging.stats import Sample
from guardclash.judging.verdict import Verdict, judge_accuracy
from guardclash.records.cells import Cell, Named
from guardclash.records.plain import results_from, to_plain
from guardclash.records.results import Results
from guardclash.reporting.findings import find
from guardclash.reporting.reasons import coverage, reasons, warnings
from guardclash.reporting.text import render
from guardclash.studies.study import Study
from guardclash.studies.verdicts import verdict_so_far, verdicts, wanted

Value = Callable[[tuple[str, ...], str | None, str, int], float | None]
WM = Metric("wm", "φ_WM", MaxDrop(0.30), range=(0.0, 1.0))
MARKS = Metric("rad", "φ_RAD", Floor(0.01), net=True, paired=True, decimals=3)
PRINT = Metric("di", "log₁₀ φ_DI", Ceiling(-3), False, 1, log10=True)
BUDGET = Metric("epsilon", "ε", MaxGrowth(1.5), False, gain=False, computed=True)
ATTACK = Metric("asr", "ASR", MaxDrop(0.10), False, range=(0.0, 1.0))
PROOF = Metric("log_v", "log₁₀ V", None, False, 1, log10=True, claim=Ceiling(-3))
METRICS: dict[str | None, tuple[Metric, ...]] = {
    None: (ACCURACY,),
    "wm": (WM,),
    "raddata": (MARKS,),
    "di": (PRINT,),
    "dpsgd": (BUDGET,),
    "sanitiser": (ATTACK,),
    "other": (),
    "proof": (WM, PROOF),
}


@dataclass(frozen=True)
class Diverges:
    """A training that ends in no numbers."""


def study(*names: str, **keys: Any) -> Study:
    combination = tuple(Named(name) for name in names)
    recipe = Named("digits", (("scale", "smoke"),))
    return Study("audit", (recipe,), (combination,), **{"alone": 5, "together": 10, **keys})


def results(asked: Study, value: Value, diverges: Callable[[tuple[str, ...], int], bool] = lambda *_: False) -> Results:
    """A results file as a run writes it; a value of None is left out by `measure`."""
    return results_from({"cells": [_cell(asked, cell, value, diverges) for cell in asked.cells()]})


def _cell(asked: Study, cell: Cell, value: Value, diverges: Callable[[tuple[str, ...], int], bool]) -> dict[str, Any]:
    names, owners = tuple(named.name for named in cell.combination), (None, *asked.measured_in(cell))

    def trial(seed: int) -> dict[str, Any]:
        if diverges(names, seed):
            return {"seed": seed, "trial": str(seed), "error": "Diverged: nan", "diverged": True, "measurements": []}
        measured = []
        for of in owners:
            given = {m.name: value(names, of and of.name, m.name, seed) for m in METRICS[of and of.name]}
            kept = {name: number for name, number in given.items() if number is not None}
            measured.append({"of": of and of.to_dict(), "values": kept, "warnings": []})
        return {"seed": seed, "trial": str(seed), "seconds": 1.0, "measurements": measured}

    return {
        "key": cell.key,
        "recipe": {"protected_epochs": None, "examples": 1, "epochs": 1, "batch_size": 1, "model": "m", "norm": "n"}
        | {"test_examples": None},
        "clash": None,
        "facts": {},
        "plan": "-".join(names),
        "measures": [
            {"of": of and of.to_dict(), "metrics": [one.to_dict() for one in METRICS[of and of.name]]} for of in owners
        ],
        "trials": [trial(seed) for seed in asked.seeds(cell)],
    }


def noise(*place: object, scale: float = 0.01) -> float:
    """The same for the same place, whatever is asked before."""
    return float(np.random.default_rng(_seed(place)).normal(0, scale))


def _seed(place: tuple[object, ...]) -> int:
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:4], "big")


def only(asked: Study, found: Results) -> Verdict:
    (verdict,) = verdicts(asked, found)
    return verdict


def one(verdict: Verdict, name: str) -> Judgement:
    return next(judgement for judgement in verdict.judgements if judgement.metric.name == name)


# A1: a fixed bound blames without a loss


def test_an_improvement_below_a_bound_is_no_conflict():
    """On record: φ_RAD -0.070 ± 0.128 alone and -0.003 ± 0.002 together was a conflict by both rules."""
    alone, together = Sample((-0.19, -0.08, 0.06)), Sample((-0.001, -0.003, -0.005, -0.002, -0.004))
    found = judge(replace(MARKS, net=False), MARKS.criterion, alone, together)
    assert found.raw.inferior < 1e-3 and set(found.outcomes.values()) == {"ineffective"}


@pytest.mark.parametrize("d", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("n", [(3, 5), (3, 10), (5, 10), (5, 5)])
def test_a_noisy_mechanism_below_its_bound_is_not_blamed_on_others(d, n):
    """No effect at all, the true mean d deviations below the floor; up to 0.62 of these were conflicts."""
    draws = np.random.default_rng(int(10 * d) + sum(n))
    metric, conflicts = Metric("m", "φ", Floor(0.0)), 0
    for _ in range(600):
        arms = (Sample(tuple(draws.normal(-d, 1.0, size))) for size in n)
        conflicts += judge(metric, metric.criterion, *arms).outcome("strict") == "conflict"
    assert conflicts <= 600 * 0.05 + 3 * math.sqrt(600 * 0.05 * 0.95)


def test_a_real_loss_against_a_bound_is_still_found():
    draws = np.random.default_rng(1)
    metric = Metric("m", "φ", Floor(0.0))
    found = [
        judge(metric, metric.criterion, Sample(tuple(draws.normal(3, 1, 3))), Sample(tuple(draws.normal(-2, 1, 5))))
        for _ in range(300)
    ]
    assert sum(judgement.outcome("strict") == "conflict" for judgement in found) > 0.9 * 300


def marked(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
    """Marked images are hard for all; their trace is lost beside `other`, whose models find them easier."""
    if metric == "accuracy":
        return 0.9 + noise("acc", names, seed)
    hard = -0.5 + 0.3 * math.sin(seed) + (0.52 if "other" in names else 0.0)  # the same for all models of a seed
    return hard + (0.3 if names == ("raddata",) else 0.0) + noise(names, seed, scale=0.002)


def test_marks_are_judged_by_their_trace_seed_by_seed():
    asked = study("raddata", "other", together=5)
    found = one(only(asked, results(asked, marked)), "rad")
    assert found.alone.mean == pytest.approx(0.3, abs=0.01) and found.together.mean == pytest.approx(0, abs=0.01)
    assert found.together.std < 0.01, "pairs of one seed share how hard its marks are"
    assert set(found.outcomes.values()) == {"conflict"} and found.symbol == "φ_RAD net"
    said = " ".join(str(one_said) for one_said in warnings(asked, only(asked, results(asked, marked)), "strict"))
    assert "φ_RAD net is what the mechanism adds, with minus without it; it is compared seed by seed" in said


def test_without_the_same_models_unmarked_a_trace_is_not_judged():
    asked = study("raddata", "other", together=5)
    found = results(asked, lambda *place: None if place[0] == ("other",) and place[1] else marked(*place))
    judged = one(only(asked, found), "rad")
    assert judged.outcome("strict") == "undecided" and "without raddata: 0 of 5" in judged.missing


def test_a_control_that_the_study_lacks_is_asked_for():
    asked = study("raddata", "other", "di", together=5)
    judged = one(only(asked, results(asked, lambda *place: -9.0 if place[2] == "di" else marked(*place))), "rad")
    assert judged.outcome("strict") == "undecided"
    assert judged.missing == ("the same combination without raddata, which the study does not have: add it",)


def test_a_trace_that_is_all_gone_is_lost_whatever_a_drop_may_be():
    net = replace(MARKS, criterion=MaxDrop(0.3))
    without = Sample((-0.5, 0.3, 0.8, -0.2), seeds=(0, 1, 2, 3))
    alone, gone = (Sample(tuple(v + a for v in without.values), seeds=without.seeds) for a in (0.25, 0.001))
    found = judge(net, net.criterion, alone, gone, bare=Bare(without, without))
    assert set(found.outcomes.values()) == {"conflict"}


def test_means_and_tests_of_a_paired_metric_rest_on_the_same_seeds():
    paired = replace(WM, paired=True)
    together = Sample((0.40, 0.42, 0.41, *(0.95,) * 7), seeds=tuple(range(10)))
    found = judge(paired, paired.criterion, Sample((0.9, 0.91, 0.92), seeds=(0, 1, 2)), together)
    assert found.point == found.outcome("strict") == found.outcome("paper") == "conflict"


# A2, A3: what makes "no difference" easier


def test_the_papers_rule_goes_with_neither_seeds_step_by_step_nor_a_correction():
    for keys in ({"start": 3, "alone": 10, "together": 10}, {"correction": "holm"}):
        with pytest.raises(UserError, match="a test that does not reject"):
            study("wm", "other", rule="paper", **keys)
        with pytest.raises(UserError, match="rule"):
            study("wm", "other", **keys).under("paper")


def falling(drop: float, spread: float) -> Value:
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        if metric == "accuracy":
            return 0.9 + noise("acc", names, seed, scale=0.001)
        level = 0.05 if "wm" not in names else 0.95 - (drop if "other" in names else 0.0)
        return min(1.0, max(0.0, level + noise(names, seed, scale=spread)))

    return value


def test_a_loss_that_three_seeds_do_not_show_is_not_called_no_difference():
    asked = study("wm", "other", start=3, alone=10, together=10)
    found = results(asked, falling(0.6, 0.35))
    for n in (3, 5, 8):
        early = replace(asked, start=3)
        verdict, looked = verdict_so_far(early, results_from(_until(to_plain(found), n)), _pair(asked))
        if looked < 10:
            assert one(verdict, "wm").outcome("paper") in ("undecided", "conflict")


def _pair(asked: Study) -> Cell:
    return next(cell for cell in asked.cells() if len(cell.combination) > 1)


def _until(content: Any, n: int) -> dict[str, Any]:
    return {"cells": [{**cell, "trials": cell["trials"][:n]} for cell in content["cells"]]}


def test_holm_leaves_the_papers_words_alone():
    """On record: with Holm, φ_ADV 0.93 -> 0.66 became "compatible" under the paper's rule."""
    fallen = judge(WM, WM.criterion, Sample.of(0.95, 0.15, 3), Sample.of(0.5, 0.15, 3))
    assert fallen.outcome("paper") == "conflict" and 0.01 < fallen.raw.difference < 0.05
    from guardclash.judging.verdict import corrected

    many = [Verdict("r", (str(i),), (fallen,)) for i in range(54)]
    for correction in ("verdict", "holm"):
        assert {found.outcome("paper") for found in corrected(many, correction)} == {"conflict"}


# A4: step by step, a word of another metric must not end the search for a conflict


def test_a_conflict_is_found_beside_a_mechanism_that_never_works():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        if metric == "accuracy":
            return 0.9 + noise("acc", names, seed, scale=0.001)
        if metric == "rad":
            return -0.1 + noise("rad", seed) + noise("rad", names, seed, scale=0.001)
        level = 0.1 if "wm" not in names else 0.9 - (0.5 if "raddata" in names else 0.0)
        return min(1.0, max(0.0, level + noise(names, seed, scale=0.02 + 0.1 * (len(names) > 1))))

    asked = study("wm", "raddata", start=3, alone=10, together=10)
    verdict, looked = verdict_so_far(asked, results(asked, value), _pair(asked))
    assert looked > 3, "three seeds tell that one never works, and not yet what became of the other"
    assert one(verdict, "rad").outcome("strict") == "ineffective"
    assert verdict.outcome("strict") == "conflict" and verdict.broken("strict") == ("wm",)


def test_all_parts_of_three_mechanisms_get_the_seeds_that_their_verdict_needs():
    asked = study("wm", "other", "di", start=3, alone=10, together=10)

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        own = 0.8 - 0.3 * (len(names) > 1) if "wm" in names else 0.05
        level = {"accuracy": 0.9, "di": -9.0}.get(metric, own)
        return level + noise(names, metric, seed, scale=0.04 if metric == "wm" and "wm" in names else 0.001)

    found = results(asked, value)
    verdict, looked = verdict_so_far(asked, results_from(_until(to_plain(found), 3)), _pair3(asked))
    needed = wanted(asked, results_from(_until(to_plain(found), 3)))
    assert looked == 5 and verdict.missing
    parts = [cell for cell in asked.cells() if len(cell.combination) < 2]
    assert {needed[cell.key] for cell in parts} == {5}, "each mechanism alone and the unprotected model"


def _pair3(asked: Study) -> Cell:
    return next(cell for cell in asked.cells() if len(cell.combination) == 3)


# A5: accuracy against a baseline that is lowest by chance


@pytest.mark.parametrize(
    "baselines", [((0.800, 0.05), (0.805, 0.001)), ((0.80, 0.03), (0.81, 0.003)), ((0.9, 0.01), (0.9, 0.01))]
)
def test_a_precise_baseline_that_is_lowest_by_chance_makes_no_conflict(baselines):
    """A true drop of exactly the limit below the lowest; up to 0.43 of these were conflicts."""
    draws, conflicts = np.random.default_rng(5), 0
    for _ in range(600):
        alone = {str(i): Sample(tuple(draws.normal(mean, std, 5))) for i, (mean, std) in enumerate(baselines)}
        together = Sample(tuple(draws.normal(min(baselines)[0] - 0.10, 0.02, 10)))
        conflicts += judge_accuracy(alone, together).outcome("strict") == "conflict"
    assert conflicts <= 600 * 0.05 + 3 * math.sqrt(600 * 0.05 * 0.95)


def test_the_level_of_a_study_counts_for_accuracy_too():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        if metric == "accuracy":
            return (0.9 - 0.16 * (len(names) > 1)) + noise(names, seed, scale=0.04)
        return 0.95 if "wm" in names else 0.05

    found = {}
    for alpha in (0.05, 1e-6):
        asked = study("wm", "other", alpha=alpha, correction="none")
        found[alpha] = one(only(asked, results(asked, value)), "accuracy")
        assert found[alpha].alpha == alpha
    assert [found[alpha].outcome("strict") for alpha in found] == ["conflict", "undecided"]


# A6: epsilon


def test_a_complete_loss_of_privacy_is_a_conflict_and_no_crash():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> Any:
        if metric == "accuracy":
            return 0.9 + noise(names, seed)
        if metric == "epsilon":
            return None if "dpsgd" not in names else "inf" if len(names) > 1 else 3.0
        return marked(names, of, metric, seed)

    asked = study("dpsgd", "raddata", together=5)
    verdict = only(asked, results(asked, value))
    assert one(verdict, "epsilon").outcomes == {"paper": "conflict", "strict": "conflict"}
    assert verdict.outcome("strict") == "conflict"
    text = render(find(asked, results(asked, value), "strict"))
    assert "ε breaks its limit (× 1.5): 3.00 alone, ∞ together." in text
    json.dumps(verdict.to_dict("strict"), allow_nan=False)


def test_no_privacy_already_alone_is_no_conflict():
    without = judge(BUDGET, BUDGET.criterion, Sample((math.inf,) * 5), Sample((math.inf,) * 5))
    assert set(without.outcomes.values()) == {"ineffective"}


def test_a_computed_metric_is_said_to_be_compatible_by_construction():
    asked = study("dpsgd", "other", together=5)

    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return 0.9 + noise(names, seed) if metric == "accuracy" else 3.0 if "dpsgd" in names else None

    verdict = only(asked, results(asked, value))
    assert verdict.outcome("strict") == "compatible"
    assert any("ε is compatible by construction" in str(said) for said in warnings(asked, verdict, "strict"))


# A7: what fails or is missing speaks


@pytest.mark.parametrize("seeds", [range(6), (1, 3, 5)])
def test_a_combination_that_diverges_does_not_train_together(seeds):
    asked = study("wm", "other", alone=3, together=6)
    found = results(asked, falling(0.0, 0.01), lambda names, seed: len(names) > 1 and seed in seeds)
    verdict = only(asked, found)
    assert verdict.outcomes == {"strict": "does not train together", "paper": "does not train together"}
    said = " ".join(str(reason) for reason in reasons(verdict, "strict"))
    assert f"{len(seeds)} of 6 trainings together diverged" in said and "alone none of 9" in said
    assert "would end so again" in said and not verdict.missing
    assert "does not train together" in render(find(asked, found, "strict"))


def test_what_diverges_alone_as_well_is_not_laid_to_the_combination():
    asked = study("wm", "other", alone=3, together=6)
    found = results(asked, falling(0.0, 0.01), lambda names, seed: "other" in names and seed == 1)
    assert only(asked, found).outcome("strict") == "undecided"


def test_trainings_that_are_still_to_come_may_yet_train():
    asked = study("wm", "other", alone=3, together=6)
    found = results(asked, falling(0.0, 0.01), lambda names, seed: len(names) > 1)
    assert only(asked, results_from(_until(to_plain(found), 3))).outcome("strict") == "undecided"


def test_a_metric_that_is_left_out_in_company_is_not_dropped():
    asked = study("wm", "other")

    def shy(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return None if metric == "wm" and len(names) > 1 else falling(0.0, 0.01)(names, of, metric, seed)

    found = results(asked, shy)
    verdict = only(asked, found)
    assert set(verdict.outcomes.values()) == {"not measured together"}
    assert "φ_WM is measured alone (5 seeds) and never together" in render(find(asked, found, "strict"))


def test_what_is_left_out_in_company_waits_for_what_it_is_alone():
    asked = study("wm", "other")
    found = results(
        asked, lambda *place: None if place[2] == "wm" and len(place[0]) > 1 else falling(0.0, 0.01)(*place)
    )
    cells = [{**cell, "trials": []} if cell["plan"] == "wm" else cell for cell in to_plain(found)["cells"]]
    verdict = only(asked, results_from({"cells": cells}))
    assert verdict.outcome("strict") == "undecided" and "wm, wm alone: 0 of 5" in verdict.missing


def test_a_metric_without_meaning_in_company_declares_it(monkeypatch):
    asked = study("wm", "other")

    def shy(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float | None:
        return None if metric == "wm" and len(names) > 1 else falling(0.0, 0.01)(names, of, metric, seed)

    monkeypatch.setitem(METRICS, "wm", (replace(WM, optional=True),))
    assert only(asked, results(asked, shy)).outcome("strict") == "compatible"
    monkeypatch.setitem(METRICS, "wm", (WM,))
    nowhere = results(asked, lambda *place: None if place[2] == "wm" else shy(*place))
    assert only(asked, nowhere).outcome("strict") == "compatible", "it has no meaning alone either"


# Gain first


@pytest.mark.parametrize("bare", [1.0, 0.995])
def test_a_sanitiser_that_sanitises_nothing_is_ineffective(bare):
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        if metric == "accuracy":
            return 0.9 + noise("acc", names, seed)
        return min(1.0, (0.99 if "sanitiser" in names else bare) + noise(names, seed, scale=0.003))

    asked = study("sanitiser", "other")
    found = results(asked, value)
    verdict = only(asked, found)
    assert set(verdict.outcomes.values()) == {"ineffective"}
    assert "ASR shows no effect alone over the unprotected model" in render(find(asked, found, "strict"))


def test_a_watermark_that_proves_nothing_alone_is_ineffective():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        if metric == "log_v":
            return -0.7 + noise(names, seed)
        return falling(0.0, 0.01)(tuple("wm" if name == "proof" else name for name in names), of, metric, seed)

    asked = study("proof", "other")
    found = results(asked, value)
    assert set(only(asked, found).outcomes.values()) == {"ineffective"}
    assert "log₁₀ V misses its limit (claim ≤ -3) already alone (-0.7)" in render(find(asked, found, "strict"))


def test_a_metric_at_the_unprotected_models_level_is_lost_whatever_a_drop_may_be():
    """0.35 alone and 0.10, which is chance, together were compatible under a drop of at most 0.30."""
    alone, together = Sample((0.35, 0.36, 0.34, 0.35, 0.36)), Sample((0.10, 0.11, 0.09, 0.10, 0.10))
    bare = Bare(Sample((0.10, 0.09, 0.11, 0.10, 0.10)))
    lost = judge(WM, WM.criterion, alone, together, bare=bare)
    assert set(lost.outcomes.values()) == {"conflict"}
    kept = judge(WM, WM.criterion, alone, Sample((0.30, 0.31, 0.29, 0.30, 0.30)), bare=bare)
    assert kept.outcome("strict") == "compatible"


def test_few_noisy_seeds_do_not_pass_for_a_mechanism_that_does_not_work():
    """Its mean shows an effect, its three seeds do not prove it: neither praise nor "ineffective"."""
    bare = Bare(Sample((0.1, 0.1, 0.1)))
    open_ = judge(WM, WM.criterion, Sample((0.2, 0.9, 1.0)), Sample((0.2, 0.95, 1.0)), bare=bare)
    assert open_.outcome("strict") == open_.outcome("paper") == "undecided"


# A8, A9: advice and what alpha covers


def test_the_advice_does_not_invite_to_look_again():
    asked = study("wm", "other", alone=3, together=3)
    found = results(asked, falling(0.25, 0.08))
    text = " ".join(render(find(asked, found, "strict")).split())
    assert "would probably decide. Plan them beforehand" in text and "may err once more by α" in text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "α = 0.05 covers each verdict: its conflict over up to 2 metrics by Holm"),
        ({"correction": "none"}, "covers each metric, if seeds are about normal (docs/trust.md); a verdict is a wrong"),
        ({"correction": "holm"}, "covers this whole study"),
        ({"rule": "paper"}, "is the level of single tests"),
        ({"rule": "bounded"}, "whatever the distribution"),
    ],
)
def test_what_alpha_covers_is_said_where_a_verdict_is_read(keys, said):
    asked = study("wm", "other", **keys)
    found = results(asked, falling(0.0, 0.01))
    assert said in coverage(asked, verdicts(asked, found))
    assert said[:30] in " ".join(render(find(asked, found, asked.rule)).split())


def test_a_control_that_fires_as_rarely_as_chance_does_discredits_nobody(monkeypatch):
    controlled = replace(PRINT, controls=("framed",))
    monkeypatch.setitem(METRICS, "di", (controlled, Metric("framed", "framed", None, False, log10=True)))

    def value(fires: int) -> Value:
        def of_seed(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
            if metric == "framed":
                return -3.5 if seed < fires and len(names) > 1 else -0.5
            return (0.9 if metric == "accuracy" else -9.0) + noise(names, seed)

        return of_seed

    many = study("di", "other", alone=50, together=50)
    assert only(many, results(many, value(1))).outcome("strict") == "compatible", "1 of 100 at 1e-3"
    assert only(many, results(many, value(2))).outcome("strict") == "not credible"
    few = study("di", "other", alone=5, together=5)
    assert only(few, results(few, value(1))).outcome("strict") == "not credible"


# B: rare collapse, rounding, ranges


def test_a_seed_that_lies_apart_is_told_with_the_share_that_fails():
    def value(names: tuple[str, ...], of: str | None, metric: str, seed: int) -> float:
        fails = metric == "wm" and len(names) > 1 and seed == 4
        return falling(0.0, 0.01)(names, of, metric, seed) - (0.5 if fails else 0.0)

    asked = study("wm", "other")
    found = results(asked, value)
    verdict = only(asked, found)
    assert one(verdict, "wm").failing == 1
    text = " ".join(render(find(asked, found, "strict")).split())
    assert "φ_WM: seed 4 together lies apart, 0.4" in text and "1 of 10" in text


def test_compatible_on_few_seeds_says_what_they_cannot_see():
    asked = study("wm", "other", alone=3, together=3)
    verdict = only(asked, results(asked, falling(0.0, 0.01)))
    assert verdict.outcome("strict") == "compatible"
    said = " ".join(map(str, warnings(asked, verdict, "strict")))
    assert "compatible on 3 seeds: single trainings, up to 63 % of them, may still break the limit of φ_" in said


def test_fewer_than_three_seeds_decide_nothing():
    asked = study("wm", "other", alone=2, together=2)
    verdict = only(asked, results(asked, falling(0.8, 0.0001)))
    assert verdict.outcomes == {"strict": "undecided", "paper": "undecided"}
    assert any("fewer than 3 seeds" in str(said) for said in reasons(verdict, "strict"))


@pytest.mark.parametrize("metric", [Metric("m", "φ", Floor(0.3)), Metric("m", "φ", Ceiling(0.3), False)])
def test_rounding_at_a_bound_decides_nothing(metric):
    exact = Sample((0.3,) * 4)
    rounded = Sample((2.3 - 2.0, 3.3 - 3.0, 5.3 - 5.0, 0.97 - 0.67))
    found = [
        judge(metric, metric.criterion, one_arm, two).outcomes
        for one_arm in (exact, rounded)
        for two in (exact, rounded)
    ]
    assert found == [{"paper": "effective", "strict": "compatible"}] * 4


@pytest.mark.parametrize("value", [1.2, -0.01, 95.0, math.nan, math.inf])
def test_a_value_outside_of_its_metrics_range_is_refused(value):
    with pytest.raises(UserError, match="accuracy"):
        ACCURACY.sample([0.5, value])
    asked = study("wm", "other")
    with pytest.raises(UserError, match="wm"):
        verdicts(asked, results(asked, lambda *place: value if place[2] == "wm" else 0.9))


def test_a_conflict_says_what_its_seeds_cannot_exclude():
    asked = study("wm", "other", alone=5, together=5)
    verdict = only(asked, results(asked, falling(0.8, 0.01)))
    assert verdict.outcome("strict") == "conflict"
    said = " ".join(map(str, warnings(asked, verdict, "strict")))
    assert "conflict on 5 seeds: single trainings, up to 45 % of them, may still keep the limit of φ_WM" in said


def test_a_mechanism_alone_is_judged_by_the_seeds_that_the_study_asks_for():
    """A record may hold more of them: another study of the same store asked for ten."""
    asked, more = study("wm", "other", alone=5, together=10), study("wm", "other", alone=10, together=10)
    found = results(more, lambda *place: 0.1 if place[2] == "wm" and place[3] > 4 else falling(0.0, 0.01)(*place))
    assert {entry["key"] for entry in to_plain(found)["cells"]} == {cell.key for cell in asked.cells()}
    assert [one(only(asked, found), name).alone.seeds for name in ("accuracy", "wm")] == [(0, 1, 2, 3, 4)] * 2
