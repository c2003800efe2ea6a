"""`python -m splitweave.sim examples/two_pools.toml`."""

import sys

from .cli import main

sys.exit(main())
