"""Seeds that are added while a verdict is undecided: the looks, the verdict at each, and the errors over all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from committed import ROOT
from guardclash.errors import UserError
from guardclash.records.plain import results_from
from guardclash.records.results import Results
from guardclash.studies.study import Study
from guardclash.studies.study_file import study_from
from guardclash.studies.verdicts import judged_cells, verdict_so_far, verdicts, wanted

METRIC = {"name": "wm_accuracy", "symbol": "φ_WM", "criterion": {"max_drop": 0.3}}


def study(start: int = 3, most: int = 10, *combinations: list[str], **keys: Any) -> Study:
    return study_from(
        {
            "recipes": [{"dataset": "digits", "scale": "smoke"}],
            "combinations": [{"mechanisms": names} for names in combinations or (["wm", "dpsgd"],)],
            "replicates": {"start": start, "most": most},
            **keys,
        }
    )


BARE = 0.1
"""φ_WM of models without a watermark."""
ACCURATE = {"name": "accuracy", "symbol": "φ_ACC", "criterion": {"max_drop": 0.1}}
TRACE = {"name": "rad", "symbol": "φ_RAD", "criterion": {"floor": 0.01}}


def results(asked: Study, values: dict[str, list[float]], accuracy: float = 0.9, trace: float = 0.0) -> Results:
    """φ_WM by the names of a combination, in the order of the seeds, `BARE` without wm; all else is the same there."""
    cells = []
    for cell in asked.cells():
        own = {"wm": METRIC, "raddata": TRACE}
        measured = [named for named in asked.measured_in(cell) if named.name in own]
        marked = any(named.name == "wm" for named in cell.combination)
        trials = [
            {
                "seed": seed,
                "seconds": 1.0,
                "measurements": [
                    {"of": None, "values": {"accuracy": accuracy}},
                    *(
                        {
                            "of": named.to_dict(),
                            "values": {"wm_accuracy": value if marked else BARE, "rad": trace + 1e-4 * seed},
                        }
                        for named in measured
                    ),
                ],
            }
            for seed, value in enumerate(values.get("+".join(named.name for named in cell.combination), []))
        ]
        measures = [
            {"of": None, "metrics": [ACCURATE]},
            *({"of": named.to_dict(), "metrics": [own[named.name]]} for named in measured),
        ]
        cells.append({"key": cell.key, "clash": None, "measures": measures, "trials": trials, "plan": cell.key})
    return results_from({"study": asked.name, "cells": cells})


def needed(asked: Study, values: dict[str, list[float]]) -> dict[str, int]:
    keys = {cell.key: "+".join(named.name for named in cell.combination) for cell in asked.cells()}
    return {keys[key]: count for key, count in wanted(asked, results(asked, values)).items()}


NOISY = [0.9, 0.4, 0.7, 0.5, 0.8, 0.6, 0.7, 0.5, 0.9, 0.6]
GOOD = [0.97, 0.96, 0.98, 0.97, 0.96, 0.98, 0.97, 0.96, 0.98, 0.97]


@given(st.integers(3, 20), st.integers(0, 40))
def test_looks_rise_to_the_most_and_share_alpha(start, more):
    stages = study(start, start + more).stages()
    looks = [stage.together for stage in stages]
    assert looks[0] == start and looks[-1] == start + more
    assert looks == sorted(set(looks))
    assert sum(stage.alpha for stage in stages) == pytest.approx(0.05)
    assert all(stage.alone == stage.together and stage.start is None for stage in stages)
    assert study(start, start + more).level == stages[0].alpha


def test_fixed_replicates_are_one_look():
    fixed = study_from({"recipes": [{"dataset": "digits"}], "combinations": [{"mechanisms": ["wm"]}]})
    assert fixed.stages() == (fixed,)
    assert set(wanted(fixed, results_from({"study": "", "cells": []})).values()) == {5}


@pytest.mark.parametrize(("together", "outcome"), [(GOOD[:3], "compatible"), ([0.2, 0.21, 0.22], "conflict")])
def test_a_clear_case_stops_at_the_first_look(together, outcome):
    asked = study()
    few = {name: GOOD[:3] for name in ("", "wm", "dpsgd")} | {"wm+dpsgd": together}
    assert set(needed(asked, few).values()) == {3}
    (verdict,) = verdicts(asked, results(asked, few))
    assert verdict.outcome("strict") == outcome
    assert {one.alpha for one in verdict.judgements} == {0.05 / 4}, "that of the look, for accuracy as well"
    assert {(one.level, one.last) for one in verdict.judgements} == {(0.05, False)}


def test_an_undecided_case_asks_for_more_until_there_are_no_more():
    asked = study()
    assert [stage.together for stage in asked.stages()] == [3, 5, 8, 10]
    for have, want in ((0, 3), (2, 3), (3, 5), (5, 8), (7, 8), (8, 10), (10, 10)):
        found = {"": GOOD[:have], "wm": GOOD[:have], "dpsgd": GOOD[:have], "wm+dpsgd": NOISY[:have]}
        assert needed(asked, found)["wm+dpsgd"] == want, have
        assert needed(asked, found)["wm"] == want, "alone is drawn as often as together"
        (verdict,) = verdicts(asked, results(asked, found))
        assert verdict.outcome("strict") == "undecided"


def test_seeds_are_added_only_where_a_verdict_needs_them():
    asked = study(3, 10, ["wm", "dpsgd"], ["wm", "advtr"])
    found = {name: GOOD[:3] for name in ("", "wm", "dpsgd", "advtr", "wm+advtr")} | {"wm+dpsgd": NOISY[:3]}
    assert needed(asked, found) == {"": 5, "wm": 5, "dpsgd": 5, "wm+dpsgd": 5, "advtr": 3, "wm+advtr": 3}


def test_what_a_combination_of_three_waits_for_is_added_to_all_that_it_rests_on():
    asked = study(3, 10, ["wm", "dpsgd", "advtr"], ["wm", "dpsgd"])
    names = ("", "wm", "dpsgd", "advtr", "wm+dpsgd")
    found = {name: GOOD[:3] for name in names} | {"wm+dpsgd+advtr": NOISY[:3]}
    assert needed(asked, found) == dict.fromkeys(found, 5), "its parts, what it is without one of them, the unprotected"


def test_a_useless_mechanism_does_not_end_the_search_for_a_conflict():
    """Stopping at "ineffective" missed four of five real conflicts of the other mechanism."""
    asked = study(3, 10, ["wm", "raddata"])
    loss = [0.97 - 0.6 + 0.25 * (-1) ** seed for seed in range(10)]
    found = {"": GOOD[:3], "wm": GOOD[:3], "raddata": GOOD[:3], "wm+raddata": loss[:3]}
    assert set(needed(asked, found).values()) == {5}
    (first,) = verdicts(asked.stages()[0], results(asked, found))
    assert first.outcome("strict") == "ineffective" and not first.settled("strict")
    (verdict,) = verdicts(asked, results(asked, dict.fromkeys(found, GOOD) | {"wm+raddata": loss}))
    assert verdict.outcome("strict") == "conflict" and verdict.broken("strict") == ("wm_accuracy",)
    kept = dict.fromkeys(found, GOOD[:3])
    assert set(needed(asked, kept).values()) == {3}, "nothing is undecided any more"


def test_an_early_look_says_nothing_by_a_test_that_does_not_reject():
    """The paper's rule beside the strict one: at a share of alpha, a loss of twice the limit passed for none."""
    asked = study()
    few = {name: GOOD[:3] for name in ("", "wm", "dpsgd", "wm+dpsgd")}
    (early,) = verdicts(asked, results(asked, few))
    assert early.outcomes == {"paper": "undecided", "strict": "compatible"}
    (fixed,) = verdicts(asked.stages()[-1], results(asked, dict.fromkeys(few, GOOD)))
    assert fixed.outcomes == {"paper": "compatible", "strict": "compatible"}
    loss = [0.77 + 0.24 * (-1) ** seed for seed in range(10)]
    (last,) = verdicts(asked, results(asked, dict.fromkeys(few, GOOD) | {"wm+dpsgd": loss}))
    (mark,) = [one for one in last.judgements if one.metric.name == "wm_accuracy"]
    assert mark.last and mark.alpha < mark.claims.difference < 0.05, "a difference at the level of the study"
    assert mark.outcomes == {"paper": "undecided", "strict": "undecided"}


def test_later_seeds_do_not_change_a_verdict():
    asked = study()
    found = {"": GOOD, "wm": GOOD, "dpsgd": GOOD, "wm+dpsgd": [*GOOD[:3], 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]}
    (cell,) = judged_cells(asked)
    verdict, replicates = verdict_so_far(asked, results(asked, found), cell)
    assert (verdict.outcome("strict"), replicates) == ("compatible", 3)


@pytest.mark.parametrize(
    ("replicates", "keys"),
    [
        ({"start": 3}, {}),
        ({"most": 3}, {}),
        ({"start": 5, "most": 3}, {}),
        ({"start": 1, "most": 3}, {}),
        ({"start": 2, "most": 5}, {}),  # too few to decide anything, and a look would spend its share of alpha
        ({"start": 3, "most": 10, "alone": 5}, {}),
        ({"start": 3, "most": 10}, {"correction": "holm"}),
    ],
)
def test_impossible_replicates_are_refused(replicates, keys):
    with pytest.raises(UserError, match="replicates"):
        study(3, 10, replicates=replicates, **keys)


def test_the_paper_s_rule_goes_with_nothing_that_lowers_the_level():
    with pytest.raises(UserError, match="seeds that are added step by step"):
        study(rule="paper")
    fixed = {"replicates": {"alone": 5, "together": 10}}
    with pytest.raises(UserError, match='"holm"'):
        study(rule="paper", correction="holm", **fixed)
    assert study(rule="paper", **fixed).correction == study(**fixed).correction == "verdict"
    with pytest.raises(UserError, match="step by step"):
        study().under("paper")
    assert study(**fixed).under("paper").rule == "paper"


# The errors: at the limit itself, "compatible" and "conflict" are both wrong


def wrong(looks: list[int], level: float, spread: float, runs: int, seed: int) -> float:
    """How often Welch's one-sided test of a drop of exactly the limit says "beyond it" at any look."""
    rng = np.random.default_rng(seed)
    alone, together = rng.standard_normal((runs, looks[-1])), spread * rng.standard_normal((runs, looks[-1]))
    said = np.zeros(runs, bool)
    for n in looks:
        said |= (
            stats.ttest_ind(alone[:, :n], together[:, :n], axis=1, equal_var=False, alternative="less").pvalue < level
        )
    return float(said.mean())


@pytest.mark.parametrize("spread", [0.2, 1.0, 3.0])
@pytest.mark.parametrize(("start", "most"), [(3, 10), (4, 12), (5, 20)])
def test_wrong_verdicts_stay_below_alpha_over_all_looks(start, most, spread):
    stages = study(start, most).stages()
    rate = wrong([stage.together for stage in stages], stages[0].alpha, spread, 20_000, seed=start)
    assert 0.01 < rate < 0.05 + 0.003, "0.003: two standard errors of the simulation"


def test_unspent_looks_would_err_more_often():
    """Why alpha is shared: the same tests, each at the whole of it."""
    looks = [stage.together for stage in study().stages()]
    assert wrong(looks, 0.05, 1.0, 20_000, seed=0) > 0.09


@given(st.floats(0.5, 0.9), st.floats(0.01, 0.2), st.integers(0, 10**6))
@settings(deadline=None, max_examples=25)
def test_the_verdict_is_that_of_its_own_look(mean, spread, seed):
    """What the report says at a look is what a study with so many fixed replicates, and its share of alpha, says."""
    asked = study()
    values = np.random.default_rng(seed).normal(mean, spread, 10).tolist()
    found = results(asked, {"": GOOD, "wm": GOOD, "dpsgd": GOOD, "wm+dpsgd": values})
    (cell,) = judged_cells(asked)
    verdict, replicates = verdict_so_far(asked, found, cell)
    (stage,) = [stage for stage in asked.stages() if stage.together == replicates]
    (fixed,) = verdicts(stage, found)
    looked = [replace(one, level=stage.alpha, last=True) for one in verdict.judgements]
    assert replace(verdict, judgements=tuple(looked)) == fixed
    assert verdict.outcome("strict") == fixed.outcome("strict")


def test_the_savings_on_record_come_out_of_the_records_again(tmp_path):
    found = tmp_path / "found.json"
    script = ROOT / "benchmarks/adaptive_replicates.py"
    subprocess.run([sys.executable, script, "--json", found], check=True, capture_output=True, timeout=120)
    kept = json.loads((ROOT / "results/benchmarks/adaptive_replicates.json").read_text(encoding="utf-8"))
    assert json.loads(found.read_text(encoding="utf-8")) == kept
    assert sum(row["trainings, step by step"] for row in kept) < sum(row["trainings, fixed"] for row in kept)
