"""TensorBoard: all kinds of records of a run. `tracker` decides which are written when."""
