"""Gets verified data into memory and serves it in batches."""
