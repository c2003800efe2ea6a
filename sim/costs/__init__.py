"""What an iteration costs: seconds and joules, by peaks, by measured tables, by layer profiles.

Everything here stands behind `CostModel` (`protocol.py`); `build.py` makes one from a
scenario's `[hardware.NAME]`. docs/cost-models.md says which to use.
"""
