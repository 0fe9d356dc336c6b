"""What other tools and people call our choices, values and keys: for the hints of errors only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from trainer.errors import suggestion

# By group or key, then by the word in small letters without signs; of `page` see there.
_WORDS: dict[str, dict[str, str]] = {
    "data": {
        "fashion": "fashion_mnist", "fmnist": "fashion_mnist", "digits": "mnist",
        "linear": "line", "regression": "line", "imagefolder": "custom", "csv": "custom",
        "cifar": "custom", "cifar10": "custom", "cifar100": "custom", "imagenet": "custom",
        "own": "custom", "my": "custom",
    },
    "model": {
        "lenet": "lenet5", "dense": "mlp", "fc": "mlp", "ann": "mlp", "dnn": "mlp", "net": "mlp",
        "perceptron": "mlp", "conv": "cnn", "convnet": "cnn", "convolutional": "cnn",
        "logistic": "linear", "logisticregression": "linear", "softmax": "linear",
        "regression": "linear", "linearregression": "linear", "resnet": "custom",
        "resnet18": "custom", "resnet50": "custom", "own": "custom", "my": "custom",
    },
    "loss": {
        "bce": "bce_with_logits", "bceloss": "bce_with_logits",
        "binarycrossentropy": "bce_with_logits", "ce": "cross_entropy", "xent": "cross_entropy",
        "categoricalcrossentropy": "cross_entropy",
        "sparsecategoricalcrossentropy": "cross_entropy", "softmax": "cross_entropy",
        "mae": "l1", "absolute": "l1", "meanabsoluteerror": "l1", "l2": "mse", "squared": "mse",
        "rmse": "mse", "meansquarederror": "mse", "smoothl1": "huber", "smoothl1loss": "huber",
        "nllloss": "nll", "negativeloglikelihood": "nll", "multimargin": "hinge",
        "margin": "hinge", "svm": "hinge",
    },
    "optimizer": {
        "momentum": "sgd", "nesterov": "sgd", "sgdm": "sgd", "gd": "sgd", "gradientdescent": "sgd",
    },
    "scheduler": {
        "none": "constant", "null": "constant", "no": "constant", "off": "constant",
        "false": "constant", "fixed": "constant", "constantlr": "constant",
        "cosineannealing": "cosine", "cosineannealinglr": "cosine", "cos": "cosine",
        "reducelronplateau": "plateau", "reduceonplateau": "plateau", "steplr": "step",
        "multisteplr": "multistep", "exponentiallr": "exponential", "exp": "exponential",
        "onecyclelr": "one_cycle", "onecycle": "one_cycle", "1cycle": "one_cycle",
    },
    "logger": {
        "off": "none", "no": "none", "null": "none", "false": "none", "tb": "tensorboard",
        "full": "tensorboard_full", "csv": "none",
    },
    "sweep": {"tpe": "optuna", "bayes": "optuna", "bayesian": "optuna", "search": "optuna"},
    "launcher": {"submitit": "slurm", "sbatch": "slurm", "cluster": "slurm", "joblib": "local"},
    "trainer.precision": {
        "half": "fp16", "16": "fp16", "float16": "fp16", "f16": "fp16", "16mixed": "fp16",
        "amp": "fp16", "mixed": "fp16", "true": "fp16", "bfloat16": "bf16", "bf16mixed": "bf16",
        "bfloat": "bf16", "32": "fp32", "32true": "fp32", "float32": "fp32", "float": "fp32",
        "full": "fp32", "single": "fp32", "false": "fp32", "none": "fp32",
    },
    "trainer.device": {"gpu": "cuda", "true": "cuda", "nvidia": "cuda", "metal": "mps"},
    "scheduler.anneal_strategy": {"cosine": "cos"},
    "data.task": {"regress": "regression", "classify": "classification"},
    "eval.split": {"validation": "val", "valid": "val", "dev": "val", "training": "train"},
    "data.transforms": {
        "randomflip": "random_horizontal_flip", "flip": "random_horizontal_flip",
        "hflip": "random_horizontal_flip", "fliplr": "random_horizontal_flip",
        "horizontalflip": "random_horizontal_flip", "mirror": "random_horizontal_flip",
        "rotate": "random_rotation", "rotation": "random_rotation",
        "randomrotate": "random_rotation", "randomresizedcrop": "random_crop",
        "cutout": "random_erasing", "erasing": "random_erasing", "erase": "random_erasing",
        "jitter": "color_jitter", "brightness": "color_jitter", "contrast": "color_jitter",
        "colorjitter": "color_jitter", "invert": "random_invert", "centercrop": "crop",
    },
}  # fmt: skip

# A key's bare name elsewhere -> ours.
_KEYS: dict[str, str] = {
    "learningrate": "optimizer.lr", "baselr": "optimizer.lr", "initiallr": "optimizer.lr",
    "eta": "optimizer.lr", "stepsize": "optimizer.lr", "wd": "optimizer.weight_decay",
    "decay": "optimizer.weight_decay", "l2": "optimizer.weight_decay",
    "bs": "data.batch_size", "batch": "data.batch_size", "batchsize": "data.batch_size",
    "trainbatchsize": "data.batch_size", "perdevicetrainbatchsize": "data.batch_size",
    "evalbatch": "data.eval_batch_size", "testbatchsize": "data.eval_batch_size",
    "valbatchsize": "data.eval_batch_size",
    "valsplit": "data.val_size", "validationsplit": "data.val_size", "valratio": "data.val_size",
    "validation": "data.val_size", "valfraction": "data.val_size",
    "workers": "data.num_workers", "nworkers": "data.num_workers", "nclasses": "data.num_classes",
    "augment": "data.transforms", "augmentation": "data.transforms", "augmentations":
    "data.transforms", "transform": "data.transforms", "datadir": "data.root",
    "datapath": "data.root", "dataroot": "data.root", "limit": "data.train_limit",
    "epoch": "trainer.epochs", "nepochs": "trainer.epochs", "numepochs": "trainer.epochs",
    "maxepochs": "trainer.epochs", "numtrainepochs": "trainer.epochs", "maxepoch": "trainer.epochs",
    "steps": "trainer.max_steps", "nsteps": "trainer.max_steps", "numsteps": "trainer.max_steps",
    "iterations": "trainer.max_steps", "maxiter": "trainer.max_steps",
    "gpu": "trainer.device", "gpus": "trainer.device", "cuda": "trainer.device",
    "accelerator": "trainer.device", "devices": "trainer.device",
    "earlystopping": "trainer.patience", "earlystop": "trainer.patience",
    "earlystoppingpatience": "trainer.patience", "amp": "trainer.precision",
    "fp16": "trainer.precision", "bf16": "trainer.precision", "half": "trainer.precision",
    "mixedprecision": "trainer.precision", "dtype": "trainer.precision",
    "gradclip": "trainer.clip_norm", "clip": "trainer.clip_norm", "maxnorm": "trainer.clip_norm",
    "maxgradnorm": "trainer.clip_norm", "gradientclipval": "trainer.clip_norm",
    "clipgrad": "trainer.clip_norm", "gradientclipping": "trainer.clip_norm",
    "accumulation": "trainer.accumulate", "gradaccum": "trainer.accumulate",
    "accumulategradbatches": "trainer.accumulate", "accumulationsteps": "trainer.accumulate",
    "gradientaccumulationsteps": "trainer.accumulate", "emadecay": "trainer.ema",
    "metric": "trainer.monitor", "saveinterval": "trainer.save_every",
    "savesteps": "trainer.save_every", "evalsteps": "trainer.eval_every",
    "valcheckinterval": "trainer.eval_every", "numthreads": "trainer.threads",
    "warmup": "scheduler.warmup_steps", "loginterval": "logger.log_every",
    "logsteps": "logger.log_every", "labelsmooth": "loss.label_smoothing",
    "smoothing": "loss.label_smoothing", "hiddensize": "model.hidden",
    "hiddendim": "model.hidden", "width": "model.hidden", "layers": "model.hidden",
    "units": "model.hidden", "filters": "model.channels",
    "randomseed": "seed", "randomstate": "seed", "manualseed": "seed",
    "name": "run.name", "runname": "run.name", "expname": "run.name",
    "outputdir": "run.root", "outdir": "run.root", "output": "run.root", "logdir": "run.root",
    "savedir": "run.root", "dir": "run.dir", "resumefrom": "resume", "continue": "resume",
    "checkpoint": "resume", "dataset": "data", "criterion": "loss", "opt": "optimizer",
    "optim": "optimizer", "lrscheduler": "scheduler", "lrschedule": "scheduler",
    "schedule": "scheduler", "network": "model", "net": "model", "arch": "model",
    "architecture": "model", "config": "experiment", "exp": "experiment",
}  # fmt: skip

# The page on a person's own classes.
_PAGE = "docs/custom.md"


def our_word(kind: str, word: object) -> str | None:
    """Our word for a choice of a group, or a value of a key, that another tool calls `word`."""
    return _WORDS.get(kind, {}).get(_bare(str(word)))


def our_key(name: str) -> str | None:
    """The dotted name of the key, or the group, that other tools call `name`."""
    return _KEYS.get(_bare(name))


def suggest(kind: str, word: object, choices: Iterable[str], *, label: str = "Choices") -> str:
    """As `suggestion`, with our word for what other tools call `word`, if `choices` has it."""
    known = list(choices)
    ours = our_word(kind, word)
    if ours is None or ours not in known:
        return suggestion(str(word), known, label=label)
    return f"Did you mean {ours}? {suggestion('', known, label=label)}"


def page_of(kind: str, names: Iterable[str]) -> str:
    """The sentence with the page on a person's own classes, for a group or a list."""
    has_custom = "custom" in names
    return f"Your own: {kind}=custom, see {_PAGE}." if has_custom else f"Your own: see {_PAGE}."


def _bare(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
