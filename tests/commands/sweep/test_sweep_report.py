"""What a sweep found, in its three forms: plain values, files, and tables on the terminal."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from pathlib import Path

import pytest
from composing import config_of
from sweep_records import (
    ACCURACY,
    cells,
    csv_of,
    first_words,
    job,
    rates,
    rows_of,
    shown,
    sweep,
    table_of,
    written,
)

from trainer.commands.sweep.record import JobRecord, SweepRecord, read_record
from trainer.commands.sweep.report import seeds_vary, show, summarize, write_files
from trainer.commands.sweep.task import JobStatus
from trainer.tracking.console import Terminal

HOSTILE = "\x1b[2J=cmd() | [red]a\nb <script> `c"


@pytest.mark.parametrize(("maximize", "order"), [(True, ["2", "0", "1"]), (False, ["1", "0", "2"])])
def test_the_best_comes_first_and_what_has_no_value_after(
    maximize: bool, order: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rates(tmp_path, 0.5, 0.2, 0.9, float("nan"), None, maximize=maximize)
    record.jobs[0].metrics["val/loss"] = 1e-5
    shown(record)
    assert rows_of(capsys.readouterr().out) == [*order, "3", "4"]
    best = summarize(record)["best"]
    assert (
        str(best["job"]) == order[0] and best["value"] == record.jobs[best["job"]].metrics[ACCURACY]
    )
    written(record)
    assert [row[0] for row in cells((tmp_path / "sweep.md").read_text(), "Jobs")] == [
        *order,
        "3",
        "4",
    ]


def test_pruned_jobs_come_after_those_that_are_done_and_failures_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rates(tmp_path, 0.99, 0.3, None, 0.4, 0.5, None, None)
    for number, status in (
        (0, JobStatus.PRUNED),
        (2, JobStatus.FAILED),
        (4, JobStatus.INTERRUPTED),
        (5, JobStatus.WAITING),
        (6, JobStatus.RUNNING),
    ):
        record.jobs[number].status = status
    record.jobs[2].error = "Loss became NaN."
    shown(record)
    out, err = capsys.readouterr()
    assert rows_of(out) == ["3", "1", "0", "4", "2"], "what has not ended has no row"
    assert [line.split()[-1] for line in table_of(out)] == [
        "003-dirichlet-mlp", "001-dirichlet-mlp", "pruned", "interrupted", "failed",
    ]  # fmt: skip
    assert "Job 2 (optimizer.lr=2) failed: Loss became NaN." in err
    summary = summarize(record)
    assert summary["best"]["job"] == 3, "a pruned job was not trained to its end"
    record.jobs[1].status = record.jobs[3].status = JobStatus.PRUNED
    assert summarize(record)["best"] is None
    assert summary["counts"] == {
        "waiting": 1,
        "running": 1,
        "done": 2,
        "pruned": 1,
        "failed": 1,
        "interrupted": 1,
    }


def test_one_job_shows_its_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(rates(tmp_path, 0.5))
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == ["job", "optimizer.lr", ACCURACY, "run"] and rows_of(
        out
    ) == ["0"]


def test_nothing_uses_terminal_when_no_job_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rates(tmp_path, None, None)
    for one in record.jobs:
        one.status = JobStatus.WAITING
    shown(record)
    assert capsys.readouterr() == ("", "")
    assert summarize(record)["best"] is None
    assert [row["status"] for row in csv_of(record)] == ["waiting", "waiting"]


def test_a_sweep_that_failed_has_reasons_and_no_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rates(tmp_path, *[None] * 12)
    for one in record.jobs:
        one.status, one.run, one.error = JobStatus.FAILED, None, f"reason {one.number}"
    shown(record)
    out, err = capsys.readouterr()
    assert rows_of(out) == [str(at) for at in range(12)] and "repeat" not in out
    assert "failed: reason 7" in err and "reason 8" not in err and "4 more jobs failed" in err
    assert summarize(record)["best"] is None
    written(record)
    failures = cells((tmp_path / "sweep.md").read_text(), "Failures")
    assert failures == [[str(at), f"reason {at}"] for at in range(12)]


def test_keys_that_do_not_differ_are_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        job(0, {"model": "mlp", "data": "line"}, 0.5),
        job(1, {"model": "cnn", "data": "line", "x": "1"}, 0.6),
    ]
    record = sweep(tmp_path, jobs)
    shown(record)
    assert capsys.readouterr().out.splitlines()[2].split() == ["job", "model", "x", ACCURACY, "run"]
    row = csv_of(record)[0]
    assert (
        list(row) == ["job", "status", "model", "x", ACCURACY, "seconds", "run", "error"]
        and row["x"] == ""
    )


def seeded(folder: Path) -> SweepRecord:
    jobs: list[JobRecord] = []
    scores = {"0.1": (0.6, 0.7, 0.95), "0.01": (0.8, 0.9, 0.85), "1": (0.2, None, None)}
    for rate, values in scores.items():
        for seed, value in enumerate(values):
            number = len(jobs)
            jobs.append(job(number, {"optimizer.lr": rate, "seed": str(seed)}, value))
            if value is None:
                jobs[-1].status, jobs[-1].error = JobStatus.FAILED, "no"
            else:
                jobs[-1].metrics |= {"test/loss": value / 3, "train/loss": 7.0}
    return sweep(folder, jobs)


def test_seeds_are_grouped_with_mean_and_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = seeded(tmp_path)
    groups = summarize(record)["groups"]
    assert [group["values"] for group in groups] == [
        {"optimizer.lr": rate} for rate in ("0.01", "0.1", "1")
    ]
    assert groups[0]["jobs"] == [3, 4, 5] and [group["runs"] for group in groups] == [3, 3, 1]
    for group, values in zip(groups, [(0.8, 0.9, 0.85), (0.6, 0.7, 0.95)], strict=False):
        assert set(group["metrics"]) == {ACCURACY, "test/loss"}
        assert group["metrics"][ACCURACY]["mean"] == pytest.approx(statistics.mean(values))
        assert group["metrics"][ACCURACY]["std"] == pytest.approx(statistics.stdev(values))
        assert group["metrics"]["test/loss"]["std"] == pytest.approx(
            statistics.stdev(value / 3 for value in values)
        )
    assert groups[2]["metrics"][ACCURACY] == {"mean": 0.2, "std": None, "runs": 1}
    shown(record)
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == ["optimizer.lr", ACCURACY, "test/loss", "runs"]
    assert first_words(table_of(out)) == ["0.01", "0.1", "1"]
    assert "0.8500 ± 0.0500" in out and "1 of 3" in out and str(tmp_path / "sweep.csv") in out
    assert re.search(r"best mean +0\.8500 ± 0\.0500 \(optimizer\.lr=0\.01\)", out)
    written(record)
    assert [row[0] for row in cells((tmp_path / "sweep.md").read_text(), "Seeds")] == [
        "0.01",
        "0.1",
        "1",
    ]
    assert len(cells((tmp_path / "sweep.md").read_text(), "Jobs")) == 9


@pytest.mark.parametrize("values", [{"seed": "1", "model": "cnn"}, {"seed": "0", "model": "cnn"}])
def test_one_seed_of_each_kind_is_no_group(values: dict[str, str], tmp_path: Path) -> None:
    record = sweep(tmp_path, [job(0, {"seed": "0", "model": "mlp"}, 0.5), job(1, values, 0.6)])
    assert summarize(record)["groups"] is None


def test_of_many_jobs_the_best_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = rates(tmp_path, *(at / 200 for at in range(200)))
    shown(record)
    out = capsys.readouterr().out
    assert rows_of(out) == [str(at) for at in range(199, 159, -1)]
    assert f"160 more are in {tmp_path / 'sweep.md'}" in out
    assert len(csv_of(record)) == 200
    assert len(cells((tmp_path / "sweep.md").read_text(), "Jobs")) == 200


def test_the_csv_is_the_record(tmp_path: Path) -> None:
    record = rates(tmp_path, 1 / 3, 1e-30, None, float("nan"), -0.5)
    record.jobs[2].error, record.jobs[2].status = 'a "b", c', JobStatus.FAILED
    record.jobs[0].metrics["test/loss"] = 0.1 + 0.2
    for row, one in zip(csv_of(record), record.jobs, strict=True):
        assert (int(row["job"]), row["status"], row["run"]) == (one.number, one.status, one.run)
        assert (
            row["optimizer.lr"] == one.values["optimizer.lr"]
            and float(row["seconds"]) == one.seconds
        )
        assert row["error"] == (one.error or "")
        for name in (ACCURACY, "test/loss"):
            value = one.metrics.get(name)
            assert (
                row[name] == ""
                if value is None
                else float(row[name]) == pytest.approx(value, rel=0, nan_ok=True)
            )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " ="])
def test_no_cell_is_a_formula(start: str, tmp_path: Path) -> None:
    record = sweep(
        tmp_path, [job(0, {"x": f"{start}cmd()"}), job(1, {"x": "-0.5"}), job(2, {"x": "+1e-3"})]
    )
    assert [row["x"][0] for row in csv_of(record)] == ["'", "-", "+"]


def test_hostile_text_is_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = job(1, {"x": HOSTILE + "\udcff"}, status=JobStatus.FAILED, error=HOSTILE)
    record = sweep(tmp_path, [job(0, {"x": HOSTILE}, 0.5), bad])
    shown(record)
    out, err = capsys.readouterr()
    assert (
        "\x1b" not in out + err
        and all("[red]a" in line for line in table_of(out))
        and "[red]a" in err
    )
    (row, failed), markdown = csv_of(record), (tmp_path / "sweep.md").read_text()
    assert row["x"] == "?[2J=cmd() | [red]a b <script> `c" == failed["error"]
    assert "\x1b" not in markdown
    for cell in (cells(markdown, "Jobs")[0][1], cells(markdown, "Failures")[0][1]):
        assert cell == r"?[2J=cmd() \| [red]a b \<script\> \`c"


def test_links_and_fences_in_values_stay_text(tmp_path: Path) -> None:
    value = "[here](http://example.org) ```"
    written(sweep(tmp_path, [job(0, {"x": value}, 0.5)]))
    markdown = (tmp_path / "sweep.md").read_text()
    assert cells(markdown, "Jobs")[0][1] == r"[here\](http://example.org) \`\`\`"
    assert "````sh\ntrainer fit 'x=[here](http://example.org) ```'\n````\n" in markdown


def test_commands_are_quoted_for_a_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my sweeps"
    folder.mkdir()
    record = rates(folder, 0.5, 0.9)
    record.jobs[1].command = ["trainer", "fit", "run.name=two words", "model.hidden=[8, 8]"]
    said = summarize(record)["best"]["command"]
    assert shlex.split(said) == record.jobs[1].command
    shown(record)
    facts = dict(re.findall(r"^  ([a-z]+) {2,}(.*)$", capsys.readouterr().out, re.MULTILINE))
    assert facts["repeat"] == said and facts["best"] == "val/accuracy 0.9000 (job 1)"
    assert shlex.split(facts["tensorboard"]) == ["trainer", "tb", str(folder)]
    assert facts["sweep"] == str(folder) and facts["report"] == str(folder / "sweep.md")
    written(record)
    assert f"```sh\n{said}\n```" in (folder / "sweep.md").read_text()


@pytest.mark.parametrize("empty", [True, False])
def test_the_summary_is_plain_json_and_the_page_whole(empty: bool, tmp_path: Path) -> None:
    record = sweep(tmp_path, []) if empty else seeded(tmp_path)
    if not empty:
        record.jobs[0].metrics["val/loss"] = float("nan")
    record.summary = summarize(record)
    assert json.loads(json.dumps(record.summary, allow_nan=False)) == record.summary
    written(record)
    if not empty:
        record.jobs[0].metrics["val/loss"] = None  # as run.json has it
    record.write()
    found = read_record(tmp_path)
    assert found is not None and found.summary == record.summary
    titles = re.findall(r"^## (.*)$", (tmp_path / "sweep.md").read_text(), re.MULTILINE)
    assert titles == [
        *([] if empty else ["Jobs", "Seeds", "Failures", "Best"]),
        "Importance",
        "Look at it",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sweep.csv",
        "sweep.json",
        "sweep.md",
    ]


def test_importance_is_reported_where_there_are_enough_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = []
    for number in range(16):
        depth, width = number % 4, number // 4
        jobs.append(job(number, {"depth": str(depth), "width": str(width)}, depth + width / 100))
    record = sweep(tmp_path, jobs)
    summary = summarize(record)
    assert (
        list(summary["importance"]) == ["depth", "width"] and summary["why_no_importance"] is None
    )
    shown(record)
    assert re.search(r"importance +depth 0\.\d\d, width 0\.\d\d\n", capsys.readouterr().out)
    written(record)
    assert [row[0] for row in cells((tmp_path / "sweep.md").read_text(), "Importance")] == [
        "depth",
        "width",
    ]
    record.jobs = jobs[:4]
    written(record)
    assert "Not known: too few runs: 4" in (tmp_path / "sweep.md").read_text()
    assert summarize(record)["importance"] is None


WEIGHTS = "weights, order"
SAMPLES = "samples"
HELD_OUT = "split"
HINT = "; data.seed=0 keeps the data"
OF_DIRICHLET = ("data=dirichlet", "model=mlp")


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("keys", "words", "wanted"),
    [
        (["seed"], OF_DIRICHLET, f"{WEIGHTS}, {SAMPLES}, {HELD_OUT}{HINT}"),
        (["seed"], (*OF_DIRICHLET, "data.seed=0"), WEIGHTS),
        (["data.seed"], (*OF_DIRICHLET, "data.val_size=0"), SAMPLES),
        (["seed", "data.seed"], ("data=fashion_mnist",), f"{WEIGHTS}, {HELD_OUT}"),
        (["seed"], ("data=fashion_mnist", "data.val_size=0"), WEIGHTS),
        (["seed"], ("experiment=line",), WEIGHTS),
        (["optimizer.lr"], OF_DIRICHLET, ""),
    ],
)
def test_what_the_seeds_vary(keys: list[str], words: tuple[str, ...], wanted: str) -> None:
    assert seeds_vary(keys, [config_of(*words).data]) == wanted


def test_what_the_seeds_vary_is_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = sweep(tmp_path, [job(at, {"data.seed": str(at)}, float(at)) for at in range(2)])
    record.summary = summarize(record, seeds="the noise | of the line")
    show(record, terminal=Terminal())
    assert "seeds vary   the noise | of the line" in capsys.readouterr().out
    write_files(record)
    text = (tmp_path / "sweep.md").read_text()
    assert r"over the seeds. They vary the noise \| of the line." in text


@pytest.mark.fault("N")
@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (100, ["job", "optimizer.lr", "a.quite_long_key", "test/loss", ACCURACY, "run"]),
        (60, ["job", "optimizer.lr", "a.quite_long_key", "test/loss", ACCURACY]),
        (52, ["job", "optimizer.lr", "a.quite_long_key", ACCURACY]),
        (36, ["job", "optimizer.lr", ACCURACY]),
        (5, ["job", "optimizer.lr", ACCURACY]),
    ],
)
def test_a_narrow_table_leaves_columns_out_and_splits_no_number(
    columns: int,
    titles: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Failed before: at 60 columns numbers went on below, at 12 a letter was a line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    jobs = [
        job(number, {"optimizer.lr": f"0.{number}", "a.quite_long_key": f"{number}"}, None)
        for number in (1, 2)
    ]
    for one in jobs:
        one.metrics = {"test/loss": 1234.5678, ACCURACY: 0.12345}
    shown(sweep(tmp_path, jobs))
    out = capsys.readouterr().out
    head, rows = out.splitlines()[2], table_of(out)
    assert head.split() == titles
    assert [row.split()[:2] for row in rows] == [["1", "0.1"], ["2", "0.2"]]
    assert all("0.1235" in row for row in rows)
    assert max(map(len, [head, *rows])) <= max(columns, 31)
