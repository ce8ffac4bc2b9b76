"""Optional packages, imported when they are used."""

import importlib


def need(module, extra):
    """The module; where it is not installed, an error that names the extra of fastdl that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ModuleNotFoundError(f"{module.split('.')[0]} is needed here and is not installed"
                                  f'\n  pip install "fastdl[{extra}]"', name=error.name) from None
