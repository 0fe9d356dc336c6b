"""`trainer check-run`: verify what a run left on the disk."""
