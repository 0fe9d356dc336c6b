"""The help pages, written for people. Groups and choices are read from the YAML, so they are
never out of date.
"""

from __future__ import annotations

from pathlib import Path

from trainer.cli.arguments import PORT, configs_folder

_OVERVIEW = """\
trainer: train a model from YAML configs, and look at it in TensorBoard.

Usage
  trainer fit   [group=choice …] [key=value …]     train, test the best checkpoint, write a run folder
  trainer eval  ckpt=<checkpoint> [key=value …]    evaluate a checkpoint; it needs nothing else
  trainer check-run <run>                          verify a run folder: its checkpoints, its metrics, TensorBoard
  trainer tb [run …]                               look at all runs, or at some, in TensorBoard
  trainer runs [verb] [run …]                      list, compare and tidy up runs
  trainer reproduce <run>                          train a run again and compare, bit for bit
  trainer fit --help                               the groups, the keys and examples
  trainer --version

Start here
  trainer fit model=cnn data=fashion_mnist
  trainer eval ckpt=last
  trainer tb
  trainer runs
"""

_FIT = """\
trainer fit: train a model, test its best checkpoint, write a run folder.

Usage
  trainer fit [group=choice …] [key=value …] [flags]

Groups (the default first)
{groups}

Keys people use most
{keys}

Flags
  -m, --multirun          a sweep: many runs side by side, every combination of key=a,b,c
  --cfg job               show the whole config instead of training
  --config-dir DIR        add your own folder of YAML (DIR/model/mine.yaml becomes model=mine)
  --shell-completion install=bash    print the completion script for bash (or zsh, fish)

Examples
  trainer fit model=lenet5 data=mnist
  trainer fit optimizer=adamw optimizer.lr=0.001 trainer.epochs=10
  trainer fit 'data.transforms=[random_horizontal_flip,{{name: random_crop, padding: 2}}]'
  trainer fit -m optimizer.lr=0.1,0.01 model=mlp,lenet5 'seed=range(0,5)'
  trainer fit -m sweep=optuna 'optimizer.lr=tag(log,interval(1e-4,1))' sweep.trials=30
  trainer fit experiment=line
  trainer fit resume=last trainer.epochs=10
"""

_EVAL = """\
trainer eval: evaluate a checkpoint. Model, data and loss come from the checkpoint.

Usage
  trainer eval ckpt=<checkpoint> [key=value …] [--json]

ckpt may be
  last                                     the newest run
  runs/<date>/<run>                        a run folder: its best checkpoint
  …/checkpoints/best, …/checkpoints/last   one of the two by name
  …/checkpoints/step-000938                a step folder
  …/model.safetensors                      a model file

Keys
{keys}

Examples
  trainer eval ckpt=last
  trainer eval ckpt=last eval.split=val
  trainer eval ckpt=last data=mnist --json
"""

_CHECK_RUN = """\
trainer check-run: verify what a run left on the disk. Nothing is changed, and nothing is loaded.

Usage
  trainer check-run <run> [run.root=DIR]

<run> may be
  last                     the newest run below run.root [runs]
  runs/<date>/<run>        a run folder

What is checked
  run.json                 it can be read, and agrees with the checkpoints
  every step folder        both files are there, their checksums hold, and they belong together
  last, best               they point at steps that are there, last at the newest
  metrics.jsonl            every row is whole, and the steps of each split go up
  TensorBoard              its event files hold the values of metrics.jsonl, each once, and no others

Exit code 0: nothing is damaged. 3: something is; the table says what.

Examples
  trainer check-run last
  trainer check-run last run.root=results
"""

_TB = """\
trainer tb: look at runs in TensorBoard. It listens on this machine alone, until Ctrl-C.

Usage
  trainer tb [run …] [port=N] [run.root=DIR]

Without a run, all runs below run.root are shown, also those to come. A run may be
  last                     the newest run below run.root
  runs/<date>/<run>        a run folder
  runs/<date>/<sweep>      the folder of a sweep: its runs, also those to come

Keys
  port                     where it listens: http://localhost:<port>/ [{port}]
  run.root                 where run folders are [runs]

It prints two addresses: the plain one, and one with Loss/train, Loss/val and Accuracy/val pinned on top.

Examples
  trainer tb
  trainer tb last
  trainer tb last port=6007
"""

_RUNS = """\
trainer runs: list, compare and tidy up runs. Only files are read; a run that trains is not disturbed.

Usage
  trainer runs [verb] [run …] [run.root=DIR]

Verbs
  ls [filter …]            list runs, the newest first; also without a verb
  best [metric] [filter …] the run with the best value, and the commands to evaluate and repeat it
  show [run …]             what a run is, its metrics and curves [last]
  compare <run> <run> …    runs side by side: what differs in their configs, final metrics, curves
  diff <run> <run>         two configs as git diff shows them; --exit-code: 1 where they differ
  rm <run> …               remove runs: asks on a terminal, else needs --yes; keeps what is running
  tag <run> [good -bad …]  give a run tags and, after a minus, take them away; untag <run> good is the same
  note <run> [text]        keep a note on a run; '' removes it

<run> may be
  3fa9c1                   a short id, or the start of one: four digits or more
  runs/<date>/<run>        a run folder
  lenet5                   the name of a run folder, or a part that only one has
  last                     the newest run below run.root
So also in trainer eval ckpt=3fa9c1, trainer fit resume=3fa9c1, trainer tb 3fa9c1 and trainer check-run 3fa9c1.

Filters
  status=done              running, done, failed, pruned, interrupted, damaged; several: status=failed,pruned
  tag=good                 runs with the tag
  model=cnn                a choice or a key of the config: optimizer.lr=0.1, seed=0,1
  lenet5                   a part of the name

Keys and flags of ls
  sort                     started, name, status, or a metric such as val/accuracy [started]
  limit                    at most so many, 0 for all [20; with --json or -q 0]
  run.root                 where run folders are [runs]
  --json                   for programs; also for best, show and compare
  -q, --quiet              ids only; also for best

Examples
  trainer runs
  trainer runs ls model=cnn status=done sort=val/accuracy limit=5
  trainer runs best val/loss
  trainer runs compare last lenet5
  trainer runs tag last good -draft
  trainer runs note last 'the lr of the paper'
"""

_REPRODUCE = """\
trainer reproduce: train a run again, with its config, its seed and its data, and say whether the same comes out.

Usage
  trainer reproduce <run> [key=value …] [--config-dir DIR]

<run> is named as in trainer runs. It must be done, and no resume may have changed its config.
Your own classes must be named again: model=custom model.target=…, or --config-dir DIR model=mine.

Keys: all else comes from the last checkpoint
  run.root, run.name, run.dir    where the new run folder is made; run.root also where runs are looked for
  data.root, data.num_workers    where the data is now, and how many processes read your own
  trainer.device                 the device, if there is another now

Exit code 0: every bit of the last weights and all metrics are the same. 1: they are not; what differs is said.

Examples
  trainer reproduce last
  trainer reproduce 3fa9c1 run.name=again
"""

GROUPS = (
    "data",
    "model",
    "loss",
    "optimizer",
    "scheduler",
    "trainer",
    "logger",
    "experiment",
    "sweep",
    "launcher",
)
_FIT_KEYS = (
    ("data", "root"),
    ("data", "batch_size"),
    ("data", "val_size"),
    ("data", "train_limit"),
    ("data", "transforms"),
    ("optimizer", "lr"),
    ("optimizer", "weight_decay"),
    ("optimizer", "momentum"),
    ("scheduler", "warmup_steps"),
    ("trainer", "epochs"),
    ("trainer", "max_steps"),
    ("trainer", "device"),
    ("trainer", "precision"),
    ("trainer", "accumulate"),
    ("trainer", "clip_norm"),
    ("trainer", "ema"),
    ("trainer", "patience"),
    ("trainer", "monitor"),
    ("trainer", "save_every"),
    ("", "seed"),
    ("", "resume"),
    ("run", "root"),
    ("run", "name"),
    ("sweep", "jobs"),
)
_EVAL_KEYS = (("eval", "split"), ("eval", "json"), ("data", "root"), ("trainer", "device"))


def overview() -> str:
    """The page of `trainer --help`."""
    return _OVERVIEW


def verb(name: str, *, config_dir: str | None = None) -> str:
    """The page of `trainer fit --help` and the like; choices in `config_dir` are listed too."""
    pages = {
        "check-run": _CHECK_RUN,
        "tb": _TB.format(port=PORT),
        "runs": _RUNS,
        "reproduce": _REPRODUCE,
    }
    if name in pages:
        return pages[name]
    if name == "eval":
        return _EVAL.format(keys=_key_lines(_EVAL_KEYS))
    folders = [configs_folder(), *([Path(config_dir)] if config_dir else [])]
    return _FIT.format(groups=_group_lines(folders), keys=_key_lines(_FIT_KEYS))


def choices(group: str, folders: list[Path]) -> dict[str, Path]:
    """The choices of a group in these folders of YAML, the default first, each with its file."""
    found = {path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}
    default = default_choice(group)
    return {name: found[name] for name in sorted(found, key=lambda name: (name != default, name))}


def default_choice(group: str) -> str:
    """What fit.yaml chooses for a group; empty where it leaves the group out."""
    for line in (configs_folder() / "fit.yaml").read_text(encoding="utf-8").splitlines():
        name, _, choice = line.strip().removeprefix("- ").partition(": ")
        if name == group and line.strip().startswith("- "):
            return choice.strip()
    return ""


def comments(path: Path) -> dict[str, tuple[str, str]]:
    """The value and the comment beside every key of a YAML file; its first line of comment is
    under the empty name.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    title = next((line for line in lines if not line.startswith("# @package")), "")
    found = {"": ("", title.removeprefix("#").strip() if title.startswith("#") else "")}
    for line in lines:
        key, colon, rest = line.strip().partition(":")
        if colon and key.isidentifier():
            value, _, comment = rest.partition(" #")
            found.setdefault(key, (value.strip(), comment.strip()))
    return found


def _group_lines(folders: list[Path]) -> str:
    return "\n".join(
        line
        for group in GROUPS
        for line in _wrapped(f"  {group:<11}", list(choices(group, folders)))
    )


def _wrapped(label: str, words: list[str], *, width: int = 100) -> list[str]:
    lines, current = [], label
    for word in words:
        if len(current) + len(word) + 1 > width:
            lines.append(current)
            current = " " * len(label)
        current += f" {word}"
    return [*lines, current]


def _key_lines(keys: tuple[tuple[str, str], ...]) -> str:
    lines = []
    for group, key in keys:
        default = default_choice(group)
        file = (
            "eval/default.yaml"
            if group == "eval"
            else f"{group}/{default}.yaml"
            if default
            else "fit.yaml"
        )
        value, comment = comments(configs_folder() / file)[key]
        name = f"{group}.{key}" if group else key
        lines.append(f"  {name:<24} {comment} [{value}]")
    return "\n".join(lines)
