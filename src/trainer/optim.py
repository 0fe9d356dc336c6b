"""Optimizers by name, made from plain values; the formulas are torch's."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from trainer.errors import ConfigError
from trainer.registry import look_up
from trainer.state_checks import LARGEST, Count, StateDict, check

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
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
# Those that take the gradient of a few rows of a table of embeddings alone.
_TAKE_SPARSE = {"sgd", "adagrad"}
# Methods that torch keeps its compiler away from.
_NEVER_COMPILED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


def make_optimizer(
    model: nn.Module,
    *,
    name: str,
    decay_all: bool = True,
    has_sparse_gradients: bool = False,
    **options: object,
) -> Optimizer:
    """The optimizer called `name` over the trained parameters of `model`.

    With `decay_all=False` the parameters of fewer than two axes (biases, norms) form a group
    without weight decay. Raises ConfigError for a model without parameters, and for sparse
    gradients with an optimizer that takes none.
    """
    _leave_compiler_out()
    maker = look_up(OPTIMIZERS, name, kind="optimizer")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(
            "The model has no parameters to train.", hint="Choose a model with layers that learn."
        )
    if has_sparse_gradients:
        _check_takes_sparse(name, weight_decay=options.get("weight_decay", 0))
    groups: Sequence[object] = trained if decay_all else _groups_by_decay(trained)
    if name in _FUSED and not has_sparse_gradients and all(map(_takes_fused, trained)):
        options["fused"] = True
    for key, value in options.items():
        if isinstance(value, list):  # YAML has no tuples
            options[key] = tuple(value)
    return maker(groups, **options)


def _groups_by_decay(trained: list[nn.Parameter]) -> list[dict[str, object]]:
    decayed = [parameter for parameter in trained if parameter.ndim >= 2]
    spared = [parameter for parameter in trained if parameter.ndim < 2]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


def _takes_fused(parameter: nn.Parameter) -> bool:
    """Whether the fused kernels are right: they go through memory value by value.

    A part of a larger tensor has other values between its own.
    """
    next_stride = 1
    for stride, size in sorted(zip(parameter.stride(), parameter.shape, strict=True)):
        if size != 1 and stride != next_stride:
            return False
        next_stride *= size
    return parameter.is_floating_point()


def _check_takes_sparse(name: str, *, weight_decay: object) -> None:
    if name not in _TAKE_SPARSE or weight_decay:
        setting = f"optimizer={name}" if name not in _TAKE_SPARSE else "optimizer.weight_decay"
        raise ConfigError(
            f"{setting} takes no sparse gradients, and a layer of the model has them "
            "(nn.Embedding(sparse=True), say).",
            hint="Choose optimizer=sgd or adagrad with optimizer.weight_decay=0, or leave out "
            "sparse=True.",
        )


def unwrapped_step(optimizer: Optimizer) -> Callable[..., object]:
    """`optimizer.step` without what torch wraps around it, to be called without gradients.

    Its hooks, of which we have none, take 30 us a step, and import torch's compiler, which takes
    longer than torch.
    """
    return functools.partial(inspect.unwrap(type(optimizer).step), optimizer)


def _leave_compiler_out() -> None:
    """Mark the methods of optimizers as wrapped already: to wrap them, torch imports its compiler.

    Only how long a start takes depends on it, and a test fails when torch no longer looks there.
    """
    for name in _NEVER_COMPILED:
        method = inspect.unwrap(getattr(Optimizer, name))
        vars(method).setdefault("__dynamo_disable", method)


class OptimizerState:
    """An optimizer as an entry of the state table: momenta are saved, settings are the config's.

    torch's `load_state_dict` would put the saved learning rate and weight decay in their place.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> StateDict:
        """torch's own state dict; a momentum of sparse gradients is saved as a dense tensor."""
        content = dict(self._optimizer.state_dict())
        content["state"] = {
            index: {name: _as_dense(value) for name, value in entries.items()}
            for index, entries in content["state"].items()
        }
        return content

    def load_state_dict(self, state: StateDict) -> None:
        """Load the state and keep the settings; raises ValueError when the parameters differ."""
        check(state, state=dict, param_groups=list)
        own = self._optimizer.state_dict()["param_groups"]
        if [group["params"] for group in state["param_groups"]] != [g["params"] for g in own]:
            raise ValueError("its parameters are grouped in another way")
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self._optimizer.param_groups
        ]
        self._optimizer.load_state_dict({**state, "state": self._checked(state["state"])})
        for group, ours in zip(self._optimizer.param_groups, settings, strict=True):
            group.update(ours)

    def _checked(self, state: Mapping[Any, StateDict]) -> dict[int, StateDict]:
        """What is saved of each parameter, by its number; raises ValueError for what does not fit.

        torch checks none of it: its fused kernels go through memory by the size of the parameter
        alone, so the shape must be right, and the layout the parameter's (it may be channels-last).
        """
        if isinstance(self._optimizer, torch.optim.LBFGS):
            _check_lbfgs(state, self._optimizer)
            return dict(state)
        expected = _after_a_step(self._optimizer)
        # Only SGD starts from any state: without a momentum so far.
        may_lack = isinstance(self._optimizer, torch.optim.SGD)
        num_parameters = sum(len(group["params"]) for group in self._optimizer.param_groups)
        checked: dict[int, StateDict] = {}
        for index, entries in state.items():
            if type(index) is not int or not 0 <= index < num_parameters:
                raise ValueError(f"there is no parameter {index}")
            checked[index] = {}
            # An entry beyond these belongs to a setting of before, such as amsgrad.
            for name, value in expected.get(index, {}).items():
                label = f"{name} of parameter {index}"
                if name in entries:
                    checked[index][name] = _laid_out_as(value, entries[name], label=label)
                elif not may_lack:
                    raise ValueError(f"it has no {label}, which these settings need")
        return checked


def _as_dense(value: object) -> object:
    return value.to_dense() if isinstance(value, Tensor) and value.is_sparse else value


def _after_a_step(optimizer: Optimizer) -> dict[int, StateDict]:
    """The state of a copy of `optimizer` that takes a step along a gradient of zeros."""
    # Tried out, because an optimizer makes its entries in its first step, and a list of them would
    # be that of one torch. The parameters are copied too, so the model does not move.
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    with torch.no_grad():
        unwrapped_step(twin)()
    return dict(twin.state_dict()["state"])


def _laid_out_as(expected: object, value: Any, *, label: str) -> object:
    """`value` in the memory layout of `expected`; ValueError unless both are of one kind."""
    if _form(value) != _form(expected):
        raise ValueError(f"{label} is {_form(value)}, not {_form(expected)}")
    return torch.empty_like(expected).copy_(value) if isinstance(expected, Tensor) else value


def _check_lbfgs(state: Mapping[Any, StateDict], optimizer: torch.optim.LBFGS) -> None:
    """L-BFGS keeps its history with the first parameter, in vectors over all of them."""
    if set(state) - {0}:
        raise ValueError("there is one history for all parameters")
    num_values = sum(
        parameter.numel() for group in optimizer.param_groups for parameter in group["params"]
    )
    for name, value in state.get(0, {}).items():
        items = value if isinstance(value, list) else [value]
        if name in ("func_evals", "n_iter"):
            check({name: value}, **{name: Count})
        elif name in ("d", "prev_flat_grad", "old_dirs", "old_stps"):
            _check_items(items, lambda item: _is_tensor(item, (num_values,)), name=name)
        elif name in ("t", "prev_loss", "H_diag", "ro", "al"):
            _check_items(items, _is_scalar, name=name)
        else:
            raise ValueError(f"there is no {name[:40]}")


def _check_items(items: list[object], is_right: Callable[[object], bool], *, name: str) -> None:
    for item in items:
        # torch fills the history with None.
        if item is not None and not is_right(item):
            raise ValueError(f"{name} is {_form(item)}")


def _is_tensor(value: object, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and tuple(value.shape) == shape


def _is_scalar(value: Any) -> bool:
    return _is_tensor(value, ()) or (type(value) in (int, float) and abs(value) <= LARGEST)


def _form(value: object) -> str:
    """The kind of `value`: its type, and for a tensor its shape."""
    if isinstance(value, Tensor):
        return f"{'x'.join(map(str, value.shape)) or 'scalar'} {value.dtype}".replace("torch.", "")
    return type(value).__name__
