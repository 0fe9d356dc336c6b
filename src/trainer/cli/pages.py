"""The prose of the help pages, a page a verb; `help.py` fills in the rest."""

# str.format fills them in, so braces of an example are doubled.

FIT = """\
Groups (the default first)
{groups}

Keys people use most
{keys}

Flags
{flags}

Examples
  trainer fit model=lenet5 data=mnist
  trainer fit optimizer=adamw optimizer.lr=0.001 trainer.epochs=10
  trainer fit 'data.transforms=[random_horizontal_flip,{{name: random_crop, padding: 2}}]'
  trainer fit -m optimizer.lr=0.1,0.01 model=mlp,lenet5 'seed=range(0,5)'
  trainer fit -m sweep=optuna 'optimizer.lr=tag(log,interval(1e-4,1))' sweep.trials=30
  trainer fit experiment=line
  trainer fit resume=last trainer.epochs=10
"""

REPRODUCE = """\
<run> is named as in trainer runs. It must be done, and no resume may have changed its config.
Name your own classes again: model=custom model.target=…, or --config-dir DIR model=mine.

Keys (the rest comes from the last checkpoint)
{keys}

Flags
{flags}

Exit code 0: every bit of the last weights and all metrics are the same.
1: they are not; a table lists what differs.

Examples
  trainer reproduce last
  trainer reproduce 3fa9c1 run.name=again
"""

EVAL = """\
<checkpoint> may be
  last                                     the newest run
  runs/<date>/<run>                        a run folder: its best checkpoint
  …/checkpoints/best, …/checkpoints/last   one of the two by name
  …/checkpoints/step-000938                a step folder
  …/model.safetensors                      a model file

Keys
{keys}

Flags
{flags}

Examples
  trainer eval ckpt=last
  trainer eval ckpt=last eval.split=val
  trainer eval ckpt=last data=mnist --json
"""

TB = """\
It listens on this machine alone, until Ctrl-C. Without a run it shows all runs below run.root,
also those to come. A run may be
  last                     the newest run below run.root
  runs/<date>/<run>        a run folder
  runs/<date>/<sweep>      the folder of a sweep: its runs, also those to come

It prints two addresses: a plain one, and one that pins Loss/train, Loss/val and Accuracy/val.

Keys
{keys}

Examples
  trainer tb
  trainer tb last
  trainer tb last port=6007
"""

RUNS = """\
It reads files only; a run that trains is not disturbed.

Verbs (ls where none is named)
{verbs}

<run> may be
  3fa9c1                   a short id, or the start of one: four digits or more
  runs/<date>/<run>        a run folder
  lenet5                   the name of a run folder, or a part that only one has
  last                     the newest run below run.root
The other commands take the same names: trainer eval ckpt=3fa9c1, trainer tb 3fa9c1.

Filters
  status=done              running, done, failed, pruned, interrupted or damaged;
                           several: status=failed,pruned
  tag=good                 runs with the tag
  model=cnn                a choice or a key of the config: optimizer.lr=0.1, seed=0,1
  lenet5                   a part of the name

Keys
{keys}

Flags
{flags}

Examples
  trainer runs
  trainer runs ls model=cnn status=done sort=val/accuracy limit=5
  trainer runs best val/loss
  trainer runs compare last lenet5
  trainer runs tag last good -draft
  trainer runs note last 'the lr of the paper'
"""

CHECK_RUN = """\
It changes nothing and loads no weights.

<run> may be
  last                     the newest run below run.root
  runs/<date>/<run>        a run folder

What it checks
  run.json                 it can be read, and agrees with the checkpoints
  every step folder        both files are there, their checksums hold, and they belong together
  last, best               they point at steps that are there, last at the newest
  metrics.jsonl            every row is whole, and the steps of each split go up
  TensorBoard              its event files hold the values of metrics.jsonl, each once, no others

Keys
{keys}

Exit code 0: nothing is damaged. 3: something is; the table lists it.

Examples
  trainer check-run last
  trainer check-run last run.root=results
"""
