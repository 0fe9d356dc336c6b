"""A person's own map-style data set: made, and what it says of itself checked, before training."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from trainer.config.data import CustomDataConfig
from trainer.data.samples import ConvertedDataset, Form, RefusedSample, Sample, shortened
from trainer.errors import ConfigError, CustomCodeError, is_out_of_memory, listing, out_of_memory
from trainer.user_code import call, import_class

_MAX_LISTED = 8
_MAX_TEXT = 40


class OwnDataset:
    """The data set of `data.target`, made with `kwargs`; `name` is what messages call it.

    `classes` are the names that it lists, None where it lists none. Raises ConfigError when it has
    no length or no samples, CustomCodeError when it raises.
    """

    def __init__(self, target: str, kwargs: dict[str, object], *, name: str) -> None:
        self.name = name
        self.dataset = call(import_class(target, key="data.target"), kwargs, key="data.target")
        self._check_map_style()
        self.length = self._length()
        if self.length == 0:
            raise ConfigError(f"{name} is empty.")
        listed = self._listed_classes()
        self.classes: tuple[object, ...] | None = None
        self.has_classes = listed is not None
        if _is_list(listed):
            self.classes = tuple(listed)

    def converted(self, form: Form) -> ConvertedDataset:
        """Its samples as tensors of `form`."""
        return ConvertedDataset(self.dataset, name=self.name, form=form)

    def _check_map_style(self) -> None:
        kind = type(self.dataset)
        is_mapped = hasattr(kind, "__len__") and hasattr(kind, "__getitem__")
        is_abstract = getattr(kind, "__getitem__", None) is Dataset.__getitem__
        if not is_mapped or is_abstract or isinstance(self.dataset, IterableDataset):
            raise ConfigError(
                f"{self.name} is not a map-style Dataset.",
                hint="It needs __len__ and __getitem__(index), which an IterableDataset lacks.",
            )

    def _length(self) -> int:
        try:
            length = type(self.dataset).__len__(self.dataset)
        except Exception as error:
            raise CustomCodeError(
                f"{self.name}: its __len__ raised {type(error).__name__}: {error}."
            ) from error
        try:
            length = operator.index(length)
        except TypeError:
            raise ConfigError(
                f"{self.name}: its __len__ returns {length!r}, not a whole number."
            ) from None
        if length < 0:
            raise ConfigError(f"{self.name}: its __len__ returns {length}.")
        return length

    def _listed_classes(self) -> Any:
        """The attribute `classes`, whatever it is; None where there is none."""
        try:
            return getattr(self.dataset, "classes", None)
        except Exception as error:
            raise CustomCodeError(
                f"{self.name}: its `classes` raised {type(error).__name__}: {error}."
            ) from error


def _is_list(classes: object) -> bool:
    """Whether names can be read in order: not one text, not a set or a dict."""
    if isinstance(classes, (str, bytes, dict)):
        return False
    return hasattr(classes, "__len__") and hasattr(classes, "__getitem__")


def class_names(own: OwnDataset, config: CustomDataConfig) -> tuple[str, ...]:
    """The names of the classes: of the data set, or numbers where `data.num_classes` is set.

    Raises ConfigError unless they are two texts at least.
    """
    if config.num_classes is not None:
        return tuple(map(str, range(config.num_classes)))
    hint = "Give each class a name, as in classes = ['cat', 'dog'], or set data.num_classes."
    if own.classes is None and own.has_classes:
        raise ConfigError(
            f"{own.name}: its `classes` are {_shortened(own.dataset.classes)}, not a list of "
            "names.",
            hint=hint,
        )
    if own.classes is None:
        raise ConfigError(
            f"{own.name} does not say how many classes it has.",
            hint="Set data.num_classes, or give the Dataset a list `classes`; for values set "
            "data.task=regression.",
        )
    for index, name in enumerate(own.classes):
        if not isinstance(name, str):
            raise ConfigError(
                f"{own.name}: classes[{index}] is {_shortened(name)}, not text.", hint=hint
            )
    if len(own.classes) < 2:
        listed = f"only {_shortened(own.classes[0])}" if own.classes else "no class"
        raise ConfigError(
            f"{own.name}: its `classes` list {listed}, and a classification needs two.",
            hint="List every class, also for two that exclude each other; for values set "
            "data.task=regression.",
        )
    return tuple(map(str, own.classes))


def check_same_classes(train: OwnDataset, other: OwnDataset) -> None:
    """Raise ConfigError when `other` lists other classes than `train`, or in another order.

    Its labels would then be other classes than those the model learns.
    """
    if train.classes is None or other.classes is None:
        return
    trained = [str(name) for name in train.classes]
    found = [str(name) for name in other.classes]
    if trained == found:
        return
    raise ConfigError(
        f"{other.name} has other classes than the training set: it {_difference(trained, found)}.",
        hint="The labels would count other classes: list the same `classes` in the same order in "
        "every split (ImageFolder: a folder for each class, with allow_empty=true).",
    )


def _difference(trained: list[str], found: list[str]) -> str:
    """`lacks bee and has besides cow`; the order where the names are the same."""
    parts = []
    if missing := [name for name in trained if name not in found]:
        parts.append(f"lacks {listing(missing, most=_MAX_LISTED)}")
    if added := [name for name in found if name not in trained]:
        parts.append(f"has besides {listing(added, most=_MAX_LISTED)}")
    return " and ".join(parts) or f"lists them as {listing(found, most=_MAX_LISTED)}"


def check_samples(own: OwnDataset, form: Form, *, any_shape: bool) -> Form:
    """Try the first, a middle and the last sample; returns `form` with the shapes of the first.

    With `any_shape` the inputs may differ in shape, and the form has none.

    Raises ConfigError for a sample that cannot be used, CustomCodeError when the data set raises.
    """
    for index in sorted({0, own.length // 2, own.length - 1}):
        try:
            inputs, target = own.converted(form)[index]
        except RefusedSample as error:
            raise ConfigError(error.what, hint=error.hint) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(f"reading sample {index} of {own.name}") from error
            raise CustomCodeError(
                f"{own.name} raised {type(error).__name__} for sample {index}: {error}."
            ) from error
        if index == 0:
            form = dataclasses.replace(
                form,
                input_shape=None if any_shape else inputs.shape,
                num_values=len(target) if form.num_classes is None else None,
            )
    return form


def first_sample(own: OwnDataset, form: Form) -> Sample:
    """Sample 0 as tensors of `form`."""
    return own.converted(form)[0]


def _shortened(value: object) -> str:
    return shortened(repr(value), most=_MAX_TEXT)
