"""What is wrong outside of the program: a disk, a cluster."""

import errno

_OUTSIDE = tuple(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EFBIG", "EIO", "ESTALE", "ENOTDIR", "ENAMETOOLONG")
    if hasattr(errno, name)
)


class ConfigError(ValueError):
    """What a user got wrong; the message says what was got, what is legal, and the key."""


class UnknownKeyError(ConfigError):
    """A key that no cell has."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no key {key}")
        self.key = key


class NoRoomError(Exception):
    """The cell was given back without a verdict: it is to be trained again, beside fewer others."""

    def __init__(self, room: int, why: str, *, spoilt: bool = False) -> None:
        super().__init__(why)
        self.room = room  # how many cells at once this process can or should train
        self.spoilt = spoilt  # nothing more may succeed on this process's GPU


class TroubleError(Exception):
    """Something that a user or an administrator must put right; the message says what."""


def told(error: OSError) -> str | None:
    """Return what to tell the user of a disk's trouble, or None if the error may be ours."""
    if error.errno not in _OUTSIDE:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}; put that right and start the same command again: what is on disk is not lost"
