"""TensorBoard: all that a run shows there. The way in is `tracker`; what each record is made of
stands beside it.
"""
