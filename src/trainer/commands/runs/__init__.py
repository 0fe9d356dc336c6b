"""`trainer runs`: which runs there are, how they compare, and notes on them. No torch."""
