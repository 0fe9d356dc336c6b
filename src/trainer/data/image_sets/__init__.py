"""Where the files of the known image sets come from: found, downloaded, verified, unpacked,
cached.
"""
