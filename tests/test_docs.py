"""The code in the documentation runs, and learns."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "your-own-network.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
LEAST = (0.9, 0.85, 0.9, 0.85)


@pytest.mark.filterwarnings("ignore:Using MNIST")
@pytest.mark.parametrize(("block", "least"), list(zip(BLOCKS, LEAST, strict=True)))
def test_your_own_network(block: str, least: float, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, str(PAGE), "exec"), {"__name__": "__main__"})
    (accuracy,) = re.findall(r"test accuracy ([\d.]+)", capsys.readouterr().out)
    assert float(accuracy) > least
