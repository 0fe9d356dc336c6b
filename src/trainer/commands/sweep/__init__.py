"""`trainer fit -m`: many runs from one command, side by side, with one report."""
