"""The one place where YAML becomes dataclasses; values live in configs/, and torch is not imported.

`keys` has what a key carries, a module a group its keys, `schema` all of them and the questions to
them, `load` the building, `closed_schema` what a checkpoint's config may not hold.
"""

from trainer.config.load import (
    comparable,
    from_saved,
    load_eval,
    load_fit,
    load_sweep,
    overlay,
    to_plain,
)
from trainer.config.run import EvalConfig, FitConfig
from trainer.config.schema import (
    CHOICES,
    COMMAND_SCHEMAS,
    SCHEMAS,
    SECTIONS,
    TOP_LEVEL,
    ConfigTree,
    affects,
    custom_groups,
    every_key,
    find_key,
    flatten,
    is_custom,
    known_keys,
    listed_keys,
    may_set,
    settable_keys,
    without_younger_keys,
)

__all__ = [
    "CHOICES", "COMMAND_SCHEMAS", "SCHEMAS", "SECTIONS", "TOP_LEVEL", "ConfigTree", "EvalConfig",
    "FitConfig", "affects", "comparable", "custom_groups", "every_key", "find_key", "flatten",
    "from_saved", "is_custom", "known_keys", "listed_keys", "load_eval", "load_fit", "load_sweep",
    "may_set", "overlay", "settable_keys", "to_plain", "without_younger_keys",
]  # fmt: skip
