"""What a model returns, compared with its targets: shapes that broadcast give a wrong loss."""

from __future__ import annotations

from torch import Tensor

from trainer.errors import ConfigError


class OutputCheck:
    """Checks the first batch, and any whose size differs from the one before: the last of an epoch.

    `where` is the split or the mode in words; `num_outputs` is the number of classes, if known.
    With `is_training` the outputs need a gradient.
    """

    def __init__(
        self, where: str, *, num_outputs: int | None = None, is_training: bool = False
    ) -> None:
        self.num_outputs = num_outputs
        self._is_training = is_training
        self._where = where
        self._num_samples = 0

    def __call__(self, outputs: object, targets: Tensor) -> None:
        """Raise ConfigError unless the outputs fit the targets."""
        if len(targets) != self._num_samples:
            check_outputs(outputs, targets, num_outputs=self.num_outputs, where=self._where)
            if self._is_training:
                check_gradient(outputs, where=self._where)
            self._num_samples = len(targets)


def check_outputs(outputs: object, targets: Tensor, *, num_outputs: int | None, where: str) -> None:
    """Raise ConfigError unless `outputs` are (N, C) for classes (N,), or shaped as values (N, K).

    `where` is the split and the mode in words; `num_outputs` is C where it is known.
    """
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"{where} the model returns a {type(outputs).__name__}, not a tensor.",
            hint="Return one tensor in training and in evaluation: the loss is computed of it.",
        )
    shape = tuple(outputs.shape)
    if targets.is_floating_point():
        _check_values(shape, tuple(targets.shape), where=where)
        return
    num = len(targets)
    fits = len(shape) == 2 and shape[0] == num and num_outputs in (None, shape[1])
    if not fits:
        samples = {1: "one sample", 2: "two samples"}.get(num, f"{num} samples")
        raise ConfigError(
            f"{where} the model returns shape {shape} for {samples}, not ({num}, "
            f"{num_outputs or 'C'}).",
            hint="Return a row of outputs for each sample; squeeze() and view() may drop an axis.",
        )


def check_gradient(outputs: object, *, where: str) -> None:
    """Raise ConfigError where nothing leads from the outputs back to the parameters."""
    if isinstance(outputs, Tensor) and not outputs.requires_grad:
        raise ConfigError(
            f"{where} the model's outputs have no gradient, so nothing can be trained.",
            hint="Compute them from the parameters without torch.no_grad, inference_mode, detach() "
            "and NumPy.",
        )


def _check_values(outputs: tuple[int, ...], targets: tuple[int, ...], *, where: str) -> None:
    if outputs != targets:
        raise ConfigError(
            f"{where} the model returns shape {outputs}, and the targets have shape {targets}: a "
            "loss would pair other values than those that belong together.",
            hint="Give both the same shape (N, K); squeeze() may drop an axis.",
        )
