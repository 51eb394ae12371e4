"""The code in the documentation runs, and learns."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
LEAST = {"your-own-network.md": (0.9, 0.85, 0.9, 0.85), "your-own-rule.md": (0.88, 0.89)}
"""Accuracy of the least that the blocks of a page print."""
BLOCKS = [
    pytest.param(page, block, least, id=f"{page}-{number}")
    for page, accuracies in LEAST.items()
    for number, (block, least) in enumerate(
        zip(
            re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL),
            accuracies,
            strict=True,
        )
    )
]


@pytest.mark.filterwarnings("ignore:Using MNIST")
@pytest.mark.parametrize(("page", "block", "least"), BLOCKS)
def test_code(page: str, block: str, least: float, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, str(DOCS / page), "exec"), {"__name__": "__main__"})
    printed = re.findall(r"test accuracy ([\d.]+)", capsys.readouterr().out)
    assert min(map(float, printed)) > least
