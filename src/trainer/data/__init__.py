"""Gets verified data into memory and serves it in batches. What is done with a batch is not here."""
