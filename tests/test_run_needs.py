"""Trainings and measurements that need other trainings first, and mechanisms that answer for the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from guardclash.mechanism import Mechanism
from guardclash.plan.identity import fingerprint
from guardclash.plan.trainings import depth
from guardclash.studies.composing import compose_study
from guardclash.studies.engines import Inline
from guardclash.studies.jobs import Job
from guardclash.studies.trials import Trial, needed_trials
from running import Watcher, ran, study, values

# Plans that need other plans


NESTED = """
@dataclass(frozen=True)
class Taught:
    '''Images under the labels that a trained model gives them.'''
    images: Split
    teacher: Plan

    @property
    def size(self):
        return self.images.size

    def load(self, context):
        x, _ = context.data(self.images)
        return Data(x, context.trained(self.teacher).predict(x).argmax(1))

@dataclass(frozen=True)
class Distil(Mechanism):
    name: ClassVar[str] = "distil"
    concern: ClassVar[str] = "model extraction"
    generations: int = 1
    def data(self, plan):
        for _ in range(self.generations):
            source = Taught(Split("digits", "train", 256), plan)
            plan = replace(plan, streams=(replace(plan.task, source=source), *plan.streams[1:]))
        return plan
"""


def test_nested_plans_are_trained_first_and_found_in_the_store(site, load, trained):
    """The teacher of the first generation is the unprotected model of the study: it is trained once."""
    plugin = str(load(NESTED))
    wanted = study([{"name": "distil", "generations": 2}], plugins=[plugin])
    baseline, distilled = (entry.plan for entry in compose_study(wanted))
    inner = [trial.plan for trial in needed_trials(Trial(distilled, 0))]
    assert [depth(plan) for plan in (*inner, distilled)] == [0, 1, 2]
    assert inner[0] == baseline
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    order = [plan for plan, _ in trained.since()]
    assert order == [fingerprint(plan) for plan in (baseline, baseline, inner[1], inner[1], distilled, distilled)]
    assert values(content, ["distil"])[0]["accuracy"] > 0.1
    assert ran(replace(wanted, alone=3), site, Inline())
    assert [seed for _, seed in trained.since()] == [2, 2, 2]


def test_wm_goes_with_a_mechanism_that_changes_the_tasks_source(site, load):
    """In either order: where triggers come from follows from the data set, not from what wraps it."""
    wanted = study(["wm", "distil"], ["distil", "wm"], seeds=1, plugins=[str(load(NESTED))])
    plans = [entry.plan for entry in compose_study(wanted) if len(entry.combination) == 2]
    triggers = {fingerprint(plan.stream("trigger").source) for plan in plans}
    assert len(triggers) == 1
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert values(content, ["distil", "wm"])[0].keys() >= {"accuracy", "wm_accuracy"}


def test_a_failed_teacher_fails_its_pupil_and_says_so(site, load):
    wild = {"learning_rate": 1e30, "first_learning_rate": 1e30}
    watcher = Watcher()
    ran(study(["distil"], seeds=1, recipe=wild, plugins=[str(load(NESTED))]), site, Inline(), watcher)
    assert len(watcher.errors) == 2
    assert watcher.errors[0].startswith("Diverged")
    assert "not in the store" in watcher.errors[1]


NEEDS = """
@dataclass(frozen=True)
class Twin(Mechanism):
    '''How often the model agrees with one trained for longer.'''
    name: ClassVar[str] = "twin"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("agreement", "agree", MaxDrop(0.5)),)
    def needs(self, plan):
        return (self.twin(plan),)
    def twin(self, plan):
        return replace(plan, epochs=plan.epochs + 1)
    def measure(self, trained, context):
        x, _ = context.data(Split("digits", "test", 64))
        twin = context.trained(self.twin(trained.plan)).predict(x)
        return {"agreement": (twin.argmax(1) == trained.predict(x).argmax(1)).double().mean().item()}
"""


def test_what_a_measurement_needs_is_trained_first_and_shared(site, load, trained):
    """{twin} changes no training, so it shares the unprotected model and its longer twin."""
    wanted = study(["twin"], plugins=[str(load(NEEDS))])
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == 4
    for names in ([], ["twin"]):
        assert all(0 < found["agreement"] <= 1 for found in values(content, names).values())
    assert values(content, []) == values(content, ["twin"])
    ran(wanted, site, Inline())
    assert trained.since() == []


SHADOWS = """
from guardclash.plan.plan import OtherSeed

@dataclass(frozen=True)
class Shadowed(Mechanism):
    '''Reads the companions of any model, and what their replicates drew.'''
    name: ClassVar[str] = "shadowed"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = tuple(Metric(name, name, None) for name in ("first", "second", "drawn"))
    def needs(self, plan):
        return tuple(OtherSeed(plan, place) for place in (0, 1))
    def measure(self, trained, context):
        first, second = (context.trained(other) for other in self.needs(trained.plan))
        drawn = context.under(second.seed).rng("secret").initial_seed()
        assert {first.plan, second.plan} == {trained.plan}
        assert first.weights == context.under(first.seed).trained(trained.plan).weights != trained.weights
        return {"first": first.seed, "second": second.seed, "drawn": drawn % 1000}
"""


def test_the_replicates_of_a_study_are_each_others_shadows(site, load, trained):
    """Four of them need no other training, whatever is protected; the pair of a replicate is not asked."""
    wanted = study(["shadowed", "wm"], seeds=4, plugins=[str(load(SHADOWS))])
    watcher = Watcher()
    content = ran(wanted, site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == 8
    for names in (["shadowed"], ["shadowed", "wm"]):
        for seed, found in values(content, names).items():
            second = 3 if seed < 2 else 1
            drawn = site.context(second).rng("secret").initial_seed() % 1000
            assert (found["first"], found["second"], found["drawn"]) == (second - 1, second, drawn)


def test_mechanisms_pickle_with_their_jobs(load):
    """A worker gets jobs as pickles, of plugins too."""
    import pickle  # only here: what ProcessPoolExecutor does with a job

    wanted = study(["distil", "dpsgd-control"], seeds=1, plugins=[str(load(NESTED))])
    for entry in compose_study(wanted):
        for trial in entry.trials():
            job = Job(trial, entry.probes(trial))
            again = pickle.loads(pickle.dumps(job))
            assert again == job
            assert again.trial.key == trial.key
            assert isinstance(entry.combination, tuple)
            assert all(isinstance(mechanism, Mechanism) for mechanism in entry.combination)


# Serving


SERVING = """
@dataclass(frozen=True)
class Contrary(Mechanism):
    '''Answers the least likely class.'''
    name: ClassVar[str] = "contrary"
    concern: ClassVar[str] = "none"
    factor: float = -1.0
    def serve(self, predict, trained, context):
        return lambda x: self.factor * predict(x)

@dataclass(frozen=True)
class Louder(Mechanism):
    '''Adds one to the answers, times ten.'''
    name: ClassVar[str] = "louder"
    concern: ClassVar[str] = "none"
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("answer", "answer", None),)
    def serve(self, predict, trained, context):
        return lambda x: 10 * (predict(x) * 0 + 1)
    def measure(self, trained, context):
        x, _ = context.data(Split("digits", "test", 1))
        return {"answer": trained.predict(x)[0, 0].item()}
"""


def test_what_acts_at_inference_changes_measurements_and_no_training(site, load, trained):
    wanted = study(["contrary", "louder"], ["louder", "contrary"], ["wm"], plugins=[str(load(SERVING))])
    content = ran(wanted, site, Inline())
    assert len(trained.since()) == 4, "the unprotected model and {wm}"
    plain, contrary = values(content, [])[0], values(content, ["contrary"])[0]
    assert contrary["accuracy"] < 0.1 < plain["accuracy"]
    # A combination is a set: what serves is ordered by `order` and then by name, however it was written down.
    assert values(content, ["contrary", "louder"])[0]["answer"] == 10
    assert values(content, ["louder", "contrary"])[0]["answer"] == 10


def test_order_says_which_answers_are_nearest_to_the_network(site, load, trained):
    first = SERVING.replace(
        'name: ClassVar[str] = "louder"', 'name: ClassVar[str] = "louder"\n    order: ClassVar[int] = -1'
    )
    wanted = study(["contrary", "louder"], ["louder", "contrary"], plugins=[str(load(first))])
    content = ran(wanted, site, Inline())
    for names in (["contrary", "louder"], ["louder", "contrary"]):
        assert values(content, names)[0]["answer"] == -10, "louder is nearest, contrary has the last word"


def test_serving_is_part_of_the_key_of_a_measurement(site, load):
    plugin = str(load(SERVING))

    def keys(mechanism: dict[str, Any]) -> tuple[str, list[str]]:
        entry = compose_study(study([mechanism], seeds=1, plugins=[plugin]))[1]
        (trial,) = entry.trials()
        return trial.key, [probe.key for probe in entry.probes(trial)]

    plain, minus, plus = (
        keys({"name": "dpsgd-control", "on": []}),
        keys({"name": "contrary"}),
        keys({"name": "contrary", "factor": 1.0}),
    )
    assert plain[0] == minus[0] == plus[0]
    assert len({plain[1][0], minus[1][0], plus[1][0]}) == 3


SERVES_WITH_A_MODEL = """
@dataclass(frozen=True)
class Guarded(Mechanism):
    '''Answers through a second model.'''
    name: ClassVar[str] = "guarded"
    concern: ClassVar[str] = "none"
    def needs(self, plan):
        return (self.guard(plan),)
    def guard(self, plan):
        return replace(plan, epochs=plan.epochs + 1)
    def serve(self, predict, trained, context):
        guard = context.trained(self.guard(trained.plan))
        return lambda x: predict(x) + guard.predict(x)
"""


def test_what_serving_needs_is_trained_first(site, load, trained):
    watcher = Watcher()
    content = ran(study(["guarded"], seeds=1, plugins=[str(load(SERVES_WITH_A_MODEL))]), site, Inline(), watcher)
    assert watcher.errors == []
    assert len(trained.since()) == 2
    assert values(content, ["guarded"])[0]["accuracy"] > 0
