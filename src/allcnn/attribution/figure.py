"""A figure as data: rows of small pictures with what is written beside them, and the numbers behind them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.float64]  # [h, w, 3], from 0 to 1


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture, and a few words below it."""

    picture: Picture | None  # None leaves the place empty
    caption: str = ""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """Pictures side by side; the label stands on their left, in lines."""

    label: str
    tiles: tuple[Tile, ...]
    heading: str = ""  # stands above the row, which begins a new block


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureContent:
    """What is drawn, and what is written beside the drawing."""

    name: str  # of its files, such as patches-conv6; letters, digits and - _ .
    title: str
    caption: str  # what is seen, how it was made and scaled: a reader has nothing else
    columns: tuple[str, ...]  # headings, one for each tile of a row; equal neighbours are one group under one heading
    rows: tuple[FigureRow, ...]
    table: tuple[tuple[str, ...], ...] = ()  # a few numbers to read beside the pictures; the first line is its heading
    numbers: tuple[dict[str, Any], ...]  # one line of the table behind the figure each, with the same keys
    facts: dict[str, Any] = field(default_factory=dict)  # further numbers that the text names
    files: tuple[Path, ...] = ()  # that were written on the way
