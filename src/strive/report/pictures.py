"""Pictures from cells' folders, such as those of visualize.py, embedded as text for a page."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = "pictures"  # within a cell's folder
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 4_000_000  # for all pictures of a page; base64 makes them a third longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture embedded in the page."""

    cell: str
    name: str  # of the file, without its suffix
    uri: str  # data:image/png;base64,...; "" if there was no room left
    title: str = ""  # from the file NAME.json in the same folder
    caption: str = ""


def pictures(cells: Sequence[tuple[str, str]], room: int = MOST_BYTES) -> list[Picture]:
    """Return the PNG files in the cells' folders, by cell and name.

    cells: (id, folder). room: bytes; a picture that exceeds it has no content.
    """
    found = []
    for cell, folder in cells:
        for path in sorted((Path(folder) / _FOLDER).glob("*.png")) if folder else ():
            content = path.read_bytes()
            if content.startswith(_SIGNATURE):
                fits = len(content) <= room
                room -= len(content) if fits else 0
                uri = f"data:image/png;base64,{base64.b64encode(content).decode()}" if fits else ""
                title, caption = _about(path.with_suffix(".json"))
                found.append(Picture(cell=cell, name=path.stem, uri=uri, title=title, caption=caption))
    return found


def _about(path: Path) -> tuple[str, str]:
    """Return a picture's title and description, ("", "") if there are none or they cannot be read."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "", ""
    fields = said if isinstance(said, dict) else {}
    title, caption = (fields.get(name) for name in ("title", "caption"))
    return (title, caption) if isinstance(title, str) and isinstance(caption, str) else ("", "")
