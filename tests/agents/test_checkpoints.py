"""Checkpoints: whatever is wrong with one, one error says what to do."""

import zipfile
from pathlib import Path

import pytest

from agents import DeepAGREL
from agents.checkpoints import continuable, require_version, zip_path
from credit_envs import __version__

DIGITS = "ClassificationBandit-Digits-v0"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "run.zip"
    path.touch()
    return path


@pytest.mark.parametrize(
    "error",
    [zipfile.BadZipFile(), EOFError(), KeyError("policy"), AttributeError("data"), RuntimeError()],
)
def test_a_checkpoint_that_cannot_be_read_is_one_error(error, run):
    message = r"run\.zip cannot be continued here.*or start again"
    with pytest.raises(ValueError, match=message), continuable(run):
        raise error


def test_an_entry_whose_name_is_damaged_is_one_error(tmp_path):
    path = tmp_path / "model.zip"
    DeepAGREL("MlpPolicy", DIGITS, policy_kwargs={"hidden_sizes": (2,)}).save(path)
    path.write_bytes(path.read_bytes().replace(b"data", b"dada"))
    with pytest.raises(ValueError, match=r"model\.zip cannot be continued here"):
        DeepAGREL.load(path)


def test_other_errors_pass(run):
    with pytest.raises(PermissionError), continuable(run):
        raise PermissionError


def test_a_file_that_is_not_there_is_named_as_it_was(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*/model\.zip; name"):
        DeepAGREL.load(tmp_path / "model")


def test_only_this_version_goes_on():
    require_version(__version__)
    with pytest.raises(ValueError, match=r"saved by version 0\.0\.1"):
        require_version("0.0.1")


def test_an_ending_is_added_where_there_is_none():
    assert zip_path("runs/model") == Path("runs/model.zip")
    assert zip_path("runs/model.ckpt") == Path("runs/model.ckpt")
