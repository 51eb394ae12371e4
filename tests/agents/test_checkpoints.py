"""Checkpoints: whatever is wrong with one, one error says what to do."""

import zipfile
from pathlib import Path

import pytest

from agents.checkpoints import continuable, require_version, zip_path
from credit_envs import __version__


@pytest.mark.parametrize(
    "error",
    [zipfile.BadZipFile(), EOFError(), KeyError("policy"), AttributeError("data"), RuntimeError()],
)
def test_a_checkpoint_that_cannot_be_read_is_one_error(error):
    message = r"run\.zip cannot be continued here.*or start again"
    with pytest.raises(ValueError, match=message), continuable(Path("run.zip")):
        raise error


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), continuable(Path("run.zip")):
        raise FileNotFoundError


def test_only_this_version_goes_on():
    require_version(__version__)
    with pytest.raises(ValueError, match=r"saved by version 0\.0\.1"):
        require_version("0.0.1")


def test_an_ending_is_added_where_there_is_none():
    assert zip_path("runs/model") == Path("runs/model.zip")
    assert zip_path("runs/model.ckpt") == Path("runs/model.ckpt")
