"""A run on the disk: its folder, record, lock and index. Torch is never imported."""
