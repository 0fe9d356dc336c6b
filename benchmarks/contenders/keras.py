"""Keras 3 as its documentation has it: a Sequential model, arrays in memory, `fit`; silent,
nothing saved.
"""

from __future__ import annotations

import importlib
import os
import time
from types import ModuleType
from typing import Any

from benchmarks.contenders.arrays import load_arrays
from benchmarks.contenders.setting import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    MOMENTUM,
    WARM_UP,
    learning_rate,
    limit_threads,
    parse_arguments,
    print_result,
)


def main() -> None:
    """Train one epoch; the variant is the backend, `torch` or `jax`. Without Keras or that
    backend it prints that.
    """
    arguments = parse_arguments()
    limit_threads(arguments.threads)
    os.environ["KERAS_BACKEND"] = arguments.variant
    try:
        backend, keras = (importlib.import_module(name) for name in (arguments.variant, "keras"))
    except ImportError as error:
        print_result({"absent": str(error)})
        return
    if arguments.variant == "torch":
        backend.set_num_threads(arguments.threads)
    keras.utils.set_random_seed(arguments.seed)
    model = _make_model(keras, arguments.model)
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate(arguments.model), momentum=MOMENTUM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = load_arrays(arguments.data_root, limit=arguments.limit)
    clock = _make_clock(keras)
    model.fit(
        images, labels, batch_size=BATCH_SIZE, epochs=1, shuffle=True, verbose=0, callbacks=[clock]
    )
    images, labels = load_arrays(arguments.data_root, train=False)
    _, accuracy = model.evaluate(images, labels, batch_size=EVAL_BATCH_SIZE, verbose=0)
    result = clock.result(arguments.limit, num_parameters=model.count_params())
    print_result({**result, "test_accuracy": float(accuracy)})


def _make_model(keras: ModuleType, name: str) -> Any:
    """The model called `name` in Keras' own layout, images (N, 28, 28, 1).

    Its weights start as torch's do: with Keras' own start the first loss is another.
    """
    layers, start = (
        keras.layers,
        {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")},
    )

    def dense(size: int) -> Any:
        return layers.Dense(size, activation="relu", **start)

    def conv(filters: int, kernel: int, padding: str) -> Any:
        return layers.Conv2D(filters, kernel, padding=padding, activation="relu", **start)

    inner = {
        "linear": lambda: [layers.Flatten()],
        "mlp": lambda: [layers.Flatten(), dense(512), dense(512)],
        "lenet5": lambda: [
            *(
                conv(6, 5, "same"),
                layers.AveragePooling2D(2),
                conv(16, 5, "valid"),
                layers.AveragePooling2D(2),
            ),
            *(layers.Flatten(), dense(120), dense(84)),
        ],
        "cnn": lambda: [
            *(
                conv(32, 3, "same"),
                layers.MaxPooling2D(2),
                conv(64, 3, "same"),
                layers.MaxPooling2D(2),
            ),
            *(layers.Flatten(), dense(128)),
        ],
    }
    return keras.Sequential([keras.Input((28, 28, 1)), *inner[name](), layers.Dense(10, **start)])


def _make_clock(keras: Any) -> Any:
    """A callback that reads the mean loss after the first step, after the warm-up and at the
    end, and the time.
    """

    class FitClock(keras.callbacks.Callback):
        # Keras then reads the loss for us when we do, and not at every step.
        async_safe = True

        def __init__(self) -> None:
            super().__init__()
            self.losses: list[float] = []
            self.start = self.seconds = 0.0

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch + 1 in (1, WARM_UP):
                self.losses.append(float(logs["loss"]))
                self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            self.losses.append(float(logs["loss"]))
            self.seconds = time.perf_counter() - self.start

        def result(self, limit: int, *, num_parameters: int) -> dict[str, Any]:
            initial, early, whole = self.losses
            warm_up = WARM_UP * BATCH_SIZE
            return {
                "samples_per_second": (limit - warm_up) / self.seconds,
                "seconds": self.seconds,
                "samples": limit - warm_up,
                "initial_loss": initial,
                "early_loss": early,
                "late_loss": (whole * limit - early * warm_up) / (limit - warm_up),
                "num_parameters": num_parameters,
            }

    return FitClock()


if __name__ == "__main__":
    main()
