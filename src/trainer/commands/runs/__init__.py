"""The verbs of `trainer runs`: which runs are there, how they compare, and what is kept of them.
No torch.
"""
