"""``python -m pgolf_codec`` is ``pgolf-codec``."""

import sys

from pgolf_codec.cli import main

if __name__ == "__main__":
    sys.exit(main())
