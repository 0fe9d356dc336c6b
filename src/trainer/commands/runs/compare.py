"""What a run is, and how runs differ: `trainer runs show`, `compare` and `diff`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from trainer.commands.runs.list import Row
from trainer.commands.runs.read import (
    as_number,
    as_text,
    config_of,
    curves_of,
    is_finite,
    is_maximized,
    sparkline,
)
from trainer.config import affects
from trainer.errors import printable
from trainer.run.folder import step_folders
from trainer.run.index import Entry
from trainer.run.record import RunStatus
from trainer.tracking.console import Terminal
from trainer.tracking.table import ago, duration_text, write_table

_LENGTH_OF_COMMIT = 12


def show(entry: Entry, *, terminal: Terminal, as_json: bool = False) -> None:
    """Say what a run is: its state, times, versions, config in a few lines, checkpoints, metrics
    and curves.
    """
    row = Row(entry=entry)
    if as_json:
        _write_json(_whole(row), terminal)
        return
    facts = [*_facts_of_record(row), *_facts_of_config(config_of(entry))]
    steps = [step.name for step in step_folders(entry.path)]
    names = entry.record.get("checkpoints")
    said = [f"{which} {name}" for which, name in names.items()] if isinstance(names, dict) else []
    more = f" ({len(steps)} kept)" if len(steps) > 1 else ""
    facts.append(
        ("checkpoints", ", ".join(said) + more if said and steps else ", ".join(steps) or "none")
    )
    facts += [("tags", ", ".join(row.notes.tags))] if row.notes.tags else []
    facts += [("note", line) for line in row.notes.note.splitlines()[:1]]
    facts += [("", line) for line in row.notes.note.splitlines()[1:]]
    terminal.facts(f"Run {entry.id}", [(name, printable(value)) for name, value in facts])
    curves = curves_of(entry.path)
    metrics = [
        [name, as_number(value), sparkline(curves.get(name, []))]
        for name, value in row.metrics.items()
    ]
    alone = {
        name: line for name, line in curves.items() if name not in row.metrics
    }  # of a run that has not ended
    metrics += [[name, as_number(line[-1]), sparkline(line)] for name, line in alone.items()]
    if metrics:
        terminal.line("")
        write_table(("METRIC", "VALUE", "OVER THE STEPS"), metrics, terminal=terminal)


def compare(entries: Sequence[Entry], *, terminal: Terminal, as_json: bool = False) -> None:
    """Set runs side by side: the keys of their configs that differ, their final metrics, their curves."""
    rows = [Row(entry=entry) for entry in entries]
    if as_json:
        _write_json([_whole(row) for row in rows], terminal)
        return
    configs = [config_of(entry) for entry in entries]
    table = [
        ["name", *(entry.name for entry in entries)],
        ["status", *(row.status for row in rows)],
    ]
    table += [[key, *(_value(config, key) for config in configs)] for key in differing(configs)]
    for metric in dict.fromkeys(name for row in rows for name in row.metrics):
        table.append([metric, *_marked([row.metrics.get(metric) for row in rows], metric)])
    curves = [curves_of(entry.path) for entry in entries]
    for metric in sorted({name for found in curves for name in found}):
        table.append(
            [
                f"{metric} over steps",
                *(sparkline(found.get(metric, []), width=16) for found in curves),
            ]
        )
    write_table(("", *(entry.id for entry in entries)), table, terminal=terminal)
    unread = [entry.id for entry, config in zip(entries, configs, strict=True) if not config]
    if unread:
        terminal.warn(f"The config of {', '.join(unread)} cannot be read.")


def diff(one: Entry, other: Entry, *, terminal: Terminal) -> bool:
    """Write what must be changed in the config of `one` to have that of `other`; whether they differ."""
    configs = [config_of(one), config_of(other)]
    keys = differing(configs)
    if keys:
        terminal.line(f"--- {one.id} {printable(one.name)}", style="bold")
        terminal.line(f"+++ {other.id} {printable(other.name)}", style="bold")
    for key in keys:
        for sign, style, config in (("-", "red", configs[0]), ("+", "green", configs[1])):
            if key in config:
                terminal.line(printable(f"{sign} {key}: {as_text(config[key])}"), style=style)
    return bool(keys)


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys whose values are not the same in all configs, in the order of the first that has them."""
    keys = dict.fromkeys(key for config in configs for key in config if affects(key) != "command")
    return [key for key in _in_groups(keys) if len({_value(config, key) for config in configs}) > 1]


def _in_groups(keys: Mapping[str, None]) -> list[str]:
    """The keys, those of a group together: what only a later config has stands beside its like."""
    groups = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    return sorted(keys, key=lambda key: groups.index(key.partition(".")[0]))


def _value(config: Mapping[str, Any], key: str) -> str:
    return as_text(config[key]) if key in config else "-"


def _marked(values: Sequence[float | None], metric: str) -> list[str]:
    """The values as text, the best with an asterisk where they differ."""
    finite = [value for value in values if value is not None and is_finite(value)]
    best = (max if is_maximized(metric) else min)(finite) if len(set(finite)) > 1 else None
    return [
        as_number(value) + (" *" if value is not None and value == best else "") for value in values
    ]


def _facts_of_record(row: Row) -> list[tuple[str, str]]:
    entry, record = row.entry, row.entry.record
    what = str(row.status)
    if row.status is RunStatus.DAMAGED:
        what = "damaged: its run.json cannot be read"
    elif row.status is RunStatus.INTERRUPTED and record["status"] == RunStatus.RUNNING:
        what = "interrupted: it says running, but no process holds it"
    facts = [
        ("status", what + (f": {record['error']}" if record.get("error") else "")),
        ("path", str(entry.path)),
    ]
    facts += [("command", str(record["command"]))] if record.get("command") else []
    if entry.started:
        facts.append(
            (
                "started",
                f"{datetime.fromtimestamp(entry.started):%Y-%m-%d %H:%M:%S} ({ago(entry.started)})",
            )
        )
    try:
        ended = datetime.fromisoformat(str(record.get("ended"))).timestamp()
        facts.append(("took", duration_text(max(0.0, ended - entry.started))))
    except (ValueError, OverflowError):
        pass
    resumed, versions = record.get("resumed"), record.get("versions")
    facts += [("resumed", f"{len(resumed)} times")] if isinstance(resumed, list) and resumed else []
    facts += [("seed", str(record["seed"]))] if "seed" in record else []
    facts += (
        [("commit", str(record["git_commit"])[:_LENGTH_OF_COMMIT])]
        if record.get("git_commit")
        else []
    )
    if isinstance(versions, dict):
        facts.append(
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()))
        )
    facts += (
        [("host", f"{record['host']}, process {record.get('process')}")]
        if record.get("host")
        else []
    )
    return facts


def _facts_of_config(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line each for the groups that say what was trained how; the whole is in config.yaml."""
    facts = []
    for group in ("data", "model", "loss", "optimizer", "scheduler"):
        name = config.get(f"{group}.name")
        inner = [("lr", config.get("optimizer.lr"))] if group == "optimizer" else []
        inner += [("batch_size", config.get("data.batch_size"))] if group == "data" else []
        told = ", ".join(f"{key} {as_text(value)}" for key, value in inner if value is not None)
        facts += (
            [(group, f"{as_text(name)} ({told})" if told else as_text(name))]
            if name is not None
            else []
        )
    if config.get("trainer.max_steps") is not None:
        facts.append(("steps", as_text(config["trainer.max_steps"])))
    elif "trainer.epochs" in config:
        facts.append(("epochs", as_text(config["trainer.epochs"])))
    return facts


def _whole(row: Row) -> dict[str, Any]:
    return {**row.plain(), "record": row.entry.record, "config": config_of(row.entry)}


def _write_json(content: Any, terminal: Terminal) -> None:
    terminal.out.file.write(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")
