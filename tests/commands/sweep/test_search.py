"""A search suggests values from its space, goes on after a cut as if there had been none, and
says what is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import IntDistribution

from trainer.commands.sweep.search import Search, Suggestion
from trainer.commands.sweep.task import JobStatus
from trainer.config.sweep import Axis, OptunaConfig, RandomConfig
from trainer.errors import ConfigError, EnvironmentFault, InputError, TrainerError, UsageError

# Every suggestion is a transaction of SQLite.
pytestmark = pytest.mark.long

LR = Axis(key="optimizer.lr", low=1e-4, high=1.0, log=True)
MODEL = Axis(key="model", values=("lenet5", "mlp"))
MOMENTUM = Axis(key="optimizer.momentum", low=0.0, high=0.9)
WIDTH = Axis(key="model.width", values=("8", "13", "18", "23"), low=8, high=23, step=5, is_int=True)
SPACE = (LR, MODEL, MOMENTUM, WIDTH)


def random_config(*, trials: int = 20, seed: int = 0, retry_failed: bool = True) -> RandomConfig:
    return RandomConfig(
        name="random",
        jobs="auto",
        devices=None,
        jobs_per_device=1,
        retry_failed=retry_failed,
        fresh=False,
        params={},
        trials=trials,
        seed=seed,
    )


def optuna_config(
    *,
    trials: int = 20,
    seed: int = 0,
    jobs: str = "1",
    startup_trials: int = 5,
    retry_failed: bool = True,
    pruner: str = "median",
    storage: str | None = None,
) -> OptunaConfig:
    return OptunaConfig(
        name="optuna",
        jobs=jobs,
        devices=None,
        jobs_per_device=1,
        retry_failed=retry_failed,
        fresh=False,
        params={},
        trials=trials,
        seed=seed,
        startup_trials=startup_trials,
        pruner=pruner,
        warmup=1,
        storage=storage,
    )


Config = Callable[..., RandomConfig]
BOTH = pytest.mark.parametrize("config", [random_config, optuna_config])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "sweep"
    path.mkdir()
    return path


def search(
    config: RandomConfig, folder: Path, *, axes: Sequence[Axis] = SPACE, maximize: bool = False
) -> Search:
    return Search(config, axes, folder=folder, name="lenet5", maximize=maximize)


def goodness(values: dict[str, str]) -> float:
    """The smaller the better: best at a rate of 0.01 and a momentum of 0.5."""
    return (math.log10(float(values["optimizer.lr"])) + 2) ** 2 + (
        float(values["optimizer.momentum"]) - 0.5
    ) ** 2


def run(found: Search, *, most: int = 1000) -> list[Suggestion]:
    """Ask and tell, up to `most` times."""
    asked: list[Suggestion] = []
    while len(asked) < most and (suggestion := found.ask()) is not None:
        asked.append(suggestion)
        found.tell(suggestion.number, status=JobStatus.DONE, value=goodness(suggestion.values))
    return asked


def values_of(asked: Sequence[Suggestion]) -> list[dict[str, str]]:
    return [suggestion.values for suggestion in asked]


def loaded(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="lenet5", storage=f"sqlite:///{folder}/study.db")


def edit(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "study.db") as connection:
        connection.execute(statement)
    connection.close()


@BOTH
def test_suggestions_are_of_the_space(config: Config, folder: Path) -> None:
    asked = run(search(config(trials=40), folder))
    assert [suggestion.number for suggestion in asked] == list(range(40))
    assert all(list(values) == [axis.key for axis in SPACE] for values in values_of(asked))
    rates = [float(values["optimizer.lr"]) for values in values_of(asked)]
    assert all(1e-4 <= rate <= 1 for rate in rates)
    assert sum(rate < 0.1 for rate in rates) > 20, "drawn by magnitude: evenly, one in ten would be"
    assert all(0 <= float(values["optimizer.momentum"]) <= 0.9 for values in values_of(asked))
    assert {values["model"] for values in values_of(asked)} == {"lenet5", "mlp"}
    assert {values["model.width"] for values in values_of(asked)} == {"8", "13", "18", "23"}, (
        "text without a point"
    )
    assert isinstance(loaded(folder).trials[0].distributions["model.width"], IntDistribution), (
        "near ones are alike"
    )
    early = values_of(asked)[:5]
    levels = [
        (1 + math.log10(float(values["optimizer.lr"])) / 4, float(values["optimizer.momentum"]))
        for values in early
    ]
    assert all(abs(one - other / 0.9) > 1e-6 for one, other in levels), (
        "each key is drawn on its own"
    )


def test_a_float_range_with_a_step_and_one_that_the_step_does_not_divide(folder: Path) -> None:
    axes = [
        Axis(key="model.dropout", low=0.1, high=0.6, step=0.2),
        Axis(key="model.depth", low=1, high=6, step=3, is_int=True),
    ]
    found, asked = search(random_config(trials=30), folder, axes=axes), []
    while (suggestion := found.ask()) is not None:
        asked.append(suggestion.values)
    assert {round(float(values["model.dropout"]), 9) for values in asked} == {0.1, 0.3, 0.5}
    assert {values["model.depth"] for values in asked} == {"1", "4"}


BOUND = st.floats(min_value=-1e12, max_value=1e12, allow_nan=False)


@settings(max_examples=8, deadline=None)
@given(
    bounds=st.tuples(BOUND, BOUND).map(sorted),
    logs=st.tuples(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300)).map(sorted),
    whole=st.tuples(st.integers(-(2**50), 2**50), st.integers(-(2**50), 2**50)).map(sorted),
    typed=st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True),
)
def test_text_gives_exactly_the_value_of_the_study(
    tmp_path_factory: pytest.TempPathFactory,
    bounds: list[float],
    logs: list[float],
    whole: list[int],
    typed: list[str],
) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    axes = [
        Axis(key="even", low=bounds[0], high=bounds[1]),
        Axis(key="log", low=logs[0], high=logs[1], log=True),
        Axis(key="whole", low=whole[0], high=whole[1], is_int=True),
        Axis(key="typed", values=tuple(typed)),
    ]
    found = search(random_config(trials=3), folder, axes=axes)
    asked = [found.ask(), found.ask(), found.ask()]
    for suggestion, trial in zip(asked, loaded(folder).trials, strict=True):
        assert suggestion is not None
        read = {key: suggestion.values[key] for key in ("even", "log", "whole", "typed")}
        assert {"even": float(read["even"]), "log": float(read["log"])} == {
            key: trial.params[key] for key in ("even", "log")
        }
        assert (
            int(read["whole"]) == trial.params["whole"]
            and whole[0] <= int(read["whole"]) <= whole[1]
        )
        assert (
            bounds[0] <= float(read["even"]) <= bounds[1]
            and logs[0] <= float(read["log"]) <= logs[1]
        )
        assert read["typed"] in typed


@BOTH
def test_a_search_that_was_cut_suggests_what_the_uncut_one_does(
    config: Config, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    uncut = run(search(config(), whole))
    first = search(config(), cut)
    asked = run(first, most=7)
    first.close()
    # In another order it is the same search.
    asked += run(
        search(
            config(), cut, axes=[WIDTH, MOMENTUM, Axis(key="model", values=("mlp", "lenet5")), LR]
        )
    )
    assert len(uncut) == 20
    assert values_of(asked) == values_of(uncut)
    assert len({tuple(values.items()) for values in values_of(uncut)}) == 20


@BOTH
def test_a_seed_fixes_the_search_and_another_gives_another(config: Config, tmp_path: Path) -> None:
    found = {}
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        (tmp_path / name).mkdir()
        found[name] = values_of(run(search(config(seed=seed, trials=8), tmp_path / name)))
    assert found["one"] == found["same"]
    assert all(one != other for one, other in zip(found["one"], found["other"], strict=True))


@pytest.mark.parametrize("number", [2, 9])
@BOTH
def test_a_trial_that_was_cut_between_two_of_its_values_gets_the_same(
    config: Config, folder: Path, number: int
) -> None:
    first = search(config(), folder)
    run(first, most=number)
    suggestion = first.ask()
    assert suggestion is not None
    edit(
        folder,
        "DELETE FROM trial_params WHERE param_name != 'optimizer.lr' AND trial_id = (SELECT "
        "max(trial_id) FROM trials)",
    )
    assert search(config(), folder).unfinished() == [suggestion]


@BOTH
def test_unfinished_trials_are_gone_on_with(config: Config, folder: Path) -> None:
    first = search(config(trials=5), folder)
    assert first.unfinished() == []
    done, cut, stopped = first.ask(), first.ask(), first.ask()
    assert done is not None and cut is not None and stopped is not None
    first.tell(done.number, status=JobStatus.DONE, value=1.0)
    first.tell(stopped.number, status=JobStatus.INTERRUPTED, value=None)
    second = search(config(trials=5), folder)
    assert second.unfinished() == [cut, stopped]
    second.tell(cut.number, status=JobStatus.DONE, value=0.5)
    second.tell(stopped.number, status=JobStatus.PRUNED, value=None)
    assert second.unfinished() == []
    assert [suggestion.number for suggestion in run(second)] == [3, 4], "they were counted"
    assert loaded(folder).best_value == 0.5 or loaded(folder).best_trial.number > 2


@BOTH
def test_failed_trials_are_repeated_once_by_each_process(config: Config, folder: Path) -> None:
    first = search(config(trials=4), folder)
    asked = [first.ask() for _ in range(4)]
    assert first.ask() is None
    for number in range(4):
        first.tell(
            number, status=JobStatus.FAILED if number == 1 else JobStatus.DONE, value=float(number)
        )
    assert first.failed() == [], "of earlier processes only"
    second = search(config(trials=4), folder)
    assert (second.failed(), second.failed()) == ([1], [1])
    again = second.ask()
    assert again is not None and asked[1] is not None
    assert (again.number, again.values) == (4, asked[1].values)
    second.tell(4, status=JobStatus.FAILED, value=None)
    assert second.ask() is None
    assert search(config(trials=4, retry_failed=False), folder).failed() == []
    assert search(config(trials=4, retry_failed=False), folder).ask() is None, (
        "it counts until it is repeated"
    )
    third = search(config(trials=4), folder)
    assert third.failed() == [1, 4]
    # Killed before it asked: what was to be repeated still is.
    fourth = search(config(trials=4), folder)
    assert fourth.failed() == [1, 4]
    last = fourth.ask()
    assert last is not None and (last.number, last.values) == (5, asked[1].values)
    assert fourth.ask() is None


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_trial_without_a_value_has_failed(folder: Path, value: float | None) -> None:
    found = search(optuna_config(trials=2), folder)
    for number in range(2):
        found.ask()
        found.tell(number, status=JobStatus.DONE, value=value)
    assert [trial.state.name for trial in loaded(folder).trials] == ["FAIL", "FAIL"]


def test_telling_again_changes_nothing(folder: Path) -> None:
    found = search(optuna_config(), folder)
    found.ask()
    found.tell(0, status=JobStatus.DONE, value=1.0)
    found.tell(0, status=JobStatus.FAILED, value=None)
    search(optuna_config(), folder).tell(0, status=JobStatus.DONE, value=7.0)
    assert (loaded(folder).trials[0].state.name, loaded(folder).trials[0].value) == (
        "COMPLETE",
        1.0,
    )


def test_more_trials_go_on_and_fewer_ask_for_none(folder: Path) -> None:
    assert len(run(search(optuna_config(trials=3), folder))) == 3
    assert [suggestion.number for suggestion in run(search(optuna_config(trials=5), folder))] == [
        3,
        4,
    ]
    assert search(optuna_config(trials=2), folder).ask() is None


@pytest.mark.parametrize("maximize", [False, True])
def test_what_was_told_turns_the_search_towards_the_better(folder: Path, maximize: bool) -> None:
    found = search(optuna_config(trials=60), folder, axes=[MOMENTUM], maximize=maximize)
    momenta = []
    while (suggestion := found.ask()) is not None:
        momenta.append(float(suggestion.values["optimizer.momentum"]))
        found.tell(suggestion.number, status=JobStatus.DONE, value=momenta[-1])
    late = sum(momentum > 0.45 for momentum in momenta[30:])
    assert late > 20 if maximize else late < 10, "15 of 30 would be by chance"


def test_with_several_jobs_a_running_trial_is_taken_for_a_bad_one(tmp_path: Path) -> None:
    found = {}
    for jobs in ("1", "2", "auto"):
        (tmp_path / jobs).mkdir()
        study = search(optuna_config(jobs=jobs), tmp_path / jobs)
        run(study, most=8)
        found[jobs] = [study.ask(), study.ask()]
    values = {
        jobs: [asked.values for asked in pair if asked is not None] for jobs, pair in found.items()
    }
    assert values["1"][0] == values["2"][0] != values["1"][1]
    assert values["1"][1] != values["2"][1] == values["auto"][1]


def test_only_a_search_that_prunes_hands_its_trials_to_the_jobs(tmp_path: Path) -> None:
    asked = []
    for index, config in enumerate(
        [random_config(), optuna_config(pruner="none"), optuna_config()]
    ):
        (tmp_path / str(index)).mkdir()
        asked.append(search(config, tmp_path / str(index)).ask())
    random, unpruned, pruned = asked
    assert random is not None and unpruned is not None and pruned is not None
    assert random.trial is None and unpruned.trial is None
    assert pruned.trial is not None and pruned.trial.study == "lenet5"


def test_any_name_of_a_folder_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "what?x=1 %41 {x} #é"
    folder.mkdir()
    assert len(run(search(optuna_config(trials=2), folder))) == 2
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert [path.name for path in folder.iterdir()] == ["study.db"]
    assert search(optuna_config(trials=2), folder).ask() is None


def told(error: pytest.ExceptionInfo[TrainerError]) -> str:
    lines = str(error.value).splitlines()
    assert len(lines) <= 3 and all(len(line) < 300 for line in lines)
    return " | ".join(lines)


@pytest.mark.parametrize(
    "axes",
    [
        (LR, MODEL, MOMENTUM),
        (*SPACE, Axis(key="seed", values=("0", "1"))),
        (Axis(key="optimizer.lr", low=1e-4, high=1.0), *SPACE[1:]),
        (LR, Axis(key="model", values=("mlp", "cnn")), *SPACE[2:]),
    ],
)
def test_a_study_of_another_space_is_refused(folder: Path, axes: tuple[Axis, ...]) -> None:
    run(search(optuna_config(), folder), most=2)
    with pytest.raises(UsageError) as error:
        search(optuna_config(), folder, axes=axes)
    changed = {axis.key for axis in {*axes} ^ {*SPACE}}
    assert len(changed) == 1 and f"other values to choose from for {changed.pop()}." in told(error)
    assert "sweep.fresh=true" in told(error)


def test_a_study_of_another_direction_is_refused(folder: Path) -> None:
    run(search(optuna_config(), folder), most=2)
    with pytest.raises(UsageError, match="looks for the smallest value"):
        search(optuna_config(), folder, maximize=True)


def test_a_study_of_somebody_else_is_refused(folder: Path) -> None:
    optuna.create_study(study_name="lenet5", storage=f"sqlite:///{folder}/study.db").ask()
    with pytest.raises(UsageError, match="was not made by a sweep"):
        search(optuna_config(), folder)


def test_a_study_that_lost_trials_is_refused(folder: Path) -> None:
    run(search(optuna_config(), folder), most=2)
    Search(optuna_config(), SPACE, folder=folder, name="lenet5", maximize=False, known=2).close()
    (folder / "study.db").unlink()
    with pytest.raises(InputError) as error:
        Search(optuna_config(), SPACE, folder=folder, name="lenet5", maximize=False, known=2)
    assert "0 trials" in told(error)


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be one " * 100)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def drop_a_column(path: Path) -> None:
    edit(path.parent, "ALTER TABLE trials DROP COLUMN datetime_complete")


def spoil_a_state(path: Path) -> None:
    edit(path.parent, "UPDATE trials SET state = 'NONSENSE'")


def spoil_an_attribute(path: Path) -> None:
    edit(path.parent, "UPDATE study_user_attributes SET value_json = '{'")


def let_be_of_the_future(path: Path) -> None:
    edit(path.parent, "UPDATE alembic_version SET version_num = 'v99.0.0.a'")


@pytest.mark.parametrize(
    "damage",
    [overwrite, halve, drop_a_column, spoil_a_state, spoil_an_attribute, let_be_of_the_future],
)
def test_a_damaged_study_is_told(folder: Path, damage: Callable[[Path], None]) -> None:
    first = search(optuna_config(), folder)
    run(first, most=2)
    first.close()
    damage(folder / "study.db")
    with pytest.raises(InputError) as error:
        run(search(optuna_config(), folder))
    assert (
        "study.db" in told(error) and "damaged" in told(error) and "sweep.fresh=true" in told(error)
    )


def test_a_folder_that_cannot_keep_a_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as error:
        search(optuna_config(), tmp_path / "missing")
    assert "unable to open database file" in told(error) and "missing/study.db" in told(error)


@contextlib.contextmanager
def no_writing() -> Iterator[None]:
    """No file takes a byte, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_the_search_goes_on_later(folder: Path) -> None:
    found = search(optuna_config(), folder)
    run(found, most=2)
    asked = found.ask()
    assert asked is not None
    with no_writing(), pytest.raises(EnvironmentFault) as error:
        found.tell(asked.number, status=JobStatus.DONE, value=1.0)
    assert "study.db" in told(error) and "goes on" in told(error)
    assert search(optuna_config(), folder).unfinished() == [asked]


def test_the_study_may_be_elsewhere(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = search(optuna_config(storage="sqlite:///all.db"), folder)
    asked = found.ask()
    assert asked is not None and asked.trial is not None
    assert asked.trial.storage == f"sqlite:///{tmp_path}/all.db", "for jobs in other folders"
    assert (tmp_path / "all.db").exists() and not list(folder.iterdir())


@pytest.mark.parametrize(
    "address",
    ["study.db", "nonsense://secret@host/x", "sqlite://", "sqlite:///:memory:", "x://a:b"],
)
def test_what_is_no_address_is_refused(folder: Path, address: str) -> None:
    with pytest.raises(ConfigError) as error:
        search(optuna_config(storage=address), folder)
    assert "sweep.storage" in told(error) and "secret" not in told(error)


def test_a_database_without_its_driver_is_told(folder: Path) -> None:
    with pytest.raises(EnvironmentFault) as error:
        search(optuna_config(storage="mssql+pymssql://name:{secret}@host/x"), folder)
    assert "pymssql" in told(error) and "secret" not in told(error)


def test_what_cannot_be_drawn_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"Optuna cannot draw seed"):
        search(optuna_config(), folder, axes=[Axis(key="seed", low=5, high=1, is_int=True)])


# Importing it must be quick.
IMPORTS = """
import sys
from trainer.commands.sweep.pruning import pruner_of
from trainer.commands.sweep.search import Search
assert not {"optuna", "sqlalchemy", "torch"} & {*sys.modules}
"""
SEARCHES = """
import sys
from pathlib import Path
from trainer.commands.sweep.pruning import pruner_of
from trainer.commands.sweep.search import Search
from trainer.config.sweep import Axis, OptunaConfig
config = OptunaConfig(**CONFIG)
found = Search(config, [Axis(key="a", low=0, high=1)], folder=Path.cwd(), name="x", maximize=False)
for _ in range(8):
    asked = found.ask()
    pruner_of(asked.trial, warn=print)(1.0)
    found.tell(asked.number, status="done", value=1.0)
assert "optuna" in sys.modules and "torch" not in sys.modules
"""


@pytest.mark.parametrize("program", [IMPORTS, SEARCHES])
def test_a_search_says_nothing_and_needs_no_torch(tmp_path: Path, program: str) -> None:
    code = program.replace("CONFIG", repr(dataclasses.asdict(optuna_config())))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
