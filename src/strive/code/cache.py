"""Disk cache for forms of source files, because parsing a large package takes seconds in each process."""

import dataclasses
import hashlib
import json
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from platformdirs import user_cache_dir

from strive.cells.records import write_whole
from strive.code import form
from strive.code.form import Form, Import, Use, form_of


def known_form(content: bytes) -> Form:
    """Return `form_of` a file's content. A missing or damaged cache costs only time."""
    path = _folder() / f"{hashlib.sha256(content).hexdigest()}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return _read(path)
    form = form_of(content)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(dataclasses.astuple(form)).encode(), durable=False)
    return form


def _read(path: Path) -> Form:
    text, uses, imports, names = json.loads(path.read_bytes())
    return Form(
        text,
        tuple(Use(Import(*source), tuple(attributes)) for source, attributes in uses),
        tuple(Import(*source) for source in imports),
        {name: Import(*source) for name, source in names.items()},
    )


@cache
def _folder() -> Path:
    """Return the cache folder, which is separate for each Python because versions differ in what they can parse."""
    version = hashlib.sha256(Path(form.__file__).read_bytes() + sys.version.encode()).hexdigest()[:16]
    try:
        folder = Path(os.environ.get("STRIVE_CACHE") or user_cache_dir("strive")).expanduser().absolute()
    except RuntimeError:  # a user without a home directory: do not cache
        folder = Path(os.devnull)
    return folder / "code" / version
