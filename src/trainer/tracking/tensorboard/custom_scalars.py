"""The charts of the Custom Scalars tab: all splits or all layers of a quantity in one."""

from __future__ import annotations

from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout, MultilineChartContent
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG, PLUGIN_NAME

from trainer.tracking.records import TagGroup

TAG = CONFIG_SUMMARY_TAG
METADATA = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME))

# Category, then title and tags (as regular expressions) of each chart. TensorBoard matches from the
# beginning of a tag, so that `By_samples/Loss/train` is in none of them.
_CHARTS = {
    "Key metrics": {
        "Loss": "Loss/(train|train_epoch|val|test)$",
        "Accuracy": "Accuracy/(train|train_epoch|val|test)$",
        "Mean squared error": "MSE/(val|test)$",
        "Mean absolute error": "MAE/(val|test)$",
        "Learning rate": "Learning/learning_rate$",
        "Gradient norm": "Gradients/norm$",
    },
    "Layers": {
        "Update-to-weight ratio": f"{TagGroup.UPDATE_RATIO}/",
        "Gradient norm": f"{TagGroup.GRADIENT_NORM}/",
        "Weight mean": f"{TagGroup.WEIGHT_MEAN}/",
        "Weight standard deviation": f"{TagGroup.WEIGHT_STD}/",
    },
    "Machine": {"Samples per second": "Throughput/", "Memory in MB": f"{TagGroup.MEMORY}/"},
}
# Charts that are always empty where the targets are classes.
_OF_VALUES = ("Mean squared error", "Mean absolute error")


def layout(*, has_classes: bool) -> bytes:
    """Serialise the layout; a chart without values stays empty."""
    layout = Layout()
    for category, charts in _CHARTS.items():
        added = layout.category.add(title=category)
        for title, tag in charts.items():
            if has_classes and title in _OF_VALUES:
                continue
            added.chart.add(title=title, multiline=MultilineChartContent(tag=[tag]))
    content: bytes = layout.SerializeToString()
    return content
