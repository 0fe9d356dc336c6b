"""The contenders, one small module each: it runs as a process of its own and prints its result
as one JSON line.
"""
