"""The program that the user started: starts it again, in another process, up to its main()."""

import os
import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from strive import command_line
from strive.cells.records import write_whole
from strive.errors import ConfigError

FILE = "program.json"  # in the folder of a launch
ENVIRONMENT = "STRIVE_PROGRAM"  # path of that file, for workers


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How a program was started: `python train.py`, `python -m package.train`, or a console script."""

    file: str  # absolute path of the script; "" for a module
    module: str  # dotted name; "" for a script
    argv: list[str]  # sys.argv, the script's path absolute
    folder: str  # working directory
    path: list[str]  # sys.path, absolute
    function: str  # module:qualified name of the function below @hydra.main
    fresh_process: bool = True  # whether each cell has a process of its own
    processes: int = 1  # of each cell
    code: list[str] = []  # patterns of files that decide numbers besides what is imported
    resume_overrides: list[str] = []  # added where a cell goes on

    @property
    def name(self) -> str:
        """Return what a user calls it."""
        return self.module or Path(self.file).name


def this_program(function: Callable[..., Any]) -> Program:
    """Return how this process was started. function: the task function of its Hydra app.

    Raises ConfigError where nothing can start it again: a notebook, `python -c`, an interactive session.
    """
    _, *rest = command_line.program()
    module, file = rest[0] if rest else "", getattr(sys.modules["__main__"], "__file__", None)
    if not module and (file is None or not os.path.isfile(file)):
        raise ConfigError(
            "the app has no file that a worker process could start: a notebook, an interactive session or python -c;"
            " put it into a file, train.py, and start that with python train.py -m ..."
        )
    script = "" if module else os.path.abspath(str(file))
    return Program(
        file=script,
        module=module,
        argv=[script or sys.argv[0], *sys.argv[1:]],
        folder=os.getcwd(),
        path=[os.path.abspath(each or os.curdir) for each in sys.path],
        function=name_of(function),
    )


def name_of(function: Callable[..., Any]) -> str:
    """Return module:qualified name of a task function."""
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{function.__module__}:{kind.__qualname__}"


def become(program: Program) -> None:
    """Run the program in this process as Python itself would, in a new genuine __main__.

    So resolvers and dataclasses of __main__, spawn pools and decorators work as where the user started it.
    Raises whatever it raises, SystemExit too.
    """
    os.chdir(program.folder)
    sys.argv[:] = program.argv
    own = [path for path in sys.path if path not in program.path]
    sys.path[:] = [*program.path, *own]
    if program.module:
        runpy._run_module_as_main(program.module, alter_argv=False)  # type: ignore[attr-defined]
        return
    source = Path(program.file).read_bytes()
    module = types.ModuleType("__main__")
    module.__file__ = program.file
    module.__spec__ = None
    module.__dict__["__builtins__"] = __builtins__
    module.__dict__["__cached__"] = None
    sys.modules["__main__"] = module
    exec(compile(source, program.file, "exec"), module.__dict__)


def moved(program: Program, copied: Callable[[Path], Path]) -> Program:
    """Return the program in a copy of its code; it still starts in the folder that it was started from.

    copied: copies a repository, or the script's folder where there is no git, and returns the copy.
    """
    own = Path(program.file).parent if program.file else Path(program.folder)
    root = next((folder for folder in (own, *own.parents) if (folder / ".git").exists()), own)
    copy = copied(root)

    def there(path: str) -> str:
        return str(copy / Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path

    inside = [sys.prefix, os.path.join(root, ".venv")]  # what is installed is not copied
    path = [each if each.startswith(tuple(inside)) else there(each) for each in program.path]
    file = there(program.file) if program.file else ""
    return msgspec.structs.replace(program, file=file, path=path, argv=[there(program.argv[0]), *program.argv[1:]])


def write_program(folder: Path, program: Program) -> Path:
    """Write the file by which workers start the program; return its path."""
    path = folder / FILE
    # Other processes of the launch may read it at this moment.
    write_whole(path, msgspec.json.format(msgspec.json.encode(program), indent=1) + b"\n", durable=False)
    return path


def read_program(path: Path) -> Program:
    """Return the program of a launch. Raises OSError, and ConfigError for a damaged file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Program)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: says not how the app was started ({error}); launch the sweep again") from None
