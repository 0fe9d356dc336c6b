"""`trainer reproduce`: train a run again and compare every bit."""
