"""`trainer.compile`: what it chooses, says, remembers and records, and that the way of running
changes no result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import run_trainer
from running import PLAIN, Fit, Trainer

from trainer.commands.fit import compile as compiling
from trainer.commands.fit import compile as variants


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where measurements are remembered: nowhere that another test or the user knows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/trainer/compile.json"


def measured(
    monkeypatch: pytest.MonkeyPatch, *, eager: float, compiled: float, compile_s: float = 1.0
) -> list[str]:
    """Let passes take so many seconds, and compiling too; the list tells what was tried."""
    told: list[str] = []

    def seconds_a_pass(once: Any, forwards: dict[str, Any]) -> dict[str, float]:
        told.append("timed " + "+".join(forwards))
        return {name: {"eager": eager, "compiled": compiled}[name] for name in forwards}

    def try_out(once: Any, forward: Any) -> float:
        told.append("compiled")
        return compile_s

    monkeypatch.setattr(compiling, "seconds_a_pass", seconds_a_pass)
    monkeypatch.setattr(compiling, "try_out", try_out)
    # What is chosen is under test here, not the compiler.
    monkeypatch.setattr(compiling, "compiled", lambda model, batch_size: model)
    return told


def test_off_neither_measures_nor_compiles(
    fit: Fit, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = measured(monkeypatch, eager=100.0, compiled=1.0)
    assert fit().record["compile"]["variant"] == "eager"
    assert told == [] and not cache.exists()


def test_a_short_run_is_not_compiled(
    fit: Fit, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = measured(monkeypatch, eager=0.001, compiled=0.0001)
    record = fit("trainer.compile=auto").record["compile"]
    assert (record["variant"], record["why"]) == (
        "eager",
        "the run is too short for compiling to pay",
    )
    assert told == ["timed eager"] and not cache.exists()


@pytest.mark.parametrize(
    ("compiled", "variant"), [(70.0, "compiled"), (98.0, "eager"), (140.0, "eager")]
)
def test_the_fastest_is_taken_and_remembered(
    fit: Fit,
    trainer: Trainer,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    compiled: float,
    variant: str,
) -> None:
    told = measured(monkeypatch, eager=100.0, compiled=compiled)
    record = fit("trainer.compile=auto").record["compile"]
    assert (record["variant"], record["why"]) == (variant, "measured: the fastest")
    assert (record["eager_ms"], record["compiled_ms"]) == (1e5, 1e3 * compiled)
    assert told == ["timed eager", "compiled", "timed eager+compiled"]
    again = fit("trainer.compile=auto", "seed=1").record["compile"]
    assert (again["variant"], again["why"]) == (variant, "measured before: the fastest")
    assert told[3:] == ["compiled"] * (variant == "compiled")
    other = fit("trainer.compile=auto", "data.batch_size=32").record["compile"]
    assert other["why"] == "measured: the fastest", "another batch is another question"


@pytest.mark.parametrize("content", ["garbage", "[]", '{"KEY": 5}', '{"KEY": {"eager_ms": 1.0}}'])
def test_a_damaged_memory_is_measured_anew(
    fit: Fit, cache: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    measured(monkeypatch, eager=100.0, compiled=50.0)
    fit("trainer.compile=auto")
    (key,) = json.loads(cache.read_text())
    cache.write_text(content.replace("KEY", key))
    assert fit("trainer.compile=auto").record["compile"]["why"] == "measured: the fastest"


def test_a_run_that_is_gone_on_with_keeps_its_way(
    fit: Fit, trainer: Trainer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = measured(monkeypatch, eager=100.0, compiled=50.0)
    run = fit("trainer.compile=auto", "scheduler=constant")
    cache.unlink()
    told.clear()
    assert trainer("fit", f"resume={run.folder}", "trainer.epochs=3").code == 0
    assert (
        run.record["compile"]["variant"] == "compiled"
        and run.record["compile"]["why"] == "as before"
    )
    assert told == ["compiled"]


def test_without_a_compiler(
    fit: Fit, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def try_out(once: Any, forward: Any) -> float:
        raise variants.CompileError("no C++ compiler was found")

    measured(monkeypatch, eager=100.0, compiled=50.0)
    monkeypatch.setattr(compiling, "try_out", try_out)
    record = fit("trainer.compile=auto").record["compile"]
    assert (record["variant"], record["why"]) == (
        "eager",
        "cannot be compiled here: no C++ compiler was found",
    )
    refused = trainer("fit", *PLAIN, "trainer.compile=on", f"run.dir={tmp_path / 'on'}")
    assert refused.code == 4 and "cannot be compiled here: no C++ compiler was found" in refused.err
    assert not (tmp_path / "on").exists()


def test_measuring_leaves_no_trace(fit: Fit, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, dropout and order are those of a run that did not measure."""
    words = ("model.dropout=0.5", "trainer.epochs=1")
    plain = fit(*words)
    monkeypatch.setattr(variants, "_ROUND_S", 0.001)
    assert fit(*words, "trainer.compile=auto").digest() == plain.digest()


def test_no_real_compiler_is_told_in_a_sentence(tmp_path: Path) -> None:
    words = ("fit", *PLAIN, "trainer.compile=on", "run.dir=run")
    ran = run_trainer(
        *words,
        cwd=tmp_path,
        env={"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
    )
    assert ran.code == 4 and len(ran.err.splitlines()) <= 4, ran.err
    assert "cannot be compiled here" in ran.err and "Traceback" not in ran.err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["linear", "mlp", "lenet5", "cnn", "cnn_dropout"])
def test_compiled_is_the_same_function(fit: Fit, model: str, datasets_root: Path) -> None:
    """For real: outputs, gradients and so weights after an epoch agree to rounding; dropout
    draws the same numbers.
    """
    words = (
        f"model={model}",
        "data=mnist",
        f"data.root={datasets_root}",
        "data.train_limit=350",
        "data.eval_limit=100",
    )
    eager, compiled = fit(*words, base=()), fit(*words, "trainer.compile=on", base=())
    assert compiled.record["compile"]["variant"] == "compiled"
    weights = compiled.weights()
    for name, tensor in eager.weights().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_run_is_gone_on_with_exactly(
    fit: Fit, trainer: Trainer, datasets_root: Path
) -> None:
    words = (
        "model=lenet5",
        "data=mnist",
        f"data.root={datasets_root}",
        "data.train_limit=350",
        "scheduler=constant",
    )
    whole = fit(*words, "trainer.compile=on", "trainer.epochs=2", base=())
    half = fit(*words, "trainer.compile=on", "trainer.epochs=1", base=())
    assert trainer("fit", f"resume={half.folder}", "trainer.epochs=2").code == 0
    assert half.digest() == whole.digest()


def test_auto_asked_for_on_a_resume_measures(
    fit: Fit, trainer: Trainer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = measured(monkeypatch, eager=100.0, compiled=50.0)
    run = fit("scheduler=constant")
    assert (
        trainer("fit", f"resume={run.folder}", "trainer.epochs=3", "trainer.compile=auto").code == 0
    )
    assert run.record["compile"]["variant"] == "compiled" and "timed eager+compiled" in told


def test_a_data_set_smaller_than_a_batch_is_compiled_as_it_is(
    fit: Fit, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, eager=100.0, compiled=50.0)
    sizes: list[int] = []

    def compiled(model: Any, *, batch_size: int) -> Any:
        sizes.append(batch_size)
        return model

    monkeypatch.setattr(compiling, "compiled", compiled)
    fit("trainer.compile=on", "data.batch_size=1000")
    assert sizes == [550]
