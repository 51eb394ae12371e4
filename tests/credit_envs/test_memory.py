"""Memory that is kept is not asked for again."""

import ctypes
import platform
import subprocess
import sys

import pytest

from credit_envs.memory import keep_freed_memory

FAULTS = """
import resource
import torch
from credit_envs.memory import keep_freed_memory

if {keep}:
    keep_freed_memory()
torch.ones(50_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(50_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(keep: bool) -> int:
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library alone")
def test_freed_memory_is_kept_for_the_next_tensor():
    # A tenth of the faults is one tensor of the ten at a place of its own, which happens.
    assert page_faults(keep=True) < page_faults(keep=False) / 4


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
