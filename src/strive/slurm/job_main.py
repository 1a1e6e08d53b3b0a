"""The program of a SLURM job: calls what was pickled for it at submission. Imports no torch.

python -m strive.slurm.job_main FILE, where FILE holds one function for each job of an array.
"""

import os
import pickle
import sys
from pathlib import Path


def main() -> None:
    """Call this job's function."""
    functions = pickle.loads(Path(sys.argv[1]).read_bytes())
    functions[int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))]()


if __name__ == "__main__":
    main()
