"""A command-line training tool driven by YAML configs. Importing this package costs nothing."""

__version__ = "0.1.0"
