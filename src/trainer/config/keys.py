"""What a key of the config carries besides its type: its bounds, what it changes, where it appears.

A field of a dataclass is declared as `num_workers: int = key(between=(0, 512), affects="speed")`.
The value is not here: it is in configs/. Which groups there are is in `schema`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, ParamSpec

from trainer.config import checks
from trainer.errors import ConfigError

Affects = Literal[
    "result",  # what is learned
    "trials",  # which runs a sweep makes
    "order",  # what is learned, and which samples a batch has
    "samples",  # which samples there are, and so their order too
    "evaluation",  # what is measured and when, while the training is the same
    "rounding",  # the last bits of all numbers
    "record",  # what is written about the run
    "speed",  # nothing but time: the same bits
    "place",  # nothing: where the data is
    "command",  # nothing in the run: where it is written, and how the command goes about it
]
REQUIRED = object()  # not None, which is a default too


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The properties of a key.

    Bounds apply to the value, or to each item of a list, and never to None: whether a key may be
    null is a matter of its type. `affects`, `redefines` and `settable` are those of the group
    where they are None.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    between: tuple[float, float] | None = None
    open_end: bool = False  # the upper end of `between` is out of bounds
    one_of: tuple[str, ...] = ()
    length: int | None = None
    is_filled: bool = False  # an empty text is out of bounds, as it is for a path
    # Called with the name and the value; raises ConfigError for a text of another form.
    form: Callable[[str, str], object] | None = None

    affects: Affects | None = None
    # Patterns of the metrics that measure something else, or on other samples, in runs with another
    # value. A seed has none: every draw is as good as another.
    redefines: tuple[str, ...] | None = None
    is_path: bool = False
    is_code: bool = False  # the import path of a person's own class
    is_open: bool = False  # a table whose keys a person chooses
    words: tuple[str, ...] = ()  # values that completion offers, where others are possible
    listed: tuple[str, ...] = ()  # the verbs whose help page lists the key
    settable: tuple[str, ...] | None = None  # the verbs on a checkpoint that may set it anew
    column: int | None = None  # the place among the columns that TensorBoard lists first

    # Of a key that is younger than some checkpoints: the value with which a run does what it did
    # before there was the key. What is read from a checkpoint or a sweep gets it; a new command
    # has its value from configs/, as for every key.
    before: Any = REQUIRED

    # Of an option inside a list only: every other key has its value in configs/.
    default: object = REQUIRED
    type: str = ""  # the annotation of the field, such as `int | None`

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to offer: all there are, or the usual ones."""
        return ("true", "false") if self.type == "bool" else self.one_of or self.words

    @property
    def is_hyperparameter(self) -> bool:
        """Whether it says how the model learns, not from which samples or on what machine."""
        return self.affects in ("result", "order")

    @property
    def changes_bits(self) -> bool:
        """Whether a run with another value may end with other weights or metrics."""
        return self.affects not in ("speed", "place", "command")

    def check(self, name: str, value: object) -> None:
        """Raise ConfigError, which calls the key `name`, unless `value` is within the bounds."""
        if isinstance(value, list | tuple):
            if self.length is not None and len(value) != self.length:
                raise ConfigError(f"{name}={list(value)} must hold {self.length} numbers.")
            for index, item in enumerate(value):
                self._check_one(f"{name}[{index}]", item)
        elif value is not None:
            self._check_one(name, value)

    def _check_one(self, name: str, value: Any) -> None:
        if self.at_least is not None:
            checks.at_least(name, value, self.at_least)
        if self.above is not None:
            checks.above(name, value, self.above)
        if self.at_most is not None:
            checks.at_most(name, value, self.at_most)
        if self.between is not None:
            checks.within(name, value, *self.between, open_end=self.open_end)
        if self.one_of:
            checks.one_of(name, value, self.one_of)
        if self.is_filled:
            checks.filled(name, value)
        if self.is_path:
            checks.path(name, value)
        if self.form is not None:
            self.form(name, value)


P = ParamSpec("P")


def _as_field(make: Callable[P, Key]) -> Callable[P, Any]:
    """`make` as a field of a dataclass that carries the Key in its metadata."""

    # mypy checks the arguments of `key` against the fields of Key.
    def field(*args: P.args, **kwargs: P.kwargs) -> Any:
        made = make(*args, **kwargs)
        default = dataclasses.MISSING if made.default is REQUIRED else made.default
        return dataclasses.field(default=default, metadata={"key": made})

    return field


key = _as_field(Key)


@dataclass(kw_only=True, slots=True)
class Section:
    """A group of keys: making one checks each key, and then what the keys say together."""

    group: ClassVar[str] = ""
    affects: ClassVar[Affects] = "result"
    redefines: ClassVar[tuple[str, ...]] = ()
    settable: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        # Here, so that no way in skips the checks: YAML, a checkpoint, an option of a transform.
        for name, known in keys_of(type(self)).items():
            known.check(self.dotted(name), getattr(self, name))
        self.check_together()

    def check_together(self) -> None:
        """Raise ConfigError where keys of the group contradict one another."""

    @classmethod
    def dotted(cls, name: str) -> str:
        """How the command line calls the key `name` of the group."""
        return f"{cls.group}.{name}" if cls.group else name


def keys_of(schema: type[Section]) -> dict[str, Key]:
    """The keys of a group by name, with what the group says of all its keys filled in."""
    found = {}
    for field in dataclasses.fields(schema):
        declared: Key = field.metadata.get("key", Key())
        # A copy: an inherited field is one object for all its schemas.
        found[field.name] = dataclasses.replace(
            declared,
            type=str(field.type),
            affects=schema.affects if declared.affects is None else declared.affects,
            redefines=schema.redefines if declared.redefines is None else declared.redefines,
            settable=schema.settable if declared.settable is None else declared.settable,
        )
    return found
