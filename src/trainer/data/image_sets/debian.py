"""Takes named files out of a Debian package without installing it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, cast

from trainer.data.image_sets.download import DownloadFailed, Report, Verify, store
from trainer.errors import DataError, reason_of

_CHUNK = 1 << 18
_MAX_SECONDS = 900.0
# apt's own patience is minutes for each address.
_TIMEOUTS = ("-oAcquire::http::Timeout=30", "-oAcquire::https::Timeout=30")
_APT_GET = ("apt-get", "-qq", "-oAcquire::Retries=1", *_TIMEOUTS)


def fetch_from_package(
    package: str, members: Mapping[str, tuple[Path, Verify]], *, report: Report, locked: bool
) -> None:
    """Fetch `package` with apt-get, and store its files that `members` names at their targets.

    `members` is by absolute path in the package, which need not have them all. A target is written
    only when its `verify` accepts the file; `locked` is as in `store`. Raises DownloadFailed when
    the package cannot be had or a file in it is wrong, EnvironmentFault when a target cannot be
    written.
    """
    if not all(shutil.which(program) for program in ("apt-get", "apt-cache", "dpkg-deb")):
        raise DownloadFailed("apt-get: not on this machine")
    _find(package, report=report)
    with tempfile.TemporaryDirectory(prefix="trainer-", ignore_cleanup_errors=True) as folder:
        report.note(f"Fetching the Debian package {package} with apt-get; it is not installed.")
        _run(*_APT_GET, "download", package, cwd=folder)
        found = list(Path(folder).glob("*.deb"))
        if len(found) != 1:
            raise DownloadFailed(f"apt-get: brought no package {package}")
        _unpack(found[0], members, locked=locked)


def _find(package: str, *, report: Report) -> None:
    """Raises DownloadFailed unless apt knows `package`; root may refresh its lists."""
    if _is_known(package):
        return
    if os.geteuid() != 0:
        raise DownloadFailed(f"apt-get: knows no package {package} (sudo apt-get update may help)")
    report.note("Refreshing apt's package lists.")
    # It fails if one list of many cannot be refreshed; ours may be among the others.
    with suppress(DownloadFailed):
        _run(*_APT_GET, "update")
    if not _is_known(package):
        raise DownloadFailed(f"apt-get: knows no package {package}")


def _is_known(package: str) -> bool:
    try:
        return bool(_run("apt-cache", "show", "--no-all-versions", package).strip())
    except DownloadFailed:
        return False


def _run(*command: str, cwd: str | None = None) -> str:
    """What the command prints; raises DownloadFailed with its own reason when it fails."""
    # In English, because the reason is looked for in its output; and it must not ask anything.
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
        raise DownloadFailed(f"{command[0]}: {reason_of(error)}") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        # The last line of apt's is advice; its first E: is the reason.
        reasons = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
        reasons += lines[-1:] or [f"exit status {done.returncode}"]
        raise DownloadFailed(f"{command[0]}: {reasons[0][:150]}")
    return done.stdout.decode(errors="replace")


def _unpack(package: Path, members: Mapping[str, tuple[Path, Verify]], *, locked: bool) -> None:
    # As a stream, member by member, under names of ours: nothing in the archive decides where
    # anything is written.
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    path = "/" + member.name.removeprefix("./").lstrip("/")
                    if path not in members or not member.isreg():
                        continue
                    target, verify = members[path]
                    content = cast(IO[bytes], archive.extractfile(member))
                    chunks = iter(partial(content.read, _CHUNK), b"")
                    store(target, chunks, verify=verify, locked=locked)
        except (tarfile.TarError, DataError) as error:
            why = error.what if isinstance(error, DataError) else str(error)
            raise DownloadFailed(f"{package.name}: {why.rstrip('.')}") from None
        finally:
            # `with` waits for its end, which never comes if nobody reads the rest.
            process.kill()
