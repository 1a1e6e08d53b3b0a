"""The W&B server, asked with the genuine client and with every wait bounded.

Imports wandb only when a server is asked: neither training nor tables from disk need it.
"""

import math
import netrc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from strive.errors import NoKeyError, ServerError, SilentError

if TYPE_CHECKING:
    from wandb.apis.public import Api

_SECONDS = 8  # for one answer of the server, before it counts as silent; WANDB_HTTP_TIMEOUT says otherwise
_REFUSED = (401, 403)  # of HTTP
_MOST_TEXT = 300  # characters of what the client says
# Of the client, which has no other bound for files.
_LIMITS: dict[str, Any] = {
    "x_graphql_retry_max": 3,
    "x_graphql_retry_wait_min_seconds": 1,
    "x_graphql_retry_wait_max_seconds": 3,
    "x_file_transfer_timeout_seconds": _SECONDS,
    "x_file_transfer_retry_max": 3,
    "x_file_transfer_retry_wait_min_seconds": 1,
    "x_file_transfer_retry_wait_max_seconds": 3,
    # Listing installed packages takes 90 ms of a processor for each cell; records name the versions that matter.
    "x_save_requirements": False,
}


def host() -> str:
    """Return which server the client would ask, without the protocol.

    Raises ServerError.
    """
    url = address()
    return urlsplit(url).netloc or url


def address() -> str:
    """Return the address of the server that the client would ask.

    Raises ServerError.
    """
    url = str(os.environ.get("WANDB_BASE_URL") or client().setup().settings.base_url)
    return without_password(url).rstrip("/")


def without_password(url: str) -> str:
    """Return an address without the name and the password that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else url


def connect(host: str) -> "Api":
    """Return the public API of a server that has taken the key.

    Raises SilentError where nobody answers, or the key is refused; NoKeyError; ServerError for what else is wrong.
    """
    wandb = client()
    try:
        api: Api = wandb.Api(timeout=seconds())
    except wandb.errors.AuthenticationError as error:
        if _status(error) in _REFUSED:
            raise SilentError(
                f"{host} refuses the key: {error_line(error)}; `wandb login --relogin` asks for one"
            ) from None
        if error.__cause__ is None:
            raise ServerError(f"no usable key for {host}: {error_line(error)}") from None
        raise SilentError(f"{host} does not answer: {error_line(error)}") from None
    except wandb.UsageError:
        raise NoKeyError(f"no key for {host}: `wandb login` asks for one, or set WANDB_API_KEY") from None
    except Exception as error:
        raise ServerError(f"W&B's client cannot ask {host}: {error_line(error)}") from None
    return api


@contextmanager
def asked(host: str) -> Iterator[None]:
    """Turn whatever the client raises while a server is asked into SilentError."""
    try:
        yield
    except ServerError:
        raise
    except Exception as error:  # the client lets through what its parts raise
        raise SilentError(f"{host} does not answer as it should: {error_line(error)}") from None


def client() -> Any:
    """Return the package wandb, with its waits bounded and silent.

    Raises ServerError.
    """
    os.environ |= _silence() | {"WANDB_HTTP_TIMEOUT": str(seconds())}  # it takes nothing but whole numbers
    try:
        import wandb

        wandb.setup(wandb.Settings(console="off", disable_code=True, init_timeout=seconds()))
        with suppress(ValueError):  # private names of the client: without them a wait is longer, and that is all
            wandb.setup(wandb.Settings(x_graphql_timeout_seconds=seconds(), **_LIMITS))
    except ImportError:
        raise ServerError("W&B's client is not installed: pip install wandb") from None
    except Exception as error:
        raise ServerError(f"W&B's client does not start: {error_line(error)}") from None
    return wandb


def surroundings(scratch: str) -> dict[str, str]:
    """Return the variables for a process with the client: it prints nothing, and keeps its files in a folder."""
    folders = dict.fromkeys(("TMPDIR", "WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"), scratch)
    return folders | _silence()


def _silence() -> dict[str, str]:
    """Return the variables for a client that neither asks nor reports.

    It asks for a key where it can, and a command that waits for one is none for a script. Its telemetry would hold up
    the end of the process where a firewall swallows packets.
    """
    return {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": os.environ.get("WANDB_ERROR_REPORTING", "false")}


def seconds() -> int:
    """Return how long an answer of the server may take."""
    try:
        return max(1, math.ceil(float(os.environ["WANDB_HTTP_TIMEOUT"])))
    except (KeyError, ValueError, OverflowError):
        return _SECONDS


def _status(error: Exception) -> int | None:
    """Return HTTP's status of the answer behind an error of the client; None if there was no answer."""
    return getattr(getattr(error.__cause__, "response", None), "http_status", None) or None


def error_line(error: Exception) -> str:
    """Return what the client says, in one line and without the key."""
    text = str(error.__cause__ or "") or str(error) or type(error).__name__
    if "did not respond in time" in text:  # it speaks of its own helper process, which waits for the server
        return f"nothing came within {seconds()} s; WANDB_HTTP_TIMEOUT=60 waits longer"
    text = " ".join(text.partition("\nwhile retrying")[0].split())[:_MOST_TEXT]
    for secret in _secrets():
        text = text.replace(secret, "***")
    return text


def _secrets() -> list[str]:
    """Return what must not be shown: the key, wherever it is from, and a password in the address."""
    url = os.environ.get("WANDB_BASE_URL", "")
    found = [os.environ.get("WANDB_API_KEY"), urlsplit(url).password]
    with suppress(OSError, netrc.NetrcParseError):
        found += [entry[2] for entry in netrc.netrc(os.environ.get("NETRC")).hosts.values()]
    return [secret for secret in found if secret]
