"""Free memory goes back to the system."""

import subprocess
import sys
from pathlib import Path

import pytest

from app import application, heap
from tests.app.engine.running import until
from tests.app.running_service import make_service

# Of two blocks each the first is freed; the others keep glibc from giving back what lies between.
SCRIPT = """
import os
from app import heap

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

blocks = [b"x" * 100_000 for _ in range(1000)]
del blocks[::2]
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(heap._trim is None, reason="glibc only")
def test_what_lies_between_blocks_in_use_is_given_back() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    # 50 MB were freed.
    assert int(found.stdout) > 40_000_000


REUSING = """
import re
from app import heap

{prepare}
block = b"x" * 10_000_000
maps = open("/proc/self/maps").read()
(start, end), = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*\\[heap\\]$", maps, re.MULTILINE)
print(int(start, 16) <= id(block) < int(end, 16))
"""


@pytest.mark.skipif(heap._trim is None, reason="glibc only")
@pytest.mark.parametrize(
    ("prepare", "is_in_heap"), [("heap.reuse_large_blocks()", True), ("", False)]
)
def test_large_blocks_are_on_the_heap(prepare: str, is_in_heap: bool) -> None:
    script = REUSING.format(prepare=prepare)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert found.stdout.decode().strip() == str(is_in_heap)


def test_a_service_gives_back_all_the_time(tiny_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    monkeypatch.setattr(application, "BEAT_S", 0.01)
    monkeypatch.setattr(heap, "give_back", lambda: given.append(True))

    async def wait() -> None:
        await until(lambda: len(given) > 2)

    with make_service(tiny_dir) as service:
        service.run(wait())
