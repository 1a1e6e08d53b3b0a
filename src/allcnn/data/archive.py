"""Reads the entries of a .tar or .zip archive, and its files' bytes, without unpacking it.

An archive that may not be complete, such as one that was cut off, is refused.
"""

import lzma
import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Self

from allcnn.data.listing import readable
from strive.errors import ConfigError

_BLOCK = 512  # bytes; a tar consists of blocks of this size
_LINKS = 40  # most links in a chain that are followed, as on Linux
_ENCRYPTED, _UTF8 = 0x1, 0x800  # flags of a zip's entry
_METHODS = {9: "deflate64", 93: "zstd", 95: "xz", 98: "ppmd"}  # those that not every Python can read


class EntryKind(Enum):
    """The kind of an archive's entry."""

    file = auto()
    folder = auto()
    link = auto()  # symbolic
    broken_link = auto()  # a link to something that is no file of the archive
    other = auto()  # a device or a pipe
    replaced = auto()  # a file whose name occurs again later, so that unpacking would overwrite it


@dataclass(frozen=True)
class Entry:
    """A name in an archive. A link to a file of the archive counts as that file."""

    name: str  # as stored, with / between folders
    kind: EntryKind
    place: int = -1  # of a file: where its bytes are, as `contents` takes it
    target: str = ""  # of a link


def list_archive(root: Path) -> list[Entry]:
    """Return what is in the archive, in its order.

    Raises ConfigError for a file that is no archive, cannot be read, or was cut off.
    """
    entries = _zip_entries(root) if _is_zip(root) else _tar_entries(root)
    last = {_key(entry.name): number for number, entry in enumerate(entries)}
    known = {key: entries[number] for key, number in last.items()}
    listed = []
    for number, entry in enumerate(entries):
        if entry.kind is EntryKind.link:
            entry = _follow_link(entry, known)
        if entry.kind is not EntryKind.folder and last[_key(entry.name)] != number:
            entry = replace(entry, kind=EntryKind.replaced)
        listed.append(entry)
    return listed


def contents(root: Path, places: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """Yield (place, bytes) of the files at these places, in the archive's order.

    Raises ConfigError where one cannot be read; of a zip their checksums are compared.
    """
    wanted = set(places)
    if _is_zip(root):
        with _opened_zip(root) as archive:
            infos = archive.infolist()
            for place in sorted(wanted):
                yield place, _zip_content(root, archive, infos[place])
        return
    with _opened_tar(root) as tar:
        for member in tar:
            if member.offset in wanted:
                content = tar.extractfile(member)
                if content is None:
                    raise tarfile.ReadError("it changed while it was read; start again")
                yield member.offset, content.read()


def has_checksums(root: Path) -> bool:
    """Return whether reading a file detects damaged bytes."""
    return _is_zip(root)


def _key(name: str) -> str:
    return posixpath.normpath(name)


def _follow_link(link: Entry, known: dict[str, Entry]) -> Entry:
    entry = link
    for _ in range(_LINKS):
        target = _key(posixpath.join(posixpath.dirname(entry.name), entry.target))
        if target not in known:
            break
        entry = known[target]
        if entry.kind is EntryKind.file:
            return replace(entry, name=link.name)
        if entry.kind is not EntryKind.link:
            break
    return replace(link, kind=EntryKind.broken_link)


def _is_zip(root: Path) -> bool:
    """Return whether it is a zip rather than a tar; raise ConfigError where it is neither."""
    try:
        # A tar first: one whose last member is a zip has a zip's end, too.
        if _is_tar(root):
            return False
        if zipfile.is_zipfile(root):
            return True
        with root.open("rb") as file:
            start = file.read(24)
    except OSError as error:
        raise ConfigError(f"data.root={root} cannot be read: {error.strerror or error}") from error
    if not start:
        why = "is empty, 0 bytes"
    elif start.startswith(b"PK\3\4"):
        why = "begins as a zip does, but has not its end: was it cut off?"
    elif start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        why = "is compressed, but is no .tar or is damaged from its beginning on"
    else:
        why = f"is neither a folder nor a .tar, .tar.gz, .tar.xz or .zip archive: it begins with {start!r}"
    raise ConfigError(
        f"data.root={root} {why}. It must be a folder or an archive that holds train/CLASS/FILE and test/CLASS/FILE"
    )


def _is_tar(root: Path) -> bool:
    try:
        return tarfile.is_tarfile(root)
    except (EOFError, zlib.error, lzma.LZMAError):
        return False


class _Member(tarfile.TarInfo):
    """A member of a tar. tarfile takes a damaged or missing header for the archive's end; here it is an error."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < _BLOCK:
            raise tarfile.ReadError("it has no end mark, so it was cut off")
        if not any(buf):
            return super().frombuf(buf, encoding, errors)  # raises: the end mark
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"it is damaged: {error}") from error


def _tar_entries(root: Path) -> list[Entry]:
    entries: list[Entry] = []
    known: dict[str, Entry] = {}
    with _opened_tar(root) as tar:
        for member in tar:
            entry = _tar_entry(member, known)
            known[_key(member.name)] = entry
            entries.append(entry)
        _check_end(tar)
    return entries


def _check_end(tar: tarfile.TarFile) -> None:
    """Read all bytes after the end mark, so that the checksum of a compressed archive is compared, too."""
    assert tar.fileobj is not None
    try:
        while rest := tar.fileobj.read(1 << 20):
            if rest.strip(b"\0"):
                raise tarfile.ReadError("it goes on behind its end mark, as several archives in one file do")
    except OSError as error:
        raise tarfile.ReadError(f"what is behind its end mark cannot be read: {error}") from error


def _tar_entry(member: tarfile.TarInfo, known: dict[str, Entry]) -> Entry:
    if member.isreg():
        return Entry(member.name, EntryKind.file, place=member.offset)
    if member.isdir():
        return Entry(member.name, EntryKind.folder)
    if member.issym():
        return Entry(member.name, EntryKind.link, target=member.linkname)
    if member.islnk():
        # A link to the member read so far: a later member of the same name is another file.
        first = known.get(_key(member.linkname))
        if first is None:
            return Entry(member.name, EntryKind.broken_link, target=member.linkname)
        return replace(first, name=member.name)
    return Entry(member.name, EntryKind.other)


@contextmanager
def _opened_tar(root: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(root, tarinfo=_Member) as tar:
            yield tar
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
        raise _damaged(root, error) from error


def _damaged(root: Path, error: Exception) -> ConfigError:
    return ConfigError(f"data.root={root} is not a readable archive: {error}; copy or pack it again")


def _zip_entries(root: Path) -> list[Entry]:
    entries = []
    with _opened_zip(root) as archive:
        for place, info in enumerate(archive.infolist()):
            name = info.filename
            if "\\" in name and "/" not in name:  # packed on Windows, against zip's rules
                name = name.replace("\\", "/")
            file_type = stat.S_IFMT(info.external_attr >> 16)
            if name.endswith("/"):
                entries.append(Entry(name, EntryKind.folder))
            elif file_type == stat.S_IFLNK:
                # As zipfile decodes names, so that the target's is found.
                encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
                target = _zip_content(root, archive, info).decode(encoding, "surrogateescape")
                entries.append(Entry(name, EntryKind.link, target=target))
            elif file_type in (0, stat.S_IFREG):
                entries.append(Entry(name, EntryKind.file, place=place))
            else:
                entries.append(Entry(name, EntryKind.other))
    return entries


def _zip_content(root: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        if not info.flag_bits & _ENCRYPTED:
            return archive.read(info)
        why = "it is encrypted; pack it without a password"
    except NotImplementedError:
        method = _METHODS.get(info.compress_type, "unknown here")
        why = f"it is packed by method {info.compress_type} ({method}); pack it with deflate"
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, lzma.LZMAError, zlib.error) as error:
        why = f"{error}; copy or pack the archive again"
    raise ConfigError(f"data.root={root}: {readable(info.filename)} cannot be read: {why}")


@contextmanager
def _opened_zip(root: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(root) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile) as error:
        raise _damaged(root, error) from error
