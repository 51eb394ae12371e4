"""The code in the documentation runs, and learns; pages made from docstrings are up to date."""

import re
from pathlib import Path

import pytest

from credit_envs.envs.__main__ import pages

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


def test_environments() -> None:
    made_by = "python -m credit_envs.envs > docs/environments.md"
    assert pages() == (DOCS / "environments.md").read_text(), f"make it anew: {made_by}"
