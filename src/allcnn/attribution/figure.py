"""A figure as data: rows of small pictures, the text around them, and their numbers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float64]  # [h, w, 3], from 0 to 1


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture, and a few words below it."""

    picture: Picture | None  # None leaves the cell empty
    caption: str = ""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """Pictures side by side, with a label on their left."""

    label: str
    tiles: tuple[Tile, ...]
    heading: str = ""  # above the row, which begins a new block


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureContent:
    """The pictures of a figure, its text and its numbers."""

    name: str  # of its files, such as patches-conv6; letters, digits and - _ .
    title: str
    caption: str  # what is seen, how it was made and scaled
    columns: tuple[str, ...]  # headings, one for each tile of a row; equal neighbours are one group under one heading
    rows: tuple[FigureRow, ...]
    table: tuple[tuple[str, ...], ...] = ()  # a few numbers printed below the pictures; the first line is its heading
    numbers: tuple[dict[str, Any], ...]  # the lines of the figure's CSV, all with the same keys
    facts: dict[str, Any] = field(default_factory=dict)  # further numbers that the text names
    files: tuple[Path, ...] = ()  # that were written on the way
