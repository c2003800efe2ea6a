import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))  # fleet, machine: imported by these tests only
