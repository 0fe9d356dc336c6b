"""What a run is: `trainer runs show`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from trainer.commands.runs.read import as_text, config_of, curves_of, sparkline
from trainer.commands.runs.row import RunRow
from trainer.config.schema import SCHEMAS
from trainer.errors import printable
from trainer.files import as_list, as_table
from trainer.run.folder import step_folders
from trainer.run.index import Entry
from trainer.run.record import COMMIT_LENGTH, RunStatus
from trainer.tracking.console import Terminal
from trainer.tracking.table import ago, duration_text, write_json, write_table
from trainer.tracking.text import number_text

# The groups of a config that `show` prints: what is logged changes no result.
_GROUPS = [group for group in SCHEMAS if group != "logger"]
# The key of a group that `show` prints beside its name.
_ADDED_KEYS = {"data": "batch_size", "optimizer": "lr"}


def show(entry: Entry, *, terminal: Terminal, as_json: bool = False) -> None:
    """Print a run: status, times, versions, config, checkpoints, notes, metrics and curves."""
    row = RunRow(entry=entry)
    if as_json:
        write_json(row.whole(), terminal=terminal)
        return
    known = [
        *_facts_of_record(row),
        *_facts_of_config(config_of(entry)),
        ("checkpoints", _checkpoints_text(entry)),
        ("tags", ", ".join(row.notes.tags)),
    ]
    facts = [(name, printable(value)) for name, value in known if value not in (None, "")]
    note_title = "note"
    for line in row.notes.note.splitlines():
        facts.append((note_title, printable(line)))
        note_title = ""
    prose = ("status", "versions", "checkpoints", "tags", "note", "")
    terminal.facts(f"Run {entry.id}", facts, prose=prose)
    curves = curves_of(entry.path)
    # A run that has not ended has no final metrics: these are the last values of its curves.
    values = {name: curve[-1] for name, curve in curves.items() if name not in row.metrics}
    metrics = [
        [name, number_text(value), sparkline(curves.get(name, []))]
        for name, value in {**row.metrics, **values}.items()
    ]
    if metrics:
        terminal.line("")
        write_table(("METRIC", "VALUE", "OVER THE STEPS"), metrics, terminal=terminal)


def _facts_of_record(row: RunRow) -> list[tuple[str, object]]:
    """The facts from run.json, with None or an empty text where it has none."""
    record = row.entry.record
    commit = record.get("git_commit")
    resumed = as_list(record.get("resumed"))
    host = record.get("host")
    versions = as_table(record.get("versions"))
    return [
        ("status", _status_text(row)),
        ("path", row.entry.path),
        ("command", record.get("command")),
        ("started", _started_text(row.entry.started)),
        ("took", _duration_of(row.entry)),
        ("resumed", f"{len(resumed)} times" if resumed else None),
        ("seed", record.get("seed")),
        ("commit", str(commit)[:COMMIT_LENGTH] if commit else None),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("host", f"{host}, process {record.get('process')}" if host else None),
    ]


def _status_text(row: RunRow) -> str:
    record = row.entry.record
    text = str(row.status)
    # A process that was killed could not write how it ended: run.json still says running.
    if row.status is RunStatus.DAMAGED:
        text += ": its run.json cannot be read"
    elif row.status is RunStatus.INTERRUPTED and record["status"] == RunStatus.RUNNING:
        text += ": it says running, but no process trains in it"
    return f"{text}: {record['error']}" if record.get("error") else text


def _started_text(seconds: float) -> str:
    if not seconds:
        return ""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S} ({ago(seconds)})"


def _duration_of(entry: Entry) -> str:
    try:
        ended = datetime.fromisoformat(str(entry.record.get("ended"))).timestamp()
    except (ValueError, OverflowError):
        return ""
    # Both are times of the clock, which may have been set back in between.
    return duration_text(max(0.0, ended - entry.started))


def _checkpoints_text(entry: Entry) -> str:
    # The folders count: run.json names the checkpoints of a run only once it ends or stops.
    steps = [step.name for step in step_folders(entry.path)]
    names = as_table(entry.record.get("checkpoints"))
    if not names or not steps:
        return ", ".join(steps) or "none"
    more = f" ({len(steps)} kept)" if len(steps) > 1 else ""
    return ", ".join(f"{which} {name}" for which, name in names.items()) + more


def _facts_of_config(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """A line each for what was trained on what, and how; the whole is in config.yaml."""
    facts: list[tuple[str, str]] = []
    for group in _GROUPS:
        name = config.get(f"{group}.name")
        if name is not None:
            key = _ADDED_KEYS.get(group, "")
            value = config.get(f"{group}.{key}")
            more = "" if value is None else f" ({key} {as_text(value)})"
            facts.append((group, f"{as_text(name)}{more}"))
    if config.get("trainer.max_steps") is not None:
        facts.append(("steps", as_text(config["trainer.max_steps"])))
    elif "trainer.epochs" in config:
        facts.append(("epochs", as_text(config["trainer.epochs"])))
    return facts
