"""Training and evaluation as plain functions and small classes, given all they use. No YAML, no
Hydra, no files.
"""
