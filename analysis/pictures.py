"""Pictures that lie in cells' folders, such as those of the visualisation part, as text for a page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = "pictures"  # in a cell's folder
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_BYTES = 2_000_000  # of all pictures of a page together, which are a third longer as text


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One picture."""

    cell: str
    name: str  # of the file, without its end
    uri: str  # data:image/png;base64,...; "" where there was no room left


def pictures(cells: Sequence[tuple[str, str]], room: int = MOST_BYTES) -> list[Picture]:
    """Return the PNG files below the cells' folders, by cell and name.

    cells: (id, folder). room: bytes; a picture that does not fit has no content.
    """
    found = []
    for cell, folder in cells:
        for path in sorted((Path(folder) / _FOLDER).glob("*.png")) if folder else ():
            content = path.read_bytes()
            if content.startswith(_SIGNATURE):
                fits = len(content) <= room
                room -= len(content) if fits else 0
                uri = f"data:image/png;base64,{base64.b64encode(content).decode()}" if fits else ""
                found.append(Picture(cell=cell, name=path.stem, uri=uri))
    return found
