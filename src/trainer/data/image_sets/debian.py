"""Takes named files out of a Debian package without installing it. Which package and files is
not decided here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from trainer.data.image_sets.download import DownloadFailed, Report, Verify, store
from trainer.errors import DataError

_CHUNK = 1 << 18
_MAX_SECONDS = 900.0
# apt's own patience is minutes for each address.
_APT_OPTIONS = (
    "-qq",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "Acquire::http::Timeout=30",
    "-o",
    "Acquire::https::Timeout=30",
)


def fetch_from_package(
    package: str, members: Mapping[str, tuple[Path, Verify]], *, report: Report, locked: bool
) -> None:
    """Fetches `package` with apt-get and stores each file in it that `members` names, by absolute
    path, at its target.

    A target is written only when its `verify` accepts the file; `locked` is as in `store`. A path
    that the package does not have is passed over. Raises DownloadFailed when the package cannot be
    had or a file in it is wrong, EnvironmentFault when a target cannot be written.
    """
    if not all(shutil.which(program) for program in ("apt-get", "apt-cache", "dpkg-deb")):
        raise DownloadFailed("apt-get: not on this machine")
    _find(package, report=report)
    with tempfile.TemporaryDirectory(prefix="trainer-", ignore_cleanup_errors=True) as folder:
        report.note(f"Fetching the Debian package {package} with apt-get; it is not installed.")
        _run("apt-get", *_APT_OPTIONS, "download", package, cwd=folder)
        found = list(Path(folder).glob("*.deb"))
        if len(found) != 1:
            raise DownloadFailed(f"apt-get: brought no package {package}")
        _unpack(found[0], members, locked=locked)


def _find(package: str, *, report: Report) -> None:
    """Returns when apt knows `package`, after refreshing its lists where they are empty and we may."""
    if _is_known(package):
        return
    if os.geteuid() != 0:
        raise DownloadFailed(f"apt-get: knows no package {package} (sudo apt-get update may help)")
    report.note("Refreshing apt's package lists.")
    # One list of many that cannot be refreshed makes this fail; ours may be among the others.
    with suppress(DownloadFailed):
        _run("apt-get", *_APT_OPTIONS, "update")
    if not _is_known(package):
        raise DownloadFailed(f"apt-get: knows no package {package}")


def _is_known(package: str) -> bool:
    try:
        return bool(_run("apt-cache", "show", "--no-all-versions", package).strip())
    except DownloadFailed:
        return False


def _run(*command: str, cwd: str | None = None) -> str:
    environ = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_MAX_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DownloadFailed(f"{command[0]}: stopped after {_MAX_SECONDS:g} s") from None
    except OSError as error:
        raise DownloadFailed(f"{command[0]}: {error.strerror or error}") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        # The last line of apt's is advice; its first E: is the reason.
        reasons = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")] or lines[
            -1:
        ]
        raise DownloadFailed(
            f"{command[0]}: {reasons[0][:150] if reasons else f'exit status {done.returncode}'}"
        )
    return done.stdout.decode(errors="replace")


def _unpack(package: Path, members: Mapping[str, tuple[Path, Verify]], *, locked: bool) -> None:
    # Read as a stream, member by member, into names of ours: nothing in the archive decides where
    # anything is written.
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    wanted = members.get("/" + member.name.removeprefix("./").lstrip("/"))
                    content = (
                        archive.extractfile(member)
                        if wanted is not None and member.isreg()
                        else None
                    )
                    if wanted is not None and content is not None:
                        store(wanted[0], _chunks(content), verify=wanted[1], locked=locked)
        except (tarfile.TarError, DataError) as error:
            why = error.what if isinstance(error, DataError) else str(error)
            raise DownloadFailed(f"{package.name}: {why.rstrip('.')}") from None
        finally:
            process.kill()


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(_CHUNK):
        yield chunk
