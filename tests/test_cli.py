"""The command line: what it prints, its exit codes, and how runs end when they are interrupted or killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from guardclash.cli.app import main
from guardclash.studies.store import Store

MAIN = [sys.executable, "-c", "from guardclash.cli.app import main; main()"]
GRADIENT_SIGN = Path(__file__).parent / "plugins" / "gradient_sign.py"

STUDY = """
replicates = { alone = 2, together = 2 }
[[recipes]]
dataset = "digits"
scale = "smoke"
[[combinations]]
mechanisms = ["wm", "dpsgd"]
[[combinations]]
mechanisms = ["wm", { name = "dpsgd", on = ["task"] }]
"""
SMALL = """
replicates = { alone = 1, together = 1 }
recipes = [{ dataset = "digits", scale = "smoke" }]
combinations = [{ mechanisms = ["wm", "dpsgd-control"] }]
"""


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


Guardclash = Callable[..., Said]


@pytest.fixture
def guardclash(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Guardclash:
    """Runs a command in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GUARDCLASH_STORE", raising=False)
    monkeypatch.setenv("GUARDCLASH_DATA", str(tmp_path / "data"))

    def run(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["guardclash", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a study file."""

    def write_study(text: str = SMALL, name: str = "study.toml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_study


def assert_refused(said: Said, *parts: str) -> None:
    """Exit code 2 and exactly one message, which says these things; no traceback and no result."""
    assert said.code == 2, said
    assert "Traceback" not in said.err
    assert said.out == ""
    lines = said.err.splitlines()
    assert len([line for line in lines if line.lower().startswith("error: ")]) == 1, said.err
    missing = [part for part in parts if part not in said.err]
    assert not missing, f"{said.err!r} does not say {missing}"


# Whole studies


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with study.toml and its finished store runs/, made by the run command."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.toml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["guardclash", "run", "study.toml", "--workers", "0", "--data-dir", "data"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 0
    yield folder


@pytest.fixture
def at_finished(finished: Path, tmp_path: Path, guardclash: Guardclash) -> Guardclash:
    """As `guardclash`, beside a copy of the finished study."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return guardclash


def test_run_says_what_it_does_and_ends_with_the_report(guardclash, write):
    study = write()
    first = guardclash("run", study, "--workers", 0)
    assert (first.code, "Traceback" in first.err) == (0, False)
    assert re.search(r"4 models to train, about .* with 1 at a time", first.err)
    assert "4 of 4 done" in first.err
    told = ("Verdicts", "digits/smoke {wm, dpsgd-control}", "φ_ACC", "φ_WM", "Alone", "unprotected")
    for part in (*told, "Scale of", "Compute: "):
        assert part in first.out
    again = guardclash("run", study, "--workers", 0)
    assert again.code == 0
    assert again.out == first.out
    assert "nothing to train" in again.err
    assert guardclash("report", study).out == first.out


def test_report_as_json(at_finished):
    said = at_finished("report", "study.toml", "--format", "json")
    assert (said.code, said.err) == (0, "")
    content = json.loads(said.out, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert (content["study"], content["rule"]) == ("study", "strict")
    combinations = [verdict["combination"] for verdict in content["verdicts"]]
    assert combinations == [["wm", "dpsgd"], ["wm", "dpsgd(on=task)"]]
    for verdict in content["verdicts"]:
        assert verdict["recipe"] == "digits/smoke"
        assert verdict["outcome"] == "undecided", "two seeds decide nothing"
        symbols = [judgement["symbol"] for judgement in verdict["judgements"]]
        assert symbols == ["φ_ACC", "φ_WM", "log₁₀ V", "ε"]
        for judgement in verdict["judgements"]:
            for arm in ("alone", "together"):
                assert judgement[arm]["n"] == 2
                assert judgement[arm]["std"] >= 0
    text = at_finished("report", "study.toml").out
    for verdict in content["verdicts"]:
        label = "{" + ", ".join(verdict["combination"]) + "}"
        assert re.search(re.escape(label) + r" +" + verdict["outcome"], text)


def test_report_by_either_rule_into_a_file(at_finished, tmp_path):
    strict, paper = (at_finished("report", "study.toml", "--rule", rule).out for rule in ("strict", "paper"))
    assert "verdict (strict)" in strict
    assert "verdict (paper)" in paper
    assert json.loads(at_finished("report", "study.toml", "--rule", "paper", "--format", "json").out)["rule"] == "paper"
    for form, start in (("text", "study\nOn digits/smoke:"), ("json", "{")):
        said = at_finished("report", "study.toml", "--format", form, "-o", f"new/report.{form}")
        assert (said.code, said.out) == (0, "")
        assert f"report.{form}" in said.err
        assert (tmp_path / "new" / f"report.{form}").read_text("utf-8").startswith(start)


def test_a_rule_that_the_study_cannot_be_judged_by_is_refused(at_finished, tmp_path):
    (tmp_path / "study.toml").write_text(f'correction = "holm"\n{STUDY}')
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    commands = ["run study.toml --workers 0", "status study.toml", "report study.toml"]
    commands += ["report study.toml --format json", "report study.toml -o a.html", "figure matrix study.toml -o a.svg"]
    for command in commands:
        said = at_finished(*command.split(), "--rule", "paper")
        assert_refused(said, "the paper's rule does not go with", 'correction = "holm"', "allowed: strict, bounded")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert at_finished("report", "study.toml", "--rule", "bounded").out.count("Judged by rule bounded") == 1


def test_an_export_can_be_reported_without_the_store(at_finished, tmp_path):
    assert at_finished("export", "study.toml", "out").code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.json", "pictures"}
    told = at_finished("report", "study.toml").out
    shutil.rmtree(tmp_path / "runs")
    for given in ("out", "out/results.json"):
        assert at_finished("report", "study.toml", "--results", given).out == told
    assert at_finished("report", "study.toml").code == 2


def test_plan_says_what_is_shared_and_trains_nothing(at_finished, tmp_path):
    more = STUDY.replace("alone = 2, together = 2", "alone = 3, together = 4")
    (tmp_path / "study.toml").write_text(more)
    before = sorted(tmp_path.rglob("*"))
    said = at_finished("plan", "study.toml", "--workers", 2)
    assert (said.code, said.err) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
    assert "One training serves {dpsgd} and {dpsgd(on=task)}." in said.out
    assert "To train: 7 models" in said.out
    assert "with 2 at a time" in said.out
    (row,) = [line for line in said.out.splitlines() if " {wm, dpsgd} " in line]
    assert row.split()[-5:-2] == ["4", "2", "2"], "seeds, in store, to train"
    full = at_finished("plan", "study.toml", "--full")
    for part in ("ClippedNoisy", "TriggerSet", "Poisson", "GroupNormForBatchNorm"):
        assert part in full.out


def test_plan_and_run_tell_a_clash(guardclash, write):
    study = write(f'plugins = ["{GRADIENT_SIGN}"]' + SMALL.replace('"wm", "dpsgd-control"', '"gradient-sign", "dpsgd"'))
    said = guardclash("plan", study)
    reason = "dpsgd and gradient-sign both set 'gradient' of stream 'task'"
    assert f"Clash: {{gradient-sign, dpsgd}}: {reason}" in said.out
    assert "To train: 3 models" in said.out
    ran = guardclash("run", study, "--workers", 0)
    assert ran.code == 0
    assert re.search(r"\{gradient-sign, dpsgd\} +clash +" + re.escape(reason), ran.out)


def test_status_counts_what_is_there(at_finished, tmp_path):
    def row(label: str) -> str:
        said = at_finished("status", "study.toml")
        assert said.code == 0
        (found,) = [line for line in said.out.splitlines() if f" {label} " in line]
        return found

    assert re.search(r"2 of 2 +8 of 8 +- +-", row("{wm}"))
    key = row("{wm}").split()[-1]
    assert (tmp_path / "runs" / "trials" / key).is_dir()
    shutil.rmtree(tmp_path / "runs" / "trials" / key)
    Store(tmp_path / "runs").keep_failure(key, "RuntimeError: boom")
    progress = {"epochs": 9, "pid": os.getpid(), "epoch": 4, "task": 0.1}
    (tmp_path / "runs" / "work").mkdir(exist_ok=True)
    (tmp_path / "runs" / "work" / f"{key}.progress.json").write_text(json.dumps(progress))
    assert re.search(r"1 of 2 .* 1 +seed 0: epoch 4 of 9", row("{wm}"))


def test_status_before_the_first_run(guardclash, write, tmp_path):
    said = guardclash("status", write())
    assert said.code == 0
    assert "0 of 1" in said.out
    assert not (tmp_path / "runs").exists()


def test_show_tells_all_of_a_trial(at_finished, tmp_path):
    key = sorted(path.name for path in (tmp_path / "runs" / "trials").iterdir())[0]
    for prefix in (key, key[:8]):
        said = at_finished("show", prefix)
        if said.code:  # the beginning fits both seeds
            assert_refused(said, "2 of the 10 trials fit", prefix)
        else:
            for part in (f"trial {key}", "seed: ", "streams", "accuracy", "epoch 2", "torch="):
                assert part in said.out
    assert_refused(at_finished("show", "zzz"), "none of the 10 trials fits", "'zzz'", "guardclash status")


def test_show_tells_why_a_trial_failed(guardclash, tmp_path):
    Store(tmp_path / "runs").keep_failure("abc-0", "Traceback:\nDiverged: the loss [task] is nan")
    said = guardclash("show", "abc")
    assert said.code == 0
    assert "Diverged: the loss [task] is nan" in said.out


def test_evidence_is_written_as_pictures(guardclash, write, tmp_path):
    said = guardclash("evidence", write(), str(tmp_path / "pictures"))
    assert (said.code, said.err) == (0, "")
    (picture,) = (tmp_path / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.name in said.out
    assert "a row for each of the 10 labels" in said.out


def test_list_names_all_that_can_be_used(guardclash):
    said = guardclash("list", "--plugin", GRADIENT_SIGN)
    assert (said.code, said.err) == (0, "")
    words = "wm dpsgd dpsgd-control gradient-sign digits mnist fmnist cifar10 gtsrb φ_WM epsilon=3.0 triggers=100 smoke"
    missing = [word for word in words.split() if word not in said.out]
    assert not missing


def test_data_check(guardclash):
    said = guardclash("data", "check", "digits")
    assert (said.code, said.err) == (0, "")
    assert "ok " in said.out
    missing = guardclash("data", "check", "mnist")
    assert missing.code == 2
    assert "BAD" in missing.out
    assert "guardclash data fetch mnist" in missing.out
    assert "Traceback" not in missing.err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["data", "--help"]])
def test_help(guardclash, arguments):
    said = guardclash(*arguments)
    assert (said.code, said.err) == (0, "")
    assert "Usage: " in said.out


def test_a_trial_that_fails_gives_exit_code_1_and_a_report_with_the_gap(guardclash, write):
    wild = 'scale = "smoke", learning_rate = 1e30, first_learning_rate = 1e30'
    study = write(SMALL.replace('scale = "smoke"', wild))
    said = guardclash("run", study, "--workers", 0)
    assert said.code == 1
    assert "Traceback" not in said.err
    assert len(re.findall(r"trial \w+-0 failed: Diverged", said.err)) == 4
    assert "seed 0 failed: " in said.out
    assert "undecided" in said.out
    status = guardclash("status", study)
    assert len(re.findall(r"0 of 1 +0 of \d +1 ", status.out)) == 4
    report = guardclash("report", study)
    assert (report.code, report.out) == (0, said.out)


# Mistakes


def changed(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


MISTAKES: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown mechanism": (changed('"wm"', '"wn"'), ("'wn'", "Did you mean 'wm'")),
    "unknown data set": (changed('"digits"', '"digit"'), ("'digit'", "Did you mean 'digits'")),
    "negative epsilon": (changed('"wm"', '{ name = "dpsgd", epsilon = -1 }'), ("dpsgd.epsilon", "-1")),
    "empty study": ("", ("study.toml", "recipes")),
    "no combinations": (changed('[{ mechanisms = ["wm", "dpsgd-control"] }]', "[]"), ("study.toml", "combinations")),
    "too many triggers": (changed('"wm"', '{ name = "wm", triggers = 100_000 }'), ("wm.triggers", "100000", "600")),
    "unknown key": (f"seeds = 3{SMALL}", ("study.toml", "'seeds'")),
    "unknown option": (changed('"wm"', '{ name = "wm", trigger = 5 }'), ("'trigger'", "wm", "'triggers'")),
    "unknown key of a recipe": (changed("scale =", 'models = "x", scale ='), ("'models'", "digits", "'model'")),
    "syntax error": (f"{SMALL}rule = \n", ("study.toml", "line 5")),
    "plugin that is not there": (f'plugins = ["no.py"]{SMALL}', ("no such plugin", "no.py")),
    "unknown stream": (changed('"wm"', '{ name = "wm", on = ["tsak"] }'), ("tsak", "wm")),
    "unknown metric": (f"criteria = {{ wm = {{ max_drop = 0.1 }} }}{SMALL}", ("'wm'", "wm_accuracy")),
    "impossible weight decay": (changed("scale =", "weight_decay = -1, scale ="), ("weight_decay", "-1")),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_mistakes_in_studies(guardclash, write, tmp_path, command, mistake):
    text, parts = MISTAKES[mistake]
    assert_refused(guardclash(command, write(text), "--workers", 0), *parts)
    assert not (tmp_path / "runs" / "trials").exists()


def test_a_missing_study(guardclash):
    for command in ("plan", "run", "status", "report"):
        assert_refused(guardclash(command, "nowhere/study.toml"), "no such study file", "nowhere/study.toml")


def test_missing_data(guardclash, write, tmp_path):
    said = guardclash("run", write(changed('"digits"', '"mnist"')), "--workers", 0, "--data-dir", tmp_path / "none")
    assert said.code == 2
    assert "Traceback" not in said.err
    assert len(re.findall("^error: ", said.err, re.M)) == 1
    for part in ("mnist", str(tmp_path / "none"), "guardclash data fetch mnist"):
        assert part in said.err
    for command in ("check", "fetch"):
        assert_refused(guardclash("data", command, "mnits"), "'mnits'", "Did you mean 'mnist'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("nonsense", "nonsense"),
        ("run", "STUDY"),
        ("show", "TRIAL"),
        ("run study.toml --bogus", "--bogus"),
        ("run study.toml --workers -1", "--workers"),
        ("run study.toml --workers many", "--workers"),
        ("run study.toml --rule lenient", "lenient"),
        ("report study.toml --format xml", "xml"),
        ("report study.toml other.toml", "other.toml"),
        ("data eat digits", "eat"),
    ],
)
def test_mistakes_in_commands(guardclash, write, arguments, said):
    write()
    refused = guardclash(*arguments.split())
    assert refused.code == 2
    assert refused.out == ""
    assert "Traceback" not in refused.err
    assert said in refused.err


def test_no_arguments_show_the_help(guardclash):
    said = guardclash()
    assert "Usage: " in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("device", ["tpu", "gpu", "", "cuda:x"])
def test_a_device_that_is_not_there(guardclash, write, device):
    assert_refused(guardclash("run", write(), "--device", device), "device", repr(device))


def test_a_report_of_a_study_that_never_ran(guardclash, write):
    assert_refused(guardclash("report", write()), "no results yet", "guardclash run")
    assert_refused(guardclash("export", write(), "out"), "no results yet")


def test_results_that_are_none(guardclash, write, tmp_path):
    assert_refused(guardclash("report", write(), "--results", write("{", "a.json")), "a.json")
    assert_refused(guardclash("report", write(), "--results", write("{}", "b.json")), "b.json", "not a results file")
    assert_refused(guardclash("report", write(), "--results", tmp_path), str(tmp_path))


def test_output_that_cannot_be_written(at_finished, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert_refused(at_finished("report", "study.toml", "-o", "file/report.txt"), "file/report.txt")
    assert_refused(at_finished("report", "study.toml", "-o", "folder"), "folder")
    assert_refused(at_finished("export", "study.toml", "file"), "file")


def test_a_store_that_cannot_be_written(guardclash, write, tmp_path):
    (tmp_path / "file").write_text("")
    said = guardclash("run", write(), "--store", tmp_path / "file", "--workers", 0)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert str(tmp_path / "file") in said.err


# In processes of their own


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*MAIN, *map(str, arguments)]
    everything = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=everything, timeout=120, check=False)


def test_reports_need_no_torch(finished, tmp_path):
    """With a torch that cannot be imported at all."""
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    said = process("report", finished / "study.toml", "--store", finished / "runs", "--format", "json", PYTHONPATH=path)
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads(said.stdout)["verdicts"]


def test_a_reader_that_goes_away_is_no_mistake(finished):
    command = [*MAIN, "report", str(finished / "study.toml"), "--store", str(finished / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
    assert "Traceback" not in said
    assert "Error" not in said


LONG = """
name = "long"
replicates = { alone = 5, together = 5 }
recipes = [{ dataset = "digits", scale = "smoke", epochs = 30 }]
combinations = [{ mechanisms = ["dpsgd-control"] }]
"""
TRIALS = 10


def heeds_ctrl_c() -> None:
    """Tests that run in the background of a shell inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run with two workers, in a process group of its own, as a terminal has it."""
    command = [*MAIN, "run", "long.toml", "--workers", "2"]
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
            preexec_fn=heeds_ctrl_c,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


def until(what: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """Waits until something is there and returns it."""
    end = time.monotonic() + 90
    while not (found := what()):
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def trials_in(folder: Path) -> dict[str, int]:
    """Finished trials and when their records were written."""
    records = (folder / "runs" / "trials").glob("*/record.json")
    return {path.parent.name: path.stat().st_mtime_ns for path in records}


def state(process: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on: state, parent, ...; empty if there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(process: int) -> bool:
    """Whether a process runs; a dead one that nobody has asked about is dead."""
    return bool(state(process)) and state(process)[0] not in "ZX"


def workers_of(process: subprocess.Popen[str]) -> set[int]:
    """Both worker processes, as soon as they are at work; none before."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = state(int(path.name))
            busy = fields and sum(map(int, fields[11:13])) > 10  # ticks of processor time
            if busy and int(fields[1]) == process.pid and b"spawn_main" in (path / "cmdline").read_bytes():
                found.add(int(path.name))
    return found if len(found) == 2 else set()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")
def test_ctrl_c_ends_a_run_at_once_and_quietly(tmp_path):
    (tmp_path / "long.toml").write_text(LONG)
    with running(tmp_path) as process:
        until(lambda: workers_of(process), process)  # they still import what they need
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
        assert process.wait(timeout=60) == 130
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert trials_in(tmp_path) == {}


@pytest.mark.slow
def test_runs_that_are_killed_and_interrupted_lose_nothing_that_is_finished(guardclash, tmp_path):
    (tmp_path / "long.toml").write_text(LONG)
    with running(tmp_path) as process:
        until(lambda: trials_in(tmp_path), process)
        workers = until(lambda: workers_of(process), process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        until(lambda: not any(map(alive, workers)))
    killed = trials_in(tmp_path)
    assert 0 < len(killed) < TRIALS
    status = guardclash("status", "long.toml")
    assert status.code == 0
    assert "epoch" not in status.out, "nothing runs any more"

    with running(tmp_path) as process:
        until(lambda: len(trials_in(tmp_path)) > len(killed), process)
        workers = until(lambda: workers_of(process), process)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
        until(lambda: not any(map(alive, workers)))
    interrupted = trials_in(tmp_path)
    assert len(killed) < len(interrupted) < TRIALS
    err = (tmp_path / "err").read_text()
    assert f"{TRIALS - len(killed)} models to train" in err
    assert "Traceback" not in err
    assert err.count("interrupted") == 1
    assert (tmp_path / "out").read_text() == ""
    half = guardclash("report", "long.toml")
    assert half.code == 0
    assert "(n=5)" not in half.out.split("dpsgd-control")[-1]

    whole = guardclash("run", "long.toml", "--workers", 1)
    assert whole.code == 0
    assert f"{TRIALS - len(interrupted)} models to train" in whole.err
    finished = trials_in(tmp_path)
    assert len(finished) == TRIALS
    assert {key: finished[key] for key in interrupted} == interrupted, "what was finished stayed as it was"
    assert {key: interrupted[key] for key in killed} == killed
    assert "(n=5)" in whole.out
