"""Values of a config as JSON has them."""

import math
from enum import Enum
from pathlib import PurePath
from typing import Any


def json_scalar(value: Any) -> Any:
    """Return one value: an enum by its name, a path and a number without end as text, any other as it is.

    0.1 and 1e-1 are one number, so are -0.0 and 0.0; 1, 1.0 and true are three.
    """
    if type(value) is float:
        return value + 0.0 if math.isfinite(value) else str(value)  # turns -0.0 into 0.0; JSON has no infinity
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return json_scalar(float(value))
    return value
