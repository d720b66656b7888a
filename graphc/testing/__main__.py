"""`python -m graphc.testing native --count 1000`: a hunt."""
from __future__ import annotations

import sys

from .hunting import main

sys.exit(main())
