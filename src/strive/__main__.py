"""The command `strive`, as `python -m strive`."""

import sys

from strive.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
