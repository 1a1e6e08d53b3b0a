"""CSV text of a data frame, for programs and for spreadsheets."""

import csv
import io
import json
import math
from typing import Any

import pandas as pd

from strive.plain_text import visible


def csv_text(frame: pd.DataFrame) -> str:
    """Return the frame in the format of RFC 4180, without its index."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow([_field(name) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow([_field(value) for value in row])
    return file.getvalue()


def _field(value: Any) -> str:
    """Return one field: numbers in full, nothing for a missing one, text made safe from being run as a formula."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value)
    if isinstance(value, str):
        return _text_field(visible(value))
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, int | float):
        return repr(value)
    return _text_field(str(value))


def _text_field(text: str) -> str:
    """Return text with an apostrophe in front if a spreadsheet would calculate it; numbers are not changed."""
    if len(text) > 1 and text[0] in "=+-@\uff1d\uff0b\uff0d\uff20":
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text
