"""The contenders, one small module each: it runs in a separate process and prints its result
as one JSON line.
"""
