"""Test whether two versions of the code train the same numbers: the paper's 12 nets at two commits, bit for bit.

python tools/same_code.py                       check every row of the table: what `make same-code` does
python tools/same_code.py --write OLD_COMMIT    compare that commit with HEAD, and write the row
python tools/same_code.py --write OLD NEW       the same for two commits

Each net in fp32 and bf16, with and without batch normalisation, from JPEG files to the hash of its weights, with and
without augmentation and dropout; and single nets with other choices. A few steps are enough: bits that differ, differ
in the first. exit code: 0; 1 for a row that this machine contradicts; 2 where nothing could be compared.
"""

import argparse
import io
import json
import os
import pickle
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from allcnn.config import Precision  # noqa: E402
from allcnn.training import Bf16, bf16_of, device_name  # noqa: E402
from strive.cells.records import read_record  # noqa: E402
from strive.code.same_code import TABLE, SameCodeRow, Side, compared, net, rows_of, setting  # noqa: E402

_EACH = ("model=glob(*)", "precision=bf16,fp32", "model.batch_norm=true,false")
_NETS, _SETTINGS = 12, 4
# As small as results/table3_small's nets: other widths may get other kernels.
_SHARED = (
    "data=image_folder", "data.name=compared", "data.root=images.tar.xz", "model.width=0.125", "budget.epochs=2",
    "budget.batch_size=64", "trainer.threads=1", "runs=runs",
)  # fmt: skip
_SWEEPS = (
    (*_EACH, "model.dropout_input=0", "model.dropout_hidden=0"),
    # Not whitened once more, which takes longer than all of its cells.
    (*_EACH, "augment=flip_shift", "data.val_images=32", "preprocess=standardize", "seed=1"),
    # Each start takes longer than its cells, so a cell has several choices at once.
    (
        "model=all_cnn_c", "precision=fp32", "model.init=he,xavier_caffe,torch_default", "model.class_relu=false",
        "model.head_padding=same", "optimizer.drop_at=[]", "optimizer.decay_biases=false",
    ),
    ("model=model_c", "precision=fp32", "model.pool_rounding=pad,floor", "model.pool_norm=2"),
    ("model=strided_cnn_b", "precision=fp32", "model.strided_b=conv5x5", "model.batch_norm=true"),
    (
        "model=all_cnn_c", "precision=fp32", "preprocess=standardize", "data=digits", "data.name=digits",
        "augment=extreme", "augment.canvas_px=40", "augment.scale_max=3",
    ),
    (
        "model=all_cnn_c", "precision=fp32", "data=cifar10", "data.name=cifar10", "data.root=.",
        "optimizer.momentum=0", "optimizer.weight_decay=0",
    ),
)  # fmt: skip
_IMAGES = {"train": 16, "test": 4}  # of each of ten classes


class CompareError(Exception):
    """Nothing could be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A cell as its record has it."""

    config: Mapping[str, Any]
    weights: str  # sha256
    code_hash: str


def main(argv: Sequence[str] | None = None) -> int:
    """Check the table, or write a row of it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", nargs="+", metavar="COMMIT", help="the old commit, and the new one if not HEAD")
    arguments = parser.parse_args(argv)
    try:
        if arguments.write:
            return write(*arguments.write[:2])
        return check(rows_of(TABLE))
    except CompareError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def check(rows: Sequence[SameCodeRow]) -> int:
    """Train what each row speaks of again; return 1 if one of them promises what does not hold here, else 0."""
    wrong = 0
    for row in rows:
        title = f"{row.old.code_hash} and {row.new.code_hash}"
        found = compare(row.old.commit, row.new.commit)
        problems = list(contradictions(row, found))
        print(f"{title}: {'WRONG' if problems else 'holds'}; {summary(found)}")
        for problem in problems:
            print(f"  {problem}", file=sys.stderr)
        wrong += bool(problems)
    if not rows:
        print(f"{TABLE} has no rows")
    elif not _has_bf16():
        print("not checked: bf16, for which this processor has no instructions; rows speak of those that have")
    return 1 if wrong else 0


def write(old: str, new: str = "HEAD") -> int:
    """Compare two commits and put the row into the table, in place of an earlier one of the same old commit."""
    commits = commit(old), commit(new)
    if not _has_bf16():
        raise CompareError("this processor has no instructions for bf16; write the row on one that has")
    if new == "HEAD" and _git("status", "--porcelain", "--untracked-files=no", "--", "src").strip():
        raise CompareError("src has changes that are in no commit; commit them first, then compare HEAD")
    row = compare(*commits)
    if row.old.code_hash == row.new.code_hash:
        print(f"both commits have the code {row.new.code_hash}: nothing to write")
        return 0
    kept = [each for each in rows_of(TABLE) if each.old != row.old]
    TABLE.write_text(json.dumps([asdict(each) for each in (*kept, row)], indent=1) + "\n", encoding="utf-8")
    print(f"{row.old.code_hash} and {row.new.code_hash}: {summary(row)}\nwritten to {TABLE}")
    return 0


def compare(old: str, new: str) -> SameCodeRow:
    """Train at two commits and return the row that says what came of it. Raises CompareError."""
    one, other = trained(old), trained(new)
    if one.keys() != other.keys():
        lacking = ", ".join(sorted(one.keys() ^ other.keys())[:2])
        raise CompareError(f"{old[:10]} and {new[:10]} give the cells other ids, such as {lacking}")
    row = row_of(one, other)
    return replace(row, old=replace(row.old, commit=old), new=replace(row.new, commit=new))


def row_of(one: Mapping[str, Trained], other: Mapping[str, Trained]) -> SameCodeRow:
    """Return what two trainings of the same cells say, {cell: what it became} each; commits are left out."""
    groups: dict[tuple[str, str], list[str]] = {}
    for cell, each in one.items():
        groups.setdefault((net(each.config), setting(each.config)), []).append(cell)
    found: dict[bool, dict[str, list[str]]] = {True: {}, False: {}}
    for (name, how), cells in sorted(groups.items()):
        # One that differs, whatever its other choices were, is enough to say nothing for its kind.
        agree = all(one[cell].weights == other[cell].weights for cell in cells)
        found[agree].setdefault(name, []).append(how)
    agreeing = [each.config for cell, each in one.items() if each.weights == other[cell].weights]
    return SameCodeRow(
        old=Side(code_hash=_code(one), commit=""),
        new=Side(code_hash=_code(other), commit=""),
        date=datetime.now(UTC).date().isoformat(),
        machine=_machine(),
        torch=version("torch"),
        python=platform.python_version(),
        same=found[True],
        different=found[False],
        compared=compared(agreeing),
    )


def contradictions(row: SameCodeRow, found: SameCodeRow) -> Iterator[str]:
    """Yield what a row promises and a new comparison does not show."""
    for side in ("old", "new"):
        mine, its = getattr(row, side).code_hash, getattr(found, side).code_hash
        if mine != its:
            yield f"the {side} commit {getattr(row, side).commit[:10]} has the code {its}, not {mine}"
    for name, settings in row.same.items():
        promised = {how for how in settings if _has_bf16() or not how.startswith("bf16")}
        if lacking := sorted(promised - set(found.same.get(name, ()))):
            yield f"{name}: not the same weights here for {', '.join(lacking)}"
    for key, kinds in row.compared.items():
        if lacking := sorted(set(kinds) - set(found.compared.get(key, ()))):
            yield f"{key}: {', '.join(lacking)} was not compared, or differed"


def summary(row: SameCodeRow) -> str:
    """Return what a comparison came to, in a line."""
    same, different = (sum(map(len, each.values())) for each in (row.same, row.different))
    others = ", ".join(f"{name} {how}" for name, settings in row.different.items() for how in settings)
    return f"{same} of {same + different} kinds of nets train the same weights" + (f", not {others}" if others else "")


def _code(cells: Mapping[str, Trained]) -> str:
    codes = {each.code_hash for each in cells.values()}
    if len(codes) != 1:
        raise CompareError(f"one commit's cells say that they were trained by {len(codes)} versions of the code")
    return codes.pop()


def _machine() -> str:
    return device_name(torch.device("cpu"))


def _has_bf16() -> bool:
    """Return whether bf16 is the processor's own here; where it is not, code of before 2026-11-29 had another way."""
    return bf16_of(Precision.bf16, torch.device("cpu")) is Bf16.native


# -- one commit


@cache
def trained(at: str) -> dict[str, Trained]:
    """Return {cell: what it became} of all cells, trained with the code of a commit by that commit's own program."""
    with tempfile.TemporaryDirectory(prefix="same-code-") as place, checkout(at, Path(place) / "code") as code:
        here = Path(place)
        _write_images(here / "images.tar.xz")
        _write_cifar(here / "cifar-10-batches-py")
        for overrides in _SWEEPS:
            _run(code, here, overrides)
        found = {}
        for path in sorted((here / "runs").glob("*/record.json")):
            record = read_record(path)
            if record.failure is not None:
                raise CompareError(f"{at[:10]}: {record.cell} failed: {record.failure.cause}")
            found[record.cell] = Trained(record.config, record.outputs["weights"], record.provenance.code_hash)
    kinds = {(net(each.config), setting(each.config)) for each in found.values()}
    if len(kinds) != _NETS * _SETTINGS:
        raise CompareError(f"{at[:10]}: {len(kinds)} kinds of nets were trained instead of {_NETS * _SETTINGS}")
    return found


@contextmanager
def checkout(at: str, place: Path) -> Iterator[Path]:
    """Put a commit's files into a folder for a while."""
    _git("worktree", "add", "--detach", str(place), at)
    try:
        yield place
    finally:
        _git("worktree", "remove", "--force", str(place))


def commit(name: str) -> str:
    """Return a commit's 40 digits."""
    return _git("rev-parse", "--verify", f"{name}^{{commit}}").strip()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CompareError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _run(code: Path, here: Path, overrides: Sequence[str]) -> None:
    # -S and these paths: an editable installation of this checkout would otherwise be found together with the other's.
    own = {str(ROOT / name) for name in ("src", "tools", "analysis", "tests", "bench")}
    paths = [str(code / "src"), *(path for path in sys.path if path and path not in own)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "STRIVE_CACHE": str(here / "cache"),  # of images that this very code has read
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    # Later ones count where both set a key.
    given = {text.partition("=")[0]: text for text in (*_SHARED, *overrides)}
    command = [sys.executable, "-S", str(code / "src" / "run.py"), "-m", *given.values()]
    done = subprocess.run(command, cwd=here, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise CompareError(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")


def _write_images(path: Path) -> None:
    """Write an archive of small JPEG files, the same each time."""
    with tarfile.open(path, "w:xz") as archive:
        for split, count in _IMAGES.items():
            for label, images in enumerate(_pixels(count)):
                for number, image in enumerate(images):
                    content = io.BytesIO()
                    Image.fromarray(image).save(content, "JPEG")
                    entry = tarfile.TarInfo(f"{split}/{label}/{number}.jpg")
                    entry.size = len(content.getvalue())
                    content.seek(0)
                    archive.addfile(entry, content)


def _write_cifar(folder: Path) -> None:
    """Write images in the layout of CIFAR-10's files, the same each time."""
    folder.mkdir()
    batches = {f"data_batch_{number}": _IMAGES["train"] for number in range(1, 6)} | {"test_batch": _IMAGES["test"]}
    for name, count in batches.items():
        images = np.concatenate(_pixels(count)).transpose(0, 3, 1, 2).reshape(-1, 3072)
        labels = [label for label in range(10) for _ in range(count)]
        (folder / name).write_bytes(pickle.dumps({"data": images, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(label) for label in range(10)]}))


def _pixels(count: int) -> list[npt.NDArray[np.uint8]]:
    """Return [count, 32, 32, 3] for each of ten classes: a colour, so that there is something to learn, and noise."""
    random = np.random.default_rng(0)
    noise = (random.integers(0, 128, (count, 32, 32, 3)) for _ in range(10))
    return [(each + (np.arange(3) == label % 3) * 12 * label).astype(np.uint8) for label, each in enumerate(noise)]


if __name__ == "__main__":
    sys.exit(main())
