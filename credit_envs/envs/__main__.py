"""`python -m credit_envs.envs`: the docstrings of all environments as one page in Markdown."""

import inspect
import re
import sys
from itertools import groupby

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from credit_envs import environment_ids

_OPENING = """\
# Environments

The docstrings of all environments, written here by `python -m credit_envs.envs`. Each is also what
`help(gymnasium.make(id).unwrapped)` shows."""


def pages() -> str:
    """All pages in Markdown, in the order in which environments are registered."""
    specs = map(gymnasium.spec, environment_ids())
    grouped = groupby(specs, key=lambda spec: str(spec.entry_point))
    return "\n\n".join([_OPENING, *(_page(point, list(group)) for point, group in grouped)]) + "\n"


def _page(entry_point: str, specs: list[EnvSpec]) -> str:
    """The page of a class, under the ids that it is registered by."""
    docstring = inspect.getdoc(load_env_creator(entry_point)) or ""
    heading = "## " + ", ".join(f"`{spec.id}`" for spec in specs)
    chosen = [f"* `{spec.id}`: {said}" for spec in specs if (said := _arguments(spec))]
    nested = re.sub("^#", "##", docstring, flags=re.MULTILINE)
    return "\n\n".join(filter(None, [heading, "\n".join(chosen), nested]))


def _arguments(spec: EnvSpec) -> str:
    """Arguments that an id is registered with, but for the data set, which its name tells."""
    kwargs = {name: value for name, value in spec.kwargs.items() if name != "dataset"}
    return ", ".join(f"`{name}={value!r}`" for name, value in kwargs.items())


if __name__ == "__main__":
    sys.stdout.write(pages())
