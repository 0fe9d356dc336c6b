"""What a person sees when a command is wrong: three lines at most, the nearest valid name, the
right exit code.

The commands run one after another in a single new process, in which torch must never be loaded.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from commandline import DATASETS as IMAGES
from commandline import needs_datasets, run_trainer, trainer_main
from composing import choices_of
from wrong_commands import Outcome, check, run_commands

# Command -> exit code and words that must be in the message.
WRONG: dict[str, tuple[int, tuple[str, ...]]] = {
    # The command itself.
    "fti model=cnn": (2, ("no command fti", "Did you mean fit?")),
    "evaluate ckpt=last": (2, ("Did you mean eval?",)),
    "chek-run last": (2, ("no command chek-run", "Did you mean check-run?")),
    "rusn": (2, ("no command rusn", "Did you mean runs?")),
    "runs lst": (2, ("no verb lst", "Did you mean ls?")),
    "runs show nothing": (2, ("nothing does not exist, and no run",)),
    "runs --jsn": (2, ("no flag --jsn", "Did you mean --json?")),
    "check last": (2, ("no command check", "Did you mean check-run?")),
    "train": (2, ("no command train", "eval, fit")),
    "model=cnn": (2, ("command is missing", "trainer fit model=cnn")),
    "-m model=cnn,mlp": (2, ("command is missing before -m",)),
    "--hlep": (2, ("no flag --hlep", "Did you mean --help?")),
    # Flags.
    "fit --multi-run": (2, ("no flag --multi-run", "Did you mean --multirun?")),
    "fit --epochs 3": (2, ("no flag --epochs", "trainer.epochs=")),
    "fit --batch-size=3": (2, ("no flag --batch-size", "data.batch_size=")),
    "fit --model cnn": (2, ("no flag --model", "model=")),
    "fit --multirun=true": (2, ("--multirun takes no value",)),
    "fit --cfg": (2, ("--cfg needs a value", "--cfg job")),
    "fit --cfg jobs": (2, ("--cfg jobs", "Did you mean job?")),
    "fit -m --cfg job": (2, ("--multirun and --cfg do not go together",)),
    "fit --resolve": (2, ("--resolve goes with --cfg",)),
    "fit --cfg job --package nothing": (2, ("nothing",)),
    "fit --config-dir": (2, ("--config-dir needs a value",)),
    "fit --config-dir nowhere": (2, ("nowhere is not a folder",)),
    "fit --experimental-rerun x.pickle": (2, ("no flag --experimental-rerun",)),
    "eval --jsn ckpt=last": (2, ("no flag --jsn", "Did you mean --json?")),
    "--shell-completion install=tcsh": (2, ("bash (or zsh, fish)",)),
    # Words that are no overrides.
    "fit cnn": (2, ("cnn is not an override", "model=cnn")),
    "fit model": (2, ("model is not an override", "key=value")),
    "fit =3": (2, ("=3 is not an override",)),
    "fit -m optimizer.lr=0.1, 0.2": (2, ("without spaces: optimizer.lr=0.1,0.2",)),
    "fit -m optimizer.lr=0.1 ,0.2": (2, ("without spaces: optimizer.lr=0.1,0.2",)),
    "fit optimizer.lr= 0.1": (2, ("without spaces: optimizer.lr=0.1",)),
    "fit model=cnn 0.2": (2, ("Write key=value",)),
    "fit 'optimizer.lr=[1'": (2, ("optimizer.lr=[1 cannot be read",)),
    "fit 'model=cnn('": (2, ("model=cnn( cannot be read",)),
    "eval last": (3, ("no run in runs",)),
    # Groups and choices.
    "fit modle=cnn": (2, ("modle", "Did you mean model?")),
    "fit model=cn": (2, ("model=cn", "Did you mean cnn?")),
    "fit model=CNN": (2, ("model=CNN", "Did you mean cnn?")),
    "fit model=": (2, ("model=", "cnn, cnn_dropout")),
    "fit data=mnst": (2, ("Did you mean mnist?",)),
    "fit loss=crossentropy": (2, ("Did you mean cross_entropy?",)),
    "fit optimizer=adamm": (2, ("Did you mean adam?",)),
    "fit scheduler=cosin": (2, ("Did you mean cosine?",)),
    "fit logger=tensorbord": (2, ("Did you mean tensorboard?",)),
    "fit trainer=debgu": (2, ("Did you mean debug?",)),
    "fit experiment=lines": (2, ("Did you mean line?",)),
    "fit data=mnist data=fashion_mnist": (2, ("data is given more than once",)),
    "fit trainer=debug trainer=default": (2, ("trainer is given more than once",)),
    "fit +model=mlp": (2, ("model has a choice already", "Leave out the +")),
    "fit ~optimizer": (2, ("optimizer is missing",)),
    "fit model='???'": (2, ("model is not chosen", "lenet5")),
    "fit model=cnn,mlp": (2, ("model=cnn,mlp has several values", "-m")),
    # Keys.
    "fit optimizr.lr=1": (2, ("optimizr", "Did you mean optimizer.lr=1?")),
    "fit optimizr.x=1": (2, ("optimizr", "Did you mean optimizer?")),
    "fit optimizer.l=1": (2, ("optimizer=sgd has no key l", "lr")),
    "fit model.hiden=3": (2, ("model=cnn has no key hiden", "Did you mean hidden?")),
    "fit trainer.acumulate=2": (2, ("Did you mean accumulate?",)),
    "fit run.nam=x": (2, ("Did you mean name?",)),
    "fit optimizer=adam optimizer.momentum=0.9": (
        2,
        ("optimizer=adam has no key momentum", "betas"),
    ),
    "fit logger=none logger.scalars=true": (2, ("logger=none has no key scalars",)),
    "fit +optimizer.lr=0.1": (2, ("optimizer.lr exists already", "Leave out the +")),
    "fit ++model.width=1": (2, ("model.width", "channels, hidden")),
    "fit ~optimizer.lr": (2, ("optimizer.lr is missing",)),
    "fit model.name=mlp": (2, ("model.name cannot be set", "model=mlp")),
    "fit ckpt=last": (2, ("ckpt belongs to trainer eval", "resume=")),
    "fit eval.split=val": (2, ("eval.split belongs to trainer eval",)),
    "fit _target_=os.system": (2, ("_target_",)),
    "fit +model._target_=os.system": (2, ("model._target_",)),
    # Of Hydra's own keys, only its search path means something here.
    "fit hydra.run.dir=elsewhere": (2, ("hydra.run.dir has no effect", "run.dir=")),
    "fit hydra/launcher=joblib": (2, ("hydra/launcher has no effect",)),
    "fit hydra.mode=MULTIRUN": (2, ("hydra.mode=MULTIRUN is not how", "Write -m")),
    "fit -m hydra.sweeper.params.seed=1 seed=1,2": (2, ("no effect", "sweep.params")),
    # Types.
    "fit trainer.epochs=many": (2, ("trainer.epochs=many", "a whole number is expected")),
    "fit trainer.epochs=1.5": (2, ("trainer.epochs=1.5", "a whole number")),
    "fit optimizer.lr=fast": (2, ("optimizer.lr=fast", "a number is expected")),
    "fit optimizer.lr=": (2, ("optimizer.lr=", "a number is expected")),
    "fit optimizer.nesterov=maybe": (2, ("optimizer.nesterov=maybe", "true or false")),
    "fit data.drop_last=5": (2, ("data.drop_last=5", "true or false")),
    "fit model.channels=[a,b]": (2, ("model.channels", "a list of whole numbers")),
    "fit trainer.patience=soon": (2, ("a whole number or null",)),
    "fit seed=one": (2, ("seed=one", "whole number")),
    "fit run=x": (2, ("run=x is not a group",)),
    "fit 'run.name=${nope}'": (2, ("run.name cannot be read", "nope")),
    "fit 'run.root=${oc.env:TRAINER_NO_SUCH}'": (2, ("run.root cannot be read", "TRAINER_NO_SUCH")),
    # Values out of range.
    "fit trainer.epochs=-1": (2, ("trainer.epochs=-1", "at least 0")),
    "fit optimizer.lr=-1": (2, ("optimizer.lr=-1", "greater than 0")),
    "fit optimizer.lr=nan": (2, ("optimizer.lr=nan",)),
    "fit optimizer.momentum=1": (2, ("optimizer.momentum", "[0, 1)")),
    "fit data.batch_size=0": (2, ("data.batch_size=0", "at least 1")),
    "fit data.batch_size=1000000000": (
        2,
        ("data.batch_size=1000000000 is larger than the 60000 training images",),
    ),
    "fit data.val_size=60000": (2, ("data.val_size=60000 leaves nothing",)),
    "fit model.hidden=0": (2, ("model.hidden=0", "at least 1")),
    "fit model.channels=[1]": (2, ("model.channels=[1] must hold 2 numbers",)),
    "fit trainer.device=gpu": (2, ("trainer.device=gpu", "cuda")),
    "fit trainer.precision=fp8": (2, ("trainer.precision=fp8", "fp16")),
    "fit trainer.save_every=often": (2, ("trainer.save_every=often", "50steps")),
    "fit seed=-1": (2, ("seed=-1",)),
    f"fit seed={'9' * 5000}": (2, ("A number has more than 4300 digits.",)),
    "fit run.name=a/b": (2, ("run.name='a/b'", "run.dir")),
    "fit run.dir=''": (2, ("run.dir is empty",)),
    "fit data.transforms=random_crop": (2, ("data.transforms=random_crop", "a list")),
    "fit data.transforms=[random_crp]": (2, ("random_crp", "Did you mean random_crop?")),
    "fit 'data.transforms=[{name: crop, top: 20, left: 0, height: 20, width: 5}]'": (
        2,
        ("crop is outside the image",),
    ),
    # Contradictions.
    "fit loss=mse": (2, ("loss=mse", "loss=cross_entropy")),
    "fit loss=nll": (2, ("loss=nll", "loss=cross_entropy")),
    "fit model=cnn_dropout loss=bce_with_logits": (
        2,
        ("loss=bce_with_logits needs logits", "loss=nll"),
    ),
    "fit data=line model=linear": (2, ("loss=cross_entropy", "loss=mse")),
    "fit data=dirichlet": (2, ("model=cnn needs images", "model=mlp")),
    "fit optimizer.nesterov=true optimizer.momentum=0": (2, ("nesterov", "optimizer.momentum=0.9")),
    "fit optimizer=lbfgs trainer.accumulate=2": (2, ("optimizer=lbfgs", "trainer.accumulate=1")),
    "fit trainer.precision=fp16 trainer.device=cpu": (
        2,
        ("trainer.precision=fp16 needs a GPU", "bf16"),
    ),
    "fit trainer.monitor=val/acc": (2, ("trainer.monitor=val/acc", "Did you mean val/accuracy?")),
    "fit trainer.monitor=val/accuracy data.val_size=0": (2, ("data.val_size=0", "train/loss")),
    "fit experiment=line data=mnist": (2, ("loss=mse", "data=mnist")),
    # People's own classes and YAML.
    "fit model=custom": (2, ("model.target is missing",)),
    "fit data=custom model=mlp": (2, ("data.target is missing", "docs/custom.md")),
    "fit model=custom model.target=net": (2, ("model.target=net is not the path of a class",)),
    "fit --config-dir mine model=typo": (2, ("model.hiden", "Did you mean hidden?")),
    "fit --config-dir mine model=typ": (2, ("model=typ", "Did you mean typo?")),
    "fit --config-dir mine model=nameless": (2, ("model has no name", "lenet5")),
    "fit --config-dir mine model=list": (2, ("model has no name",)),
    "fit --config-dir mine model=open": (2, ("mine/model/open.yaml, line 3",)),
    "fit --config-dir mine model=bytes": (2, ("mine/model/bytes.yaml", "UTF-8")),
    "fit --config-dir mine model=tag": (2, ("mine/model/tag.yaml", "python/object/apply")),
    # Sweeps.
    "fit model=mlp optimizer.lr=0.1,0.2": (
        2,
        ("optimizer.lr=0.1,0.2 has several values", "fit -m model=mlp optimizer.lr=0.1,0.2"),
    ),
    "fit -m 'optimizer.lr=linspace(0.1,1,3)'": (2, ("with -m: optimizer.lr=0.1,0.2",)),
    "fit 'data.batch_size=16;32'": (2, ("data.batch_size=1. Several, with -m",)),
    "fit -m lr=0.1,0.2": (2, ("Did you mean optimizer.lr=0.1,0.2?",)),
    "fit -m batch_size=16,32 model=cnn,mlp": (2, ("Did you mean data.batch_size=16,32?",)),
    "fit -m loss=l1,mse loss.delta=1,2": (2, ("loss=l1 has no key delta", "loss=huber.")),
    "fit -m model=cnn,ml": (2, ("model=ml", "Did you mean mlp?")),
    "fit optimizer.lr=0.1 -m foo=1,2": (2, ("foo",)),
    "fit -m 'optimizer.lr=choice('": (2, ("optimizer.lr=choice( cannot be read",)),
    "fit -m resume=last": (2, ("resume and -m do not go together",)),
    "fit -m model=mlp,cnn run.root=notes.txt": (4, ("notes.txt", "run.root")),
    "eval -m ckpt=last,last": (2, ("eval does not sweep",)),
    # Runs. The rest is in commands/test_check_run.py.
    "check-run": (2, ("The run is missing", "check-run last")),
    "check-run last": (3, ("no run in runs",)),
    "check-run notes.txt": (2, ("notes.txt is not a run folder",)),
    "check-run mine": (2, ("mine is not a run folder",)),
    "check-run --cfg job": (2, ("no flag --cfg",)),
    # Training a run again. The rest is in commands/test_reproduce.py.
    "reproduse last": (2, ("no command reproduse", "Did you mean reproduce?")),
    "reproduce": (2, ("The run is missing", "reproduce last")),
    "reproduce ''": (2, ("A word is empty",)),
    "reproduce last": (3, ("no run in runs",)),
    "reproduce notes": (2, ("notes does not exist, and no run in runs",)),
    "reproduce mine": (2, ("mine is not a run folder",)),
    "reproduce last other": (2, ("takes one run; other is one too many", "trainer reproduce last")),
    "reproduce ckpt=last": (2, ("reproduce has no key ckpt", "trainer reproduce last")),
    "reproduce last --multirun": (2, ("no flag --multirun", "--config-dir")),
    # TensorBoard. The rest is in commands/test_tb.py.
    "tb": (3, ("no run in runs", "trainer fit")),
    "tb last": (3, ("no run in runs",)),
    "tb mine": (3, ("mine is not a run folder", "the word last")),
    "tb notes.tx": (3, ("notes.tx does not exist", "Did you mean notes.txt?")),
    "tb ''": (2, ("A word is empty",)),
    "tb port=many": (2, ("port=many", "a whole number from 1 to 65535")),
    "tb port=0": (2, ("port=0", "1 to 65535")),
    "tb port=65536": (2, ("port=65536", "1 to 65535")),
    "tb port=-1": (2, ("port=-1",)),
    "tb port=": (2, ("port=:",)),
    "tb port=²": (2, ("port=²",)),
    f"tb port={'9' * 5000}": (2, ("a whole number",)),
    "tb prot=6007": (2, ("tb has no key prot", "Did you mean port?")),
    "tb ckpt=last": (2, ("tb has no key ckpt", "trainer tb last")),
    "tb --port 6007": (2, ("no flag --port", "port=")),
    "tb --logdir runs": (2, ("no flag --logdir", "trainer tb runs")),
    "tb --hlep": (2, ("no flag --hlep", "Did you mean --help?")),
    "tbb": (2, ("no command tbb", "Did you mean tb?")),
    # Checkpoints.
    "eval": (2, ("ckpt is missing", "ckpt=last")),
    "eval ckpt=": (2, ("ckpt= is empty",)),
    "eval ckpt=null": (2, ("ckpt is missing",)),
    "eval ckpt=last": (3, ("no run in runs",)),
    "eval ckpt=results/nowhere": (3, ("results/nowhere does not exist",)),
    "eval ckpt=results/nowhere/checkpoints/best": (
        3,
        ("results/nowhere/checkpoints/best does not exist",),
    ),
    "eval ckpt=notes.txt": (3, ("notes.txt is not a safetensors file",)),
    "eval ckpt=fake.safetensors": (3, ("fake.safetensors is not a safetensors file",)),
    "eval ckpt=foreign.safetensors": (3, ("foreign.safetensors", "not one that trainer wrote")),
    "eval ckpt=mine": (3, ("mine holds no checkpoint",)),
    "fit resume=": (2, ("resume= is empty",)),
    "fit resume=last": (3, ("no run in runs",)),
    "fit resume=notes.tx": (3, ("notes.tx does not exist", "Did you mean notes.txt?")),
    "fit resume=notes.txt": (3, ("notes.txt is not a safetensors file",)),
    "fit resume=mine": (3, ("mine holds no checkpoint",)),
}


def write_files(folder: Path) -> None:
    """Files that are not what a command takes them for."""
    models = folder / "mine" / "model"
    models.mkdir(parents=True)
    (models / "typo.yaml").write_text("name: cnn\nchannels: [8, 8]\nhiden: 3\n")
    (models / "nameless.yaml").write_text("channels: [8, 8]\n")
    (models / "list.yaml").write_text("- 1\n- 2\n")
    (models / "open.yaml").write_text("name: cnn\nchannels: [8, 8\nhidden: 3\n")
    (models / "bytes.yaml").write_bytes(b"name: \xff\xfe\n")
    (models / "tag.yaml").write_text('name: !!python/object/apply:os.system ["touch made"]\n')
    (folder / "notes.txt").write_text("These are notes, and long enough for a header.\n")
    (folder / "fake.safetensors").write_bytes(b"\x00" * 64)
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "foreign.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + b"\x00" * 4
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("wrong")
    write_files(folder)
    return run_commands(WRONG, folder)


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_command_is_answered_in_three_lines_without_torch(
    command: str, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[command]
    check(outcome.ran, *WRONG[command])
    # A sweep that is refused may leave the day's folder behind, empty.
    assert [path for path in outcome.made if not re.fullmatch(r"runs(/[0-9-]{10})?", path)] == []
    assert not outcome.has_torch


@pytest.mark.parametrize(
    "command",
    ["fit model=cn", "fit trainer.epochs=many", "eval ckpt=notes.txt", "train", "fit loss=nll"],
)
def test_a_process_of_its_own_answers_the_same(
    command: str, outcomes: dict[str, Outcome], tmp_path: Path
) -> None:
    write_files(tmp_path)
    assert run_trainer(*shlex.split(command), cwd=tmp_path) == outcomes[command].ran


@pytest.mark.parametrize("where", ["message", "debug"])
def test_a_traceback_is_shown_on_request_only(where: str, tmp_path: Path) -> None:
    ran = run_trainer(
        "fit", "model=cn", cwd=tmp_path, env={"TRAINER_DEBUG": "1"} if where == "debug" else {}
    )
    assert ran.code == 2
    assert ("Traceback" in ran.err) == (where == "debug")
    assert ran.err.endswith(f"Did you mean cnn? Choices: {', '.join(choices_of('model'))}.\n")


SMALL = (
    "data=dirichlet",
    "model=linear",
    "data.train_size=80",
    "data.val_size=16",
    "data.test_size=16",
    "logger=none",
)
# What can be told only once torch is there, or the data: still before a run folder is made.
LATER: dict[str, tuple[int, tuple[str, ...]]] = {
    "model=custom model.target=nowhere.Net": (2, ("model.target=nowhere.Net", "no module nowhere")),
    "model=custom model.target=torch.nn.Linera": (2, ("Did you mean Linear?",)),
    "model=custom model.target=collections.OrderedDict": (
        2,
        ("OrderedDict, not a torch.nn.Module",),
    ),
    "model=custom model.target=torch.nn.Linear model.kwargs={in_features:10,out_features:3}": (
        2,
        ("shape (2, 3)", "(2, 10)"),
    ),
    "data.train_limit=9 data.batch_size=10 data.drop_last=true": (2, ("data.drop_last",)),
    "run.dir=full": (2, ("run.dir=full exists and is not empty",)),
    "run.root=notes.txt": (4, ("notes.txt", "run.root=")),
    "run.dir=notes.txt": (2, ("run.dir=notes.txt exists",)),
}


@pytest.mark.parametrize("words", LATER)
def test_what_only_the_objects_can_tell(words: str, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work").write_text("of a week")
    (tmp_path / "notes.txt").write_text("notes")
    before = sorted(tmp_path.rglob("*"))
    given = words.split()
    base = [
        word
        for word in SMALL
        if not any(other.startswith(word.partition("=")[0] + "=") for other in given)
    ]
    check(trainer_main("fit", *base, *given, cwd=tmp_path), *LATER[words])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("target", "message"),
    [("collections.OrderedDict", "is empty"), ("nowhere.Set", "no module nowhere")],
)
def test_an_error_about_ones_own_data_names_the_page(
    target: str, message: str, tmp_path: Path
) -> None:
    words = ("data=custom", f"data.target={target}", "model=mlp", "logger=none")
    check(trainer_main("fit", *words, cwd=tmp_path), 2, (message, "docs/custom.md"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    ran = trainer_main("fit", *SMALL, "trainer.device=cuda:1", cwd=tmp_path)
    check(ran, 4, ("trainer.device=cuda:1", "trainer.device=cpu or trainer.device=auto"))
    assert list(tmp_path.iterdir()) == []


@needs_datasets
def test_images_that_are_too_small_for_the_model(tmp_path: Path) -> None:
    crop = "data.transforms=[{name: crop, top: 5, left: 5, height: 6, width: 6}]"
    ran = trainer_main(
        "fit", "model=lenet5", "data=mnist", f"data.root={IMAGES}", crop, cwd=tmp_path
    )
    check(ran, 2, ("6 x 6 are too small for model=lenet5", "model=mlp"))
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small finished run in it, at results/done."""
    folder = tmp_path_factory.mktemp("trained")
    ran = trainer_main("fit", *SMALL, "run.dir=results/done", "trainer.epochs=1", cwd=folder)
    assert ran.code == 0, ran.err
    return folder


# `done` stands for the run, `model` and `state` for the two files of its last checkpoint.
OF_A_RUN: dict[str, tuple[int, tuple[str, ...]]] = {
    "eval ckpt=done optimizer.lr=3": (2, ("optimizer.lr cannot be set here",)),
    "eval ckpt=done model=mlp": (2, ("model cannot be set here",)),
    "eval ckpt=done evl.split=val": (2, ("no key evl", "Did you mean eval?")),
    "eval ckpt=done eval.split=tset": (2, ("eval.split=tset", "Did you mean test?")),
    "eval ckpt=done eval.splt=val": (2, ("eval has no key splt", "Did you mean split?")),
    "eval ckpt=done data=line": (2, ("loss=cross_entropy", "data=line")),
    "eval ckpt=done data.features=5": (3, ("(5,) and 5 outputs", "(10,) and 10")),
    "eval ckpt=state": (3, ("holds the optimizer's state", "model.safetensors")),
    "eval ckpt=results/don": (3, ("Did you mean results/done?",)),
    "eval ckpt=flipped": (3, ("is damaged", "checksum")),
    "eval ckpt=cut": (3, ("damaged",)),
    "fit resume=done": (2, ("is complete", "trainer.epochs=")),
    "fit resume=bare": (3, ("weights only",)),
    "fit resume=done model=mlp trainer.epochs=9": (3, ("does not fit the model", "fc.weight")),
    "fit resume=done --config-dir nowhere": (2, ("nowhere is not a folder",)),
}


def times(folder: Path) -> dict[Path, int]:
    """When everything in `folder` was last changed; locks aside, which looking at a run takes."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != ".lock"}


@pytest.mark.parametrize("command", OF_A_RUN)
def test_what_a_checkpoint_does_not_allow(command: str, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "results", tmp_path / "results")
    last = next((tmp_path / "results" / "done" / "checkpoints").glob("step-*"))
    content = bytearray((last / "model.safetensors").read_bytes())
    (tmp_path / "bare.safetensors").write_bytes(content)
    (tmp_path / "cut.safetensors").write_bytes(content[:-40])
    content[-5] ^= 4
    (tmp_path / "flipped.safetensors").write_bytes(content)
    names = {
        "done": "results/done",
        "state": str(last.relative_to(tmp_path) / "state.safetensors"),
        **{name: f"{name}.safetensors" for name in ("bare", "cut", "flipped")},
    }
    words = []
    for word in command.split():
        key, equals, value = word.partition("=")
        words.append(f"{key}={names.get(value, value)}" if equals else word)
    before = times(tmp_path)
    check(trainer_main(*words, cwd=tmp_path), *OF_A_RUN[command])
    assert times(tmp_path) == before
