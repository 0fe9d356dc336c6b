"""JAX by hand, as in its tutorials: pure functions, one jit-compiled step, arrays in memory."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contenders.arrays import load_arrays
from benchmarks.contenders.setting import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    MOMENTUM,
    READ_EVERY,
    WARM_UP,
    Clock,
    learning_rate,
    limit_threads,
    parse_arguments,
    print_result,
)

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "linear": {"out": (784, 10)},
    "mlp": {"fc1": (784, 512), "fc2": (512, 512), "out": (512, 10)},
    "lenet5": {
        "conv1": (5, 5, 1, 6),
        "conv2": (5, 5, 6, 16),
        "fc1": (400, 120),
        "fc2": (120, 84),
        "out": (84, 10),
    },
    "cnn": {"conv1": (3, 3, 1, 32), "conv2": (3, 3, 32, 64), "fc1": (3136, 128), "out": (128, 10)},
}
"""Kernels of each model, (height, width, in, out) or (in, out).

A layer's bias has the size of the last axis.
"""


def main() -> None:
    """Train one epoch. Without JAX it prints that."""
    arguments = parse_arguments()
    limit_threads(arguments.threads)
    try:
        jax = importlib.import_module("jax")
    except ImportError as error:
        print_result({"absent": str(error)})
        return
    images, labels = load_arrays(arguments.data_root, limit=arguments.limit)
    order = np.random.default_rng(arguments.seed).permutation(len(images))
    weights = _start(jax, arguments.model, seed=arguments.seed)
    velocity = jax.tree.map(jax.numpy.zeros_like, weights)
    forward = functools.partial(_forward, jax, arguments.model)
    step, clock = _make_step(jax, forward, lr=learning_rate(arguments.model)), Clock()
    for number, first in enumerate(range(0, len(order), BATCH_SIZE)):
        chosen = order[first : first + BATCH_SIZE]
        weights, velocity, loss = step(weights, velocity, images[chosen], labels[chosen])
        if number % READ_EVERY == 0 or number + 1 == WARM_UP:
            loss.block_until_ready()
        clock.count(loss, len(chosen))
    jax.block_until_ready(weights)
    clock.stop()
    result = clock.result(num_parameters=sum(leaf.size for leaf in jax.tree.leaves(weights)))
    images, labels = load_arrays(arguments.data_root, train=False)
    predict = jax.jit(lambda batch: forward(weights, batch).argmax(1))
    batches = range(0, len(images), EVAL_BATCH_SIZE)
    found = np.concatenate([predict(images[first : first + EVAL_BATCH_SIZE]) for first in batches])
    print_result({**result, "test_accuracy": float((found == labels).mean())})


def _start(jax: Any, model: str, *, seed: int) -> dict[str, Any]:
    """Kernels and biases drawn as torch draws them: uniform within 1 / sqrt(inputs of a unit)."""
    keys = jax.random.split(jax.random.key(seed), 2 * len(SHAPES[model]))
    weights = {}
    for number, (name, shape) in enumerate(SHAPES[model].items()):
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        kernel, bias = (
            jax.random.uniform(key, size, minval=-bound, maxval=bound)
            for key, size in zip(
                keys[2 * number : 2 * number + 2], (shape, shape[-1:]), strict=True
            )
        )
        weights[name] = {"kernel": kernel, "bias": bias}
    return weights


def _forward(jax: Any, model: str, weights: dict[str, Any], images: Any) -> Any:
    """Images (N, 28, 28, 1) -> logits (N, 10)."""
    lax, relu, hidden = jax.lax, jax.nn.relu, images

    def conv(name: str, padding: str) -> Any:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            hidden, weights[name]["kernel"], (1, 1), padding, dimension_numbers=layout
        )

    def pool(values: Any, start: float, operation: Any) -> Any:
        return lax.reduce_window(values, start, operation, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    if model == "cnn":
        for name in ("conv1", "conv2"):
            hidden = pool(relu(conv(name, "SAME") + weights[name]["bias"]), -math.inf, lax.max)
    elif model == "lenet5":
        for name, padding in (("conv1", "SAME"), ("conv2", "VALID")):
            hidden = pool(relu(conv(name, padding) + weights[name]["bias"]), 0.0, lax.add) / 4
    hidden = hidden.reshape(len(images), -1)
    for name in ("fc1", "fc2"):
        if name in weights:
            hidden = relu(hidden @ weights[name]["kernel"] + weights[name]["bias"])
    return hidden @ weights["out"]["kernel"] + weights["out"]["bias"]


def _make_step(jax: Any, forward: Callable[[dict[str, Any], Any], Any], *, lr: float) -> Any:
    """One update of SGD with momentum, as torch defines it; gives weights, velocity and the loss
    before the update.
    """

    def mean_loss(weights: dict[str, Any], images: Any, labels: Any) -> Any:
        log_probs = jax.nn.log_softmax(forward(weights, images))
        return -jax.numpy.take_along_axis(log_probs, labels[:, None], axis=1).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(weights: dict[str, Any], velocity: dict[str, Any], images: Any, labels: Any) -> Any:
        loss, gradients = jax.value_and_grad(mean_loss)(weights, images, labels)
        velocity = jax.tree.map(lambda old, new: MOMENTUM * old + new, velocity, gradients)
        weights = jax.tree.map(lambda weight, move: weight - lr * move, weights, velocity)
        return weights, velocity, loss

    return step


if __name__ == "__main__":
    main()
