"""Memory that is kept between steps."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from commandline import run_python

FAULTS_A_STEP = """
import resource, torch
from trainer.device import disable_malloc_trim

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    layers = [torch.ones(num) for num in (9_000_000, 500_000, 3_000_000)]

def faults_a_step():
    for _ in range(3):
        step()
    before = faults()
    for _ in range(10):
        step()
    return (faults() - before) // 10

print(faults_a_step())
disable_malloc_trim()
print(faults_a_step())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep memory")
def test_freed_memory_is_not_faulted_in_again(tmp_path: Path) -> None:
    """Tensors of 36, 2 and 12 MB: 12,000 pages a step, where they are returned and taken anew."""
    usual, kept = map(int, run_python("-c", FAULTS_A_STEP, cwd=tmp_path).out.split())
    assert kept < 100 < usual
