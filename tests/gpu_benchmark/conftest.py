"""The scripts of benchmarks/gpu are imported as they run: from their own folder."""

import sys

from checkout import ROOT

sys.path.append(str(ROOT / "benchmarks" / "gpu"))
