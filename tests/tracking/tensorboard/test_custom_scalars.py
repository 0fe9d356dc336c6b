"""The charts of the Custom Scalars tab are those that a run can fill."""

from __future__ import annotations

from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from trainer.tracking.tensorboard.custom_scalars import layout

ALWAYS = ["Loss", "Accuracy", "Learning rate", "Gradient norm"]
ERRORS = ["Mean squared error", "Mean absolute error"]


def key_metrics(*, has_classes: bool) -> list[str]:
    found = Layout.FromString(layout(has_classes=has_classes))
    return [chart.title for chart in found.category[0].chart]


def test_a_run_of_classes_has_no_charts_of_the_errors_of_values() -> None:
    """Failed before: every classification had two charts that stayed empty."""
    assert key_metrics(has_classes=True) == ALWAYS
    assert key_metrics(has_classes=False) == [*ALWAYS[:2], *ERRORS, *ALWAYS[2:]]
