"""The files of the known image sets: found, downloaded, verified, unpacked and cached."""
