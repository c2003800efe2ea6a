"""What an operator gave that no cost can be made from."""

from ...proto.toml_file import ConfigError


class CostError(ConfigError):
    """A description, a catalogue or a table that cannot be used; names file, key, value."""
