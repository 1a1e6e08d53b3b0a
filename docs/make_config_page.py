"""Write docs/config.md from the meanings in src/allcnn/config.py: `python docs/make_config_page.py`."""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Any

from allcnn.config import Config
from strive.config.keys import Meaning, knobs

PAGE = Path(__file__).with_name("config.md")
HEAD = """# Every key

Written by `python docs/make_config_page.py` from `src/allcnn/config.py`; do not edit.

A key is given on the command line as `KEY=VALUE`, a group as `GROUP=OPTION`. **Science** keys decide a cell's
numbers and are part of its id; **logistics** keys do not and are not. A key that a cell ignores must stay at
its default (`model.pool_norm=2` is refused for a net without pooling): two ids for one and the same training
would make an ablation compare a cell with itself.
"""


def page() -> str:
    """Return the page's text."""
    parts, section = [HEAD], ""
    for key, meaning, value in knobs(Config()):
        group = key.rpartition(".")[0] or "top level"
        if group != section:
            section = group
            parts.append(
                f"\n## {group}\n\n{_group_text(group)}| key | default | legal | meaning |\n|---|---|---|---|\n"
            )
        kind = "" if meaning.science else " *(logistics)*"
        parts.append(f"| `{key}` | `{_shown(value)}` | {_legal(meaning, value)} | {meaning.text}{kind} |\n")
    return "".join(parts)


def _group_text(group: str) -> str:
    fields = {item.name: item for item in dataclasses.fields(Config)}
    if group not in fields:
        return ""
    text = str(fields[group].default_factory.__doc__).strip()  # type: ignore[union-attr]
    return f"{text}\n\n"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value.value if isinstance(value, StrEnum) else value) or '""'


def _legal(meaning: Meaning, value: Any) -> str:
    if isinstance(value, StrEnum):
        return ", ".join(choice.value for choice in type(value))
    kind = {bool: "true, false", int: "whole number", float: "number", str: "text"}.get(type(value), "")
    return ", ".join(part for part in (kind, meaning.legal, f"in {meaning.unit}" if meaning.unit else "") if part)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
