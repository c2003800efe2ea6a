"""Where the data lies: `shared/data` beside the repository, or a folder that is given."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def data_folder(given: Path | None = None) -> Path | None:
    """The folder with the data; None where there is none."""
    if given is not None:
        return given if given.is_dir() else None
    places = (parent / "shared" / "data" for parent in ROOT.parents)
    return next((place for place in places if place.is_dir()), None)
