"""The samples of a person's own data set as tensors: what has one meaning is converted, the rest is
refused by the index of the sample.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from trainer.errors import counted

Sample = tuple[Tensor, Any]

_CHANNELS = (1, 3, 4)
_MODES = ("1", "L", "RGB", "RGBA")
_MAX_TEXT = 60
# How many samples are read to find out whether labels count from 1.
_NUM_SEARCHED = 100
_NAME = "RefusedSample: "


class RefusedSample(Exception):
    """A sample that nothing can be trained on: what is wrong and, on a second line, what to do."""

    def __init__(self, text: str) -> None:
        # A worker process passes an error on as its traceback, which ends in the name and the text.
        super().__init__(text.rpartition(_NAME)[2].strip())

    @property
    def what(self) -> str:
        """What is wrong, as a sentence."""
        return str(self).partition("\n")[0]

    @property
    def hint(self) -> str | None:
        """What to do."""
        return str(self).partition("\n")[2] or None


@dataclass(kw_only=True, slots=True)
class Form:
    """What a sample must be like.

    `num_classes` is None where the targets are values. With `is_float` the inputs become float32,
    as the built-in models need them; otherwise they keep their type. `needs_images` is whether the
    model takes (C, H, W) only. `input_shape` and `num_values` are None where any will do.
    """

    num_classes: int | None
    is_float: bool
    needs_images: bool
    input_shape: torch.Size | None = None
    num_values: int | None = None


class ConvertedDataset(Dataset[Sample]):
    """The samples of `dataset` as pairs (input tensor, class index or values (K,)).

    `name` is what messages call the data set. Raises RefusedSample for a sample that does not have
    `form`, and what the data set raises.
    """

    def __init__(self, dataset: Any, *, name: str, form: Form) -> None:
        self.name = name
        self.form = form
        self.source = dataset

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return self.convert(self.source[index], index)

    def convert(self, sample: object, index: int) -> Sample:
        """What `source` gave for `index` as a pair of the form; raises RefusedSample."""
        form = self.form
        place = f"of sample {index}"
        try:
            given, target = _pair(sample, index)
            inputs = as_input(given, f"the input {place}", form)
            if form.input_shape is not None and inputs.shape != form.input_shape:
                raise RefusedSample(
                    f"the input {place} has shape {tuple(inputs.shape)}, not "
                    f"{tuple(form.input_shape)} like sample 0 of the training set.\n"
                    "All samples need one shape; pictures get it by a transform, such as "
                    "torchvision.transforms.v2.Resize((224, 224))."
                )
            if form.num_classes is None:
                return inputs, self._values(target, f"the target {place}")
            label = as_label(target, f"the target {place}")
            if not 0 <= label < form.num_classes:
                raise RefusedSample(self._wrong_class(label, index))
        except RefusedSample as error:
            raise RefusedSample(f"{self.name}: {error}") from None
        return inputs, label

    def _values(self, target: object, what: str) -> Tensor:
        values = as_values(target, what)
        if self.form.num_values not in (None, len(values)):
            raise RefusedSample(
                f"{what} has {counted(len(values), 'value')}, and that of sample 0 of the training "
                f"set {self.form.num_values}.\nAll targets need as many values."
            )
        return values

    def _wrong_class(self, label: int, index: int) -> str:
        """The reason why a label is refused, and whether the labels seem to count from 1."""
        num_classes = self.form.num_classes
        what = (
            f"the target of sample {index} is class {label}, and there are {num_classes} classes, "
            f"0 to {(num_classes or 0) - 1}."
        )
        if label < 0:
            return f"{what}\nLeave out samples without a class: no loss here skips them."
        known = self._first_labels() | {label}
        if label == num_classes and 0 not in known:
            return (
                f"{what}\nNo label of the first samples is 0: where your labels count from 1, "
                "return label - 1."
            )
        if len(known) > (num_classes or 0):
            return (
                f"{what}\nIf there are more classes, list them in `classes` of the Dataset, or set "
                "data.num_classes."
            )
        return f"{what}\nNumber the classes from 0 on without gaps, as `classes` lists them."

    def _first_labels(self) -> set[int]:
        """The labels of the first samples; none where they cannot be read."""
        try:
            samples = [self.source[index] for index in range(min(_NUM_SEARCHED, len(self)))]
            return {as_label(target, "a target") for _, target in samples}
        except Exception:  # their code may raise anything, and the sample is refused already
            return set()


def _pair(sample: object, index: int) -> tuple[object, object]:
    """The input and the target; raises RefusedSample for what is no pair."""
    if isinstance(sample, (tuple, list)) and len(sample) == 2:
        return sample[0], sample[1]
    hint = "Its __getitem__ must return the pair (input, target)."
    what = f"a {_kind(sample)}"
    if isinstance(sample, dict):
        keys = [str(key) for key in sample]
        names = ", ".join(f"sample[{key!r}]" for key in keys[:2])
        what = f"a dict of {', '.join(keys)}"
        hint = f"Its __getitem__ must return the pair (input, target), such as ({names})."
    elif isinstance(sample, (tuple, list)):
        what = f"a {_kind(sample)} of {len(sample)}"
    raise RefusedSample(f"sample {index} is {shortened(what)}, not a pair (input, target).\n{hint}")


def as_input(value: object, what: str, form: Form) -> Tensor:
    """`value` as a tensor that the model takes; raises RefusedSample, which calls it `what`.

    Pictures of PIL become float32 (C, H, W) from 0 to 1, as by torchvision's `to_tensor`. For a
    built-in model bytes of a picture are divided by 255 too, and bool, half and float64 become
    float32; integers are refused, because they may be numbers or names of things.
    """
    if _is_picture(value):
        return _picture_as_tensor(value, what)
    tensor = as_tensor(value, what)
    if tensor.layout is not torch.strided:
        raise RefusedSample(f"{what} is sparse.\nReturn input.to_dense().")
    if tensor.is_complex():
        raise RefusedSample(
            f"{what} is complex, which no layer takes.\nReturn torch.view_as_real(input) or its "
            "absolute values."
        )
    if not form.is_float:
        return tensor
    if tensor.dtype is torch.uint8:
        is_array = not isinstance(value, Tensor)
        return _channels_first(tensor, what, is_array=is_array).to(torch.float32) / 255
    if not tensor.is_floating_point() and tensor.dtype is not torch.bool:
        name = str(tensor.dtype).removeprefix("torch.")
        raise RefusedSample(
            f"{what} is {name}, and the built-in models take float32.\nFor numbers return "
            "torch.as_tensor(input, dtype=torch.float32); for token ids use a model of your own "
            "(model=custom)."
        )
    if form.needs_images:
        _check_picture(tensor, what)
    floats = tensor.to(torch.float32)
    return floats.reshape(1) if floats.ndim == 0 else floats


def as_label(value: object, what: str) -> int:
    """`value` as a class index: a whole number, also as a float or as a tensor of one value.

    Raises RefusedSample, which calls it `what`, for anything else.
    """
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        raise RefusedSample(
            f"{what} is the text {shortened(repr(value))}, not a class index.\nReturn "
            "self.classes.index(label)."
        )
    tensor = as_tensor(value, what)
    if tensor.numel() != 1:
        raise RefusedSample(
            f"{what} has shape {tuple(tensor.shape)}, and a class is one whole number.\nOf one-hot "
            "labels return int(target.argmax()); soft labels are values: data.task=regression "
            "loss=mse."
        )
    number = tensor.item()
    if isinstance(number, complex) or not float(number).is_integer():
        raise RefusedSample(
            f"{what} is {number:g}, not a class: a class is a whole number.\nFor values set "
            "data.task=regression and a loss for values, such as loss=mse."
        )
    return int(number)


def as_values(value: object, what: str) -> Tensor:
    """`value` as float32 (K,), K = 1 for a number; raises RefusedSample, which calls it `what`."""
    if type(value) is float:
        return torch.tensor([value])
    tensor = as_tensor(value, what)
    if tensor.is_complex() or tensor.numel() == 0:
        kind = "complex" if tensor.is_complex() else "empty"
        raise RefusedSample(f"{what} is {kind}.\nReturn real numbers.")
    return tensor.to(torch.float32).reshape(-1)


def as_tensor(value: object, what: str) -> Tensor:
    """A tensor, array, number or list of numbers as a tensor; raises RefusedSample."""
    if isinstance(value, Tensor):
        return value if type(value) is Tensor else value.as_subclass(Tensor)
    try:
        if isinstance(value, (np.ndarray, np.generic)):
            return _array_as_tensor(np.asarray(value))
        if isinstance(value, (bool, int, float, complex)):
            return torch.tensor(value)
        if isinstance(value, (list, tuple)) and value:
            return torch.tensor(value)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise RefusedSample(
        f"{what} is {_described(value)}, not a tensor or a number.\nReturn a tensor, such as "
        "torch.tensor(values); a NumPy array, a picture of PIL and numbers will do too."
    )


def _array_as_tensor(array: NDArray[Any]) -> Tensor:
    """An array of any byte order and strides; raises TypeError for what is no numbers."""
    if array.dtype.kind not in "buifc":
        raise TypeError(array.dtype)
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "u" and dtype.itemsize > 1:
        dtype = np.dtype(np.int64)  # torch can hardly compute with wide unsigned types
    elif dtype.kind == "f" and dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    if dtype != array.dtype or not array.flags.writeable or min(array.strides, default=0) < 0:
        array = np.array(array, dtype=dtype, order="C")
    return torch.from_numpy(array)


def _is_picture(value: object) -> bool:
    """Whether it is a picture of PIL, which is not imported for that."""
    images = sys.modules.get("PIL.Image")
    return images is not None and isinstance(value, images.Image)


def _picture_as_tensor(picture: Any, what: str) -> Tensor:
    if picture.mode not in _MODES:
        raise RefusedSample(
            f"{what} is a picture of mode {picture.mode}.\nReturn picture.convert('RGB') or "
            "picture.convert('L')."
        )
    if picture.mode == "1":
        picture = picture.convert("L")
    pixels = torch.from_numpy(np.array(picture))
    pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
    return pixels.contiguous().to(torch.float32) / 255


def _channels_first(pixels: Tensor, what: str, *, is_array: bool) -> Tensor:
    """Bytes of a picture as (C, H, W); an array that may be (H, W, C) as well is refused."""
    if pixels.ndim == 3:
        is_first = pixels.shape[0] in _CHANNELS
        is_last = pixels.shape[2] in _CHANNELS
        if is_first and not (is_last and is_array):
            return pixels
        if is_last and not is_first:
            return pixels.permute(2, 0, 1).contiguous()
    raise RefusedSample(
        f"{what} is uint8 of shape {tuple(pixels.shape)}, which is not clearly a picture "
        "(C, H, W).\nReturn it as float32: torch.as_tensor(input, dtype=torch.float32), of a "
        "picture (C, H, W) divided by 255."
    )


def _check_picture(tensor: Tensor, what: str) -> None:
    """Raise RefusedSample for what is no (C, H, W), or is (H, W, C)."""
    shape = tuple(tensor.shape)
    if tensor.ndim == 2:
        raise RefusedSample(
            f"{what} has shape {shape}, and this model takes pictures (C, H, W).\nReturn "
            "input[None], which has one channel."
        )
    if tensor.ndim == 3 and shape[2] in (1, 3) and shape[0] not in _CHANNELS:
        raise RefusedSample(
            f"{what} has shape {shape}, which looks like (H, W, C); a picture is (C, H, W).\n"
            "Return torch.as_tensor(input).permute(2, 0, 1)."
        )


def _kind(value: object) -> str:
    return type(value).__name__


def _described(value: object) -> str:
    if value is None:
        return "None"
    text = f"the text {value!r}" if isinstance(value, str) else f"a {_kind(value)}"
    numpy_dtype = getattr(value, "dtype", None)
    return shortened(text if numpy_dtype is None else f"{text} of {numpy_dtype}")


def shortened(text: str, *, most: int = _MAX_TEXT) -> str:
    """`text` as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
