"""Loading a user's float network without pickle: a Python file that builds it, and a state dict in safetensors."""

import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from polyspike.spec import ConversionError, FileFormatError


def load_model(source: Path | str, state: Path | str | None = None, attribute: str = "model") -> nn.Module:
    """Build a network and load its trained weights.

    Parameters
    ----------
    source
        A Python file. It is executed.
    state
        A state dict, safetensors. Left out, the network keeps the weights the file gives it.
    attribute
        The name in that file of a module, or of a function or class that builds one when called without arguments.

    Returns
    -------
    The module, in evaluation mode.

    Raises
    ------
    FileFormatError
        A file is missing or is not safetensors, or names or shapes in the state dict differ from the network's.
    ConversionError
        The Python file fails, or has no such attribute, or that is not a network.
    """
    source = Path(source)
    model = _build(source, attribute)
    if state is not None:
        load_state(model, Path(state))
    return model.eval()


def load_state(model: nn.Module, path: Path | str) -> None:
    """Load a safetensors state dict into a module; raises FileFormatError unless every name and shape matches."""
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file ({error})") from None
    wanted = model.state_dict()
    # Counters that batch norm keeps for training; evaluation does not need them.
    missing = [name for name in wanted if name not in tensors and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in tensors if name not in wanted]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"lacks {_listed(missing)}")
        if unexpected:
            parts.append(f"has {_listed(unexpected)}, which the network does not have")
        raise FileFormatError(f"{path}: does not belong to {type(model).__name__}: it {' and '.join(parts)}")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise FileFormatError(
                f"{path}: {name!r} has shape {list(tensor.shape)}, but {type(model).__name__} needs "
                f"{list(wanted[name].shape)}"
            )
    with torch.no_grad():
        model.load_state_dict(tensors, strict=False)


def save_state(model: nn.Module, path: Path) -> None:
    """Write a module's state dict as safetensors; `load_state` reads it."""
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def _build(source: Path, attribute: str) -> nn.Module:
    if not source.is_file():
        raise FileFormatError(f"{source}: no such file")
    spec = importlib.util.spec_from_file_location(f"polyspike_user_{source.stem}", source)
    if spec is None or spec.loader is None:
        raise ConversionError(f"{source}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    # Files next to it can be imported, and classes in it find their module.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(source.resolve().parent))
    try:
        spec.loader.exec_module(module)
        found: Any = getattr(module, attribute, None)
        if found is None:
            raise ConversionError(f"{source}: defines no {attribute!r}; it defines {_listed(_candidates(module))}")
        result = found() if not isinstance(found, nn.Module) and callable(found) else found
    except ConversionError:
        raise
    except Exception as error:
        raise ConversionError(f"{source}: {type(error).__name__} while building the network: {error}") from error
    finally:
        sys.path.remove(str(source.resolve().parent))
    if not isinstance(result, nn.Module):
        raise ConversionError(f"{source}: {attribute!r} is a {type(result).__name__}, not a torch.nn.Module")
    return result


def _candidates(module: Any) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and inspect.getmodule(value) is module))
    ]


def _listed(names: list[str], limit: int = 6) -> str:
    if not names:
        return "nothing that could be one"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more
