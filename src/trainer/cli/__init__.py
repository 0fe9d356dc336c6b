"""The command line: words in, an exit code out. Nothing here imports torch or writes a file."""
