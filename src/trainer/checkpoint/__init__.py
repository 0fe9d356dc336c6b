"""Checkpoints: the only room that opens them. `header` needs no torch, `store` saves, `tree`
flattens.
"""
