"""Words of a command line that are to be copied: the values quoted for Hydra. No torch."""

from __future__ import annotations

import os


def override(key: str, value: str) -> str:
    """`key=value`, the value quoted where Hydra's grammar needs it."""
    # Outside of quotes its names and numbers are ASCII.
    if all((char.isascii() and char.isalnum()) or char in f"_-./:{os.sep}" for char in value):
        return f"{key}={value}"
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"
