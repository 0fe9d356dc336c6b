"""`trainer fit`: train as a config says, from the first object to the last line on the terminal."""
