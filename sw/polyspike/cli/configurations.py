"""Which hardware configuration a command is asked for."""

import json
from pathlib import Path

from polyspike.spec import Configuration, ConfigurationError, named


def chosen(name: str | None, file: Path | None) -> Configuration | None:
    """Return the configuration with a name or in a JSON file; None where neither is given.

    The file holds an object with the fields of `Configuration`. Fields that are missing are those of the configuration
    named in its field "base".

    Raises
    ------
    ConfigurationError
        The configuration does not exist or breaks an invariant, or both are given.
    """
    if file is None:
        return None if name is None else named(name)
    if name is not None:
        raise ConfigurationError("give either a configuration's name or a file, not both")
    try:
        fields = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigurationError(f"{file}: not an object with the fields of a configuration")
    base = fields.pop("base", None)
    if base is None:
        return Configuration.from_dict(fields)
    return named(base).replace(**{"name": file.stem, **fields})
