"""Completion: what may follow the words typed so far, and that bash, zsh and fish offer it."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import run_python, trainer_main
from composing import choices_of, config_of
from waiting import HANG_S

from trainer.cli import completion
from trainer.cli.completion import candidates
from trainer.cli.verbs import VERBS
from trainer.config import flatten, to_plain
from trainer.run.index import read_index

RUNS_VERBS = {verb.name.removeprefix("runs ") for verb in VERBS["runs"].verbs}
AFTER_A_COMMA = {f"columns=seed,optimizer.{name}" for name in ("amsgrad", "alpha")}
MODELS = {f"model={name}" for name in choices_of("model")}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trainer ", {*VERBS, "--help", "--version", "--shell-completion"}),
        ("trainer c", {"check-run"}),
        ("trainer f", {"fit"}),
        ("trainer --v", {"--version"}),
        ("trainer --shell-completion ", {"install=bash", "install=zsh", "install=fish"}),
        ("trainer fti mod", set()),
        ("trainer fit mod", {"model=", "model."}),
        ("trainer fit model=", MODELS),
        ("trainer fit model=l", {"model=linear", "model=lenet5"}),
        ("trainer   fit  model=l", {"model=linear", "model=lenet5"}),
        ("python -m trainer fit model=l", {"model=linear", "model=lenet5"}),
        ("/some/where/trainer fit model=l", {"model=linear", "model=lenet5"}),
        ("trainer fit -m model=cnn,l", {"model=cnn,linear", "model=cnn,lenet5"}),
        (
            "trainer fit data=mnist 'data.transforms=[{name: crop, top: 3}]' model=l",
            {"model=linear", "model=lenet5"},
        ),
        ("trainer fit 'mod", {"model=", "model."}),
        ("trainer fit model.", {"model.channels=", "model.hidden="}),
        ("trainer fit model=mlp model.", {"model.hidden=", "model.dropout="}),
        ("trainer fit model=mlp mod", {"model."}),
        ("trainer fit optimizer=adam optimizer.am", {"optimizer.amsgrad="}),
        (
            "trainer fit optimizer=adam optimizer.amsgrad=",
            {"optimizer.amsgrad=true", "optimizer.amsgrad=false"},
        ),
        ("trainer fit optimizer.lr=0.1 optimizer.l", set()),
        ("trainer fit trainer.pre", {"trainer.precision="}),
        ("trainer fit trainer=", {"trainer=debug", "trainer=default"}),
        ("trainer fit run.", {"run.root=", "run.name=", "run.dir="}),
        ("trainer fit experiment=l", {"experiment=line", "experiment=lr_sweep"}),
        ("trainer fit se", {"seed="}),
        ("trainer fit ck", set()),
        ("trainer fit --cfg ", {"job", "hydra", "all"}),
        ("trainer fit --c", {"--cfg", "--config-dir"}),
        ("trainer fit no.such", set()),
        ("trainer fit no=", set()),
        ("trainer eval ck", {"ckpt="}),
        ("trainer eval ckpt=l", {"ckpt=last"}),
        ("trainer eval ev", {"eval."}),
        ("trainer eval eval.split=", {"eval.split=test", "eval.split=val", "eval.split=train"}),
        ("trainer eval eval.json=", {"eval.json=true", "eval.json=false"}),
        ("trainer eval opt", set()),
        ("trainer eval --j", {"--json"}),
        ("trainer check-run ", {"last", "run.root="}),
        ("trainer check-run l", {"last"}),
        ("trainer check-run last ", {"run.root="}),
        ("trainer check-run run.root=results l", {"last"}),
        ("trainer check-run last run.root=results ", set()),
        ("trainer check-run --", {"--help"}),
        ("trainer t", {"tb"}),
        ("trainer tb ", {"last", "port=", "run.root="}),
        ("trainer tb p", {"port="}),
        ("trainer tb port=6007 ", {"last", "run.root="}),
        ("trainer tb last ", {"port=", "run.root="}),
        ("trainer tb last port=6007 run.root=results ", set()),
        ("trainer tb port=", {"port=6006"}),
        ("trainer tb --", {"--help"}),
        ("trainer ru", {"runs"}),
        (
            "trainer runs ",
            {*RUNS_VERBS, "sort=", "limit=", "columns=", "status=", "tag=", "run.root="},
        ),
        ("trainer runs b", {"best"}),
        ("trainer runs ls s", {"sort=", "status="}),
        (
            "trainer runs ls sort=val/",
            {f"sort=val/{name}" for name in ("accuracy", "loss", "mse", "mae")},
        ),
        ("trainer runs status=d", {"status=done", "status=damaged"}),
        (
            "trainer runs best t",
            {f"test/{name}" for name in ("accuracy", "loss", "mse", "mae")}
            | {"train/accuracy", "train/loss", "tag="},
        ),
        ("trainer runs show ", {"last", "run.root="}),
        ("trainer runs compare last ", {"limit=", "run.root="}),
        ("trainer runs ls columns=see", {"columns=seed"}),
        ("trainer runs ls columns=seed,optimizer.a", AFTER_A_COMMA),
        ("trainer runs tag last ", set()),
        ("trainer runs --", {"--json", "--csv", "--quiet", "--help"}),
        ("trainer runs rm --", {"--yes", "--help"}),
        ("trainer rep", {"reproduce"}),
        ("trainer reproduce ", {"last", *(f"{key.name}=" for key in VERBS["reproduce"].keys)}),
        ("trainer reproduce last run.", {"run.root=", "run.name=", "run.dir="}),
        ("trainer reproduce last trainer.device=c", {"trainer.device=cpu", "trainer.device=cuda"}),
        ("trainer reproduce --", {"--config-dir", "--help"}),
        ("", {*VERBS, "--help", "--version", "--shell-completion"}),
    ],
)
def test_what_may_follow(
    line: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(candidates(line)) == expected


def test_every_command_is_offered_and_explained() -> None:
    offered = candidates("trainer ")
    assert {name: offered.get(name) for name in VERBS} == {
        name: verb.summary for name, verb in VERBS.items()
    }


def test_a_run_folder_is_a_whole_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "runs" / "day" / name).mkdir(parents=True)
    (tmp_path / "runs" / "day" / "one" / "run.json").write_text("{}")
    (tmp_path / "runs.txt").write_text("")
    assert set(candidates("trainer check-run r")) == {"runs/", "run.root="}
    assert set(candidates("trainer check-run runs/")) == {"runs/day/"}
    assert set(candidates("trainer check-run runs/day/")) == {"runs/day/one", "runs/day/two/"}
    assert set(candidates("trainer check-run runs/day/one runs/")) == set(), (
        "one run is all it takes"
    )
    assert set(candidates("trainer tb runs/day/one runs/day/")) == {"runs/day/two/"}, (
        "any number, each once"
    )
    assert set(candidates("trainer tb runs/day/two/ runs/day/")) == {"runs/day/one"}
    assert set(candidates("trainer check-run last run.root=r")) == {
        "run.root=runs/",
        "run.root=runs.txt",
    }


def test_runs_are_offered_by_their_ids_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"run-{number}" for number in range(30)]
    for folder in (*(f"runs/day/{name}" for name in names), "results/day/other"):
        Path(folder).mkdir(parents=True)
        Path(folder, "run.json").write_text("{}")
    ids = {entry.id: entry.name for entry in read_index(Path("runs"))}
    offered = candidates("trainer runs show ")
    assert (
        offered.pop("last")
        and offered.pop("run.root=")
        and offered.items() <= {**ids, "runs/": "", "results/": ""}.items()
    )
    assert len(ids.keys() & offered) == 20, "the newest; there may be hundreds"
    for known in ids:
        for line in (
            "runs show ",
            "runs rm last ",
            "tb ",
            "check-run ",
            "eval ckpt=",
            "fit resume=",
        ):
            key = line.split()[-1] if line.endswith("=") else ""
            assert f"{key}{known}" in candidates(f"trainer {line}{known[:4]}")
        assert known not in candidates(f"trainer runs show {known} {known[:4]}"), "each once"
    [other] = read_index(Path("results"))
    assert candidates(f"trainer runs show run.root=results {other.id[:3]}") == {other.id: "other"}


def test_what_is_offered_is_explained_by_the_yaml() -> None:
    assert candidates("trainer fit model=li")["model=linear"].startswith("One nn.Linear")
    assert candidates("trainer fit optimizer.l")["optimizer.lr="] == "learning rate"
    assert candidates("trainer fit experiment=")["experiment=line"].startswith("Linear regression")


def test_every_value_that_is_offered_is_taken() -> None:
    for key in (
        "trainer.device",
        "trainer.precision",
        "trainer.compile",
        "trainer.deterministic",
        "data.drop_last",
    ):
        words = list(candidates(f"trainer fit {key}="))
        taken = [flatten(to_plain(config_of(word)))[key] for word in words]
        assert words
        assert [f"{key}={value}".lower() for value in taken] == words


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first run").mkdir(parents=True)
    (tmp_path / "rules.txt").write_text("")
    (tmp_path / ".hidden").mkdir()
    assert set(candidates("trainer eval ckpt=ru")) == {"ckpt=runs/", "ckpt=rules.txt"}
    assert set(candidates("trainer fit resume=runs/")) == {"resume=runs/first run/"}
    assert set(candidates(f"trainer fit data.root={tmp_path}/ru")) == {
        f"data.root={tmp_path}/runs/",
        f"data.root={tmp_path}/rules.txt",
    }
    assert set(candidates("trainer fit --config-dir r")) == {"runs/", "rules.txt"}
    assert set(candidates("trainer fit run.root=")) == {"run.root=runs/", "run.root=rules.txt"}
    assert candidates("trainer eval ckpt=/no/such/folder/") == {}


def test_peoples_own_yaml(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "lstm.yaml").write_text(
        "# Mine.\nname: mlp\nhidden: [3]   # few\ndropout: 0.0\n"
    )
    (tmp_path / "model" / "broken.yaml").write_text("name: [\n")
    line = f"trainer fit --config-dir {tmp_path} model=l"
    assert candidates(line) == {**candidates("trainer fit model=l"), "model=lstm": "Mine."}
    assert candidates(f"trainer fit --config-dir {tmp_path} model=lstm model.h") == {
        "model.hidden=": "few"
    }
    assert candidates(f"trainer fit --config-dir {tmp_path} model=broken model.") == {}


@pytest.mark.parametrize("flag", ["--shell-completion", "-sc"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_query_answers_a_candidate_a_line(
    shell: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", "trainer fit model=l")
    ran = trainer_main(flag, f"query={shell}", cwd=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["model=lenet5", "model=linear"]
    assert all(("\t" in line) == (shell != "bash") for line in lines)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home and a path of its own, with a `trainer` that is the one under test."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "trainer"
    source = Path(completion.__file__).parents[2]
    command = f"PYTHONPATH={shlex.quote(str(source))} exec {shlex.quote(sys.executable)} -m trainer"
    program.write_text(f'#!/bin/sh\n{command} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {
        "HOME": str(tmp_path),
        "PATH": path,
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "PS1": "> ",
        "PROMPT": "> ",
    }


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def test_the_function_in_bash(environment: dict[str, str], tmp_path: Path) -> None:
    script = """
    eval "$(trainer --shell-completion install=bash)"
    complete -p trainer
    ask() {
        COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=1
        _trainer_completion trainer "$2" "$3"
        printf '%s\\n' "${COMPREPLY[@]}"; }
    ask "trainer fit model=l" l =
    ask "trainer fit mod" mod fit
    """
    done = subprocess.run(
        [needs("bash"), "--norc", "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    words = ["complete -F _trainer_completion trainer", "lenet5", "linear", "model=", "model."]
    assert (done.stdout.splitlines(), done.stderr) == (words, "")


def test_fish(environment: dict[str, str], tmp_path: Path) -> None:
    script = """
    trainer --shell-completion install=fish | source
    complete --do-complete 'trainer fit model=l'
    complete --do-complete 'trainer f'
    trainer --shell-completion uninstall=fish | source
    """
    done = subprocess.run(
        [needs("fish"), "--no-config", "-c", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    words = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert (words, done.stderr) == (["model=lenet5", "model=linear", "fit"], "")


class Terminal:
    """A shell in a terminal of its own, typed into as a person does."""

    def __init__(self, command: list[str], *, env: dict[str, str], cwd: Path) -> None:
        self._master, slave = pty.openpty()
        self._shell = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
        os.close(slave)

    def type(self, keys: str, *, until: str) -> str:
        """Type `keys` and read until the pattern `until` has been shown; what was shown, without
        control sequences.
        """
        os.write(self._master, keys.encode())
        shown, deadline = "", time.monotonic() + HANG_S
        while not re.search(until, shown):
            ready, _, _ = select.select([self._master], [], [], 0.2)
            if ready:
                shown += os.read(self._master, 65536).decode(errors="replace")
                shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x07", "", shown)
            assert time.monotonic() < deadline, f"waited for {until!r}, saw {shown!r}"
        return shown

    def close(self) -> None:
        self._shell.kill()
        self._shell.wait()
        os.close(self._master)


COMMANDS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"]}


@pytest.fixture(params=COMMANDS)
def terminal(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path: Path
) -> Iterator[Terminal]:
    shell = request.param
    found = Terminal([needs(shell), *COMMANDS[shell]], env=environment, cwd=tmp_path)
    try:
        found.type(
            f'eval "$(trainer --shell-completion install={shell})"; echo rea""dy\r',
            until="ready\r?\n",
        )
        yield found
    finally:
        found.close()


def test_typing_in_a_terminal(terminal: Terminal) -> None:
    terminal.type("\x15trainer f\t", until=r"trainer fit ")
    terminal.type("model=l\t\t", until=r"(?s)lenet5.*linear")
    terminal.type("\x15trainer fit model=le\t", until=r"model=lenet5 ")
    terminal.type("optimizer.w\t", until=r"optimizer\.weight_decay=")
    terminal.type("\x15trainer fit resume=bi\t", until=r"resume=bin/")
    assert "trainer " in terminal.type("tr\t", until=r"trainer ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_uninstalling_takes_back_what_installing_did(
    shell: str, environment: dict[str, str], tmp_path: Path
) -> None:
    install, uninstall = (
        run_python("-m", "trainer", "--shell-completion", f"{action}={shell}", cwd=tmp_path).out
        for action in ("install", "uninstall")
    )
    names = set(re.findall(r"_+trainer_completion", install))
    assert names
    assert names == set(re.findall(r"_+trainer_completion", uninstall))
    if shell == "bash":
        script = f"{install}\n{uninstall}\ndeclare -F; complete -p"
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
