import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # run, mutant…: imported by these tests only
