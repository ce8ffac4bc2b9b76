"""What compile was given, as plain values, and back."""

from .. import losses, metrics, optimizers
from ..layers.serialization import custom_object


def compiled_config(model):
    """The arguments of compile; None for a model that is not compiled. The optimizer is as it is now."""
    if getattr(model, "optimizer", None) is None:
        return None
    given = model.compiled
    return {"optimizer": _object(model.optimizer), "loss": _plain(given["loss"]), "loss_weights": _plain(given["loss_weights"]),
            "metrics": _plain(given["metrics"]), "weighted_metrics": _plain(given["weighted_metrics"])}


def compile_from(model, config):
    """Compile a model as compiled_config tells."""
    if not isinstance(config, dict) or set(config) != {"optimizer", "loss", "loss_weights", "metrics", "weighted_metrics"}:
        raise ValueError("what it says about compile is broken")
    model.compile(optimizer=_made(config["optimizer"], optimizers), loss=_made(config["loss"], losses),
                  loss_weights=_made(config["loss_weights"], None), metrics=_made(config["metrics"], metrics),
                  weighted_metrics=_made(config["weighted_metrics"], metrics))


def _object(value):
    return {"class_name": type(value).__name__, "config": value.get_config()}


def _plain(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {"by_output": {name: _plain(v) for name, v in value.items()}}
    if hasattr(value, "get_config"):
        return _object(value)
    if callable(value) and hasattr(value, "__name__"):
        return value.__name__
    raise ValueError(f"compile was given {type(value).__name__}, which a file cannot hold; save the weights alone with save_weights")


def _made(value, module):
    if isinstance(value, list):
        return [_made(v, module) for v in value]
    if isinstance(value, str):
        if module is losses and not custom_object(value):
            losses.get(value)                          # an unknown name is refused now, not at the first step
        return custom_object(value) or value
    if not isinstance(value, dict):
        return value
    if set(value) == {"by_output"}:
        return {name: _made(v, module) for name, v in value["by_output"].items()}
    if module is None or set(value) != {"class_name", "config"}:
        raise ValueError(f"what it says about compile is broken: {str(value)[:100]}")
    custom = custom_object(value["class_name"])
    return custom.from_config(value["config"]) if custom else module.deserialize(value)
