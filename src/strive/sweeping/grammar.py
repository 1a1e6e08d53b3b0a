"""Values as Hydra's override grammar writes them: "key=value"."""

import re
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

_WORD = r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][\w-]*"
# A key of a mapping cannot be quoted.
NAME = re.compile(_WORD, re.IGNORECASE | re.ASCII)
# Text that needs no quotes: a name, a path such as extra/large_all_cnn, a fraction such as 200/350.
_PLAIN_TEXT = re.compile(rf"{_WORD}(?:/[A-Za-z_][\w-]*)*|\d+/\d+", re.IGNORECASE | re.ASCII)


def override(key: str, value: Any) -> str:
    """Return "key=value" for a value as YAML or JSON has it."""
    return f"{typed_key(key)}={_text(value)}"


def typed_key(key: str) -> str:
    """Return the key as Hydra takes it on a command line."""
    # Hydra knows no arguments of a user's builder; ++ is right whether or not the model's file has it.
    return f"++{key}" if key == "model.kwargs" or key.startswith("model.kwargs.") else key


def bare_key(text: str) -> str:
    """Return the key of an override, or of a key, without Hydra's + or ++."""
    return text.partition("=")[0].lstrip("+")


def _text(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(map(_text, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{_text(each)}" for key, each in value.items()) + "}"
        case str():
            return value if _PLAIN_TEXT.fullmatch(value) else QuotedString(value, Quote.single).with_quotes()
    return repr(value)  # numbers; inf and nan are words of the grammar
