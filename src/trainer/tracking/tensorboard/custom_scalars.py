"""The charts of the Custom Scalars tab: train and val of a quantity in one, and all layers of a
quantity in one.
"""

from __future__ import annotations

from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MultilineChartContent,
)
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG, PLUGIN_NAME

from trainer.tracking.records import GRADIENT_NORM, MEMORY, UPDATE_RATIO, WEIGHT_MEAN, WEIGHT_STD

TAG = CONFIG_SUMMARY_TAG
METADATA = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME))

# Category, then title and tags (as regular expressions) of each chart.
_CHARTS = {
    "Key metrics": {
        "Loss": "Loss/(train|val|test)$",
        "Accuracy": "Accuracy/(train|val|test)$",
        "Learning rate": "Learning/learning_rate$",
        "Gradient norm": "Gradients/norm$",
    },
    "Layers": {
        "Update-to-weight ratio": f"{UPDATE_RATIO}/",
        "Gradient norm": f"{GRADIENT_NORM}/",
        "Weight mean": f"{WEIGHT_MEAN}/",
        "Weight standard deviation": f"{WEIGHT_STD}/",
    },
    "Machine": {"Samples per second": "Throughput/", "Memory in MB": f"{MEMORY}/"},
}


def layout() -> bytes:
    """The layout, serialised; a chart without values stays empty."""
    categories = [
        Category(
            title=name,
            chart=[
                Chart(title=title, multiline=MultilineChartContent(tag=[tag]))
                for title, tag in charts.items()
            ],
        )
        for name, charts in _CHARTS.items()
    ]
    content: bytes = Layout(category=categories).SerializeToString()
    return content
