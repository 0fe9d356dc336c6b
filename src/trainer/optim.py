"""Optimizers by name, made from plain values; the formulas are torch's. Learning rates over
time: see `schedule`.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.errors import ConfigError
from trainer.registry import look_up
from trainer.state_checks import LARGEST, Count, check

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": torch.optim.Adamax,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "asgd": torch.optim.ASGD,
    "rprop": torch.optim.Rprop,
    "lbfgs": torch.optim.LBFGS,
}
# Implementations that update all parameters in one pass, on CPU as well.
_FUSED = {"sgd", "adam", "adamw", "adagrad"}
# Methods that torch keeps its compiler away from.
_NEVER_COMPILED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimizer(
    model: nn.Module, *, name: str, decay_all: bool = True, **options: Any
) -> Optimizer:
    """The optimizer called `name` over the trained parameters of `model`.

    With `decay_all=False` the parameters of fewer than two axes (biases, norms) form a group
    without weight decay. Raises ConfigError for a model without parameters.
    """
    _leave_compiler_out()
    maker = look_up(OPTIMIZERS, name, kind="optimizer")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(
            "The model has no parameters to train.", hint="Choose a model with layers that learn."
        )
    groups: list[Any] = trained
    if not decay_all:
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim >= 2]},
            {
                "params": [parameter for parameter in trained if parameter.ndim < 2],
                "weight_decay": 0.0,
            },
        ]
    if name in _FUSED:
        options["fused"] = True
    # YAML has no tuples.
    options = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    return maker(groups, **options)


def unwrapped_step(optimizer: Optimizer) -> Callable[..., Any]:
    """`optimizer.step` without what torch wraps around it, to be called without gradients.

    Its hooks, of which we have none, take 30 us a step, and import torch's compiler, which takes
    longer than torch.
    """
    return functools.partial(inspect.unwrap(type(optimizer).step), optimizer)


def _leave_compiler_out() -> None:
    """Tell torch that the methods of optimizers are ready to be called: else it imports its
    compiler to wrap them.

    Only how long a start takes depends on it, and a test says when torch no longer looks there.
    """
    for name in _NEVER_COMPILED:
        method = inspect.unwrap(getattr(Optimizer, name))
        vars(method).setdefault("__dynamo_disable", method)


class OptimizerState:
    """An optimizer as an entry of the state table: momenta and the like are saved, settings come
    from the config.

    torch's `load_state_dict` would bring the saved learning rate and weight decay back over what
    the config says now.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """torch's own state dict."""
        return dict(self._optimizer.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state and keep the settings; raises ValueError when the parameters differ."""
        check(state, state=dict, param_groups=list)
        own = self._optimizer.state_dict()["param_groups"]
        if [group["params"] for group in state["param_groups"]] != [
            group["params"] for group in own
        ]:
            raise ValueError("its parameters are grouped in another way")
        settings = [
            {k: v for k, v in group.items() if k != "params"}
            for group in self._optimizer.param_groups
        ]
        self._optimizer.load_state_dict({**state, "state": self._checked(state["state"])})
        for group, ours in zip(self._optimizer.param_groups, settings, strict=True):
            group.update(ours)

    def _checked(self, state: Mapping[Any, Any]) -> dict[int, dict[str, Any]]:
        """What is kept for each parameter, by its number; ValueError for what this optimizer would
        not have made.

        Nothing of it is left to torch: its fused kernels go through memory by the size of the
        parameter alone, so that a shape must be right, and the layout that of the parameter, which
        may be channels-last.
        """
        if isinstance(self._optimizer, torch.optim.LBFGS):
            return _checked_lbfgs(state, self._optimizer)
        expected = _after_a_step(self._optimizer)
        # Only SGD begins in the middle: without a momentum so far.
        may_lack = isinstance(self._optimizer, torch.optim.SGD)
        num_parameters = sum(len(group["params"]) for group in self._optimizer.param_groups)
        checked: dict[int, dict[str, Any]] = {}
        for index, entries in state.items():
            if type(index) is not int or not 0 <= index < num_parameters:
                raise ValueError(f"there is no parameter {index}")
            checked[index] = {}
            for name, value in expected.get(index, {}).items():
                # What else there is comes from settings that were changed, such as amsgrad, and is
                # of no use.
                if name in entries:
                    checked[index][name] = _laid_out_as(
                        value, entries[name], label=f"{name} of parameter {index}"
                    )
                elif not may_lack:
                    raise ValueError(
                        f"it has no {name} of parameter {index}, which these settings need"
                    )
        return checked


def _after_a_step(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """What `optimizer` keeps once it has taken a step: of a copy that takes one along a gradient
    of zeros.
    """
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        unwrapped_step(twin)()
    return dict(twin.state_dict()["state"])


def _laid_out_as(expected: Any, value: Any, *, label: str) -> Any:
    """`value`, in memory as `expected` is; ValueError unless both are of one kind."""
    if _form(value) != _form(expected):
        raise ValueError(f"{label} is {_form(value)}, not {_form(expected)}")
    return torch.empty_like(expected).copy_(value) if isinstance(expected, Tensor) else value


def _checked_lbfgs(state: Mapping[Any, Any], optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """As `_checked`: L-BFGS keeps its history with the first parameter, in vectors over all of them."""
    num_values = sum(
        parameter.numel() for group in optimizer.param_groups for parameter in group["params"]
    )
    vectors, scalars = (
        {"d", "prev_flat_grad", "old_dirs", "old_stps"},
        {"t", "prev_loss", "H_diag", "ro", "al"},
    )
    if set(state) - {0}:
        raise ValueError("there is one history for all parameters")
    for name, value in state.get(0, {}).items():
        if name in ("func_evals", "n_iter"):
            check({name: value}, **{name: Count})
        elif name not in vectors | scalars:
            raise ValueError(f"there is no {name[:40]}")
        else:
            for item in value if isinstance(value, list) else [value]:
                shape = (num_values,) if name in vectors else ()
                if not (
                    item is None
                    or (_is_tensor(item, shape) if name in vectors else _is_scalar(item))
                ):
                    raise ValueError(f"{name} is {_form(item)}")
    return dict(state)


def _is_tensor(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == shape


def _is_scalar(value: Any) -> bool:
    return _is_tensor(value, ()) or (type(value) in (int, float) and abs(value) <= LARGEST)


def _form(value: Any) -> str:
    """What kind of thing `value` is: the type and shape of a tensor."""
    if isinstance(value, Tensor):
        return f"{'x'.join(map(str, value.shape)) or 'scalar'} {value.dtype}".replace("torch.", "")
    return type(value).__name__
