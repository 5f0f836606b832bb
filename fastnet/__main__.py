"""``python -m fastnet`` is the command line."""

import sys

from fastnet.cli import main

sys.exit(main())
