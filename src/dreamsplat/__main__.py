"""`python -m dreamsplat` is the command `dreamsplat`."""

import sys

from dreamsplat.commands import main

if __name__ == "__main__":
    sys.exit(main())
