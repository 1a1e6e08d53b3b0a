"""The state in a checkpoint, checked before training resumes from it."""

from pathlib import Path

from allcnn.training import State, read_checkpoint
from strive.code.hash import Code, changed_files_text


def usable_state(path: Path, cell: str, code: Code) -> State:
    """Return the state in a checkpoint of a cell. Raises ValueError with the reason why it cannot be used."""
    state = read_checkpoint(path)
    if state is None:
        raise ValueError("it is gone")
    if state.get("cell") != cell:
        raise ValueError(f"it belongs to {state.get('cell')}")
    if state["code_hash"] != code.hash:
        changed = changed_files_text(state.get("code_files", {}), code.files)
        what = f": {changed} changed" if changed else ""
        raise ValueError(f"it was written by code {state['code_hash']}, this is {code.hash}{what}")
    return state
