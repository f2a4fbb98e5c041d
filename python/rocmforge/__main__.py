"""`python -m rocmforge`: the command line."""

from __future__ import annotations

import sys

from rocmforge.cli import main

sys.exit(main())
