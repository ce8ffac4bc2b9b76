"""One safetensors file for a model: weights by their paths, the optimizer's state, random counters; JSON in its header."""

import contextlib
import os
import tempfile

from ..layers.context import context
from ..layers.serialization import custom_object_scope
from ..random import SeedGenerator
from ..tensor import DTYPES, Parameter
from .architecture import describe, make, own_objects, read_json, write_json
from .training import compile_from, compiled_config

FORMAT = "fastdl model 1"


def save_model(model, filepath, overwrite=True):
    """Write architecture, weights, and what compile was given with the optimizer's state, into one file."""
    header = {"model": write_json(describe(model), model.name), "order": _order(model)}
    compiled = compiled_config(model)
    if compiled is not None:
        header["compile"] = write_json(compiled, f"{model.name}'s compile")
    _write(filepath, {**weights_by_path(model), **_state(model)}, header, overwrite)


def save_weights(model, filepath, overwrite=True):
    """Write the weights into a file."""
    if not model.built:
        raise ValueError(f"save_weights: {model.name} is not built yet, it has no weights; call it on data first")
    _write(filepath, weights_by_path(model), {"order": _order(model)}, overwrite)


def load_model(filepath, custom_objects=None, compile=True, safe_mode=True):
    """The model that save wrote.

    custom_objects   {name: class or function} of what is not fastdl's; nothing else is looked up by name, and nothing is run
    compile          whether to compile it as it was, with the optimizer's state, so that training goes on to the same bits

    safe_mode is accepted for Keras' sake: loading is always safe. A ValueError says what is wrong with a file.
    """
    with custom_object_scope(custom_objects), _opened(filepath) as file:
        if "model" not in file.header:
            raise ValueError(f"{filepath}: holds weights only\n  make the model and use its load_weights")
        description = read_json(file.header["model"], filepath)
        training = read_json(file.header["compile"], filepath) if "compile" in file.header else None
        with _blamed(filepath), _budget(file.nbytes):
            model = make(description)
        own = weights_by_path(model)
        unbuilt = "" if model.built else "\n  the file does not say how the model is built; make it, call it on data, and use its load_weights"
        if set(own) != set(file.of("weights/")):
            raise ValueError(f"{filepath}: {_difference(own, file.of('weights/'))}{unbuilt}")
        seeds = {name: t for name, t in _seeds(model).items() if name in file.shapes}
        values = file.read({**own, **seeds})
        for name, tensor in {**own, **seeds}.items():
            tensor.assign(values[name])
        if compile and training is not None:
            with _blamed(filepath):
                compile_from(model, training)
            _load_optimizer(model, file)
    return model


def load_weights(model, filepath, skip_mismatch=False):
    """Read the weights of a model from a file that save or save_weights wrote, by their paths."""
    if not model.built:
        raise ValueError(f"load_weights: {model.name} is not built yet; call it on data, or build(input_shape), first")
    with _opened(filepath) as file:
        own, there = weights_by_path(model), set(file.of("weights/"))
        if skip_mismatch:
            own = {n: w for n, w in own.items() if n in there and file.shapes[n] == (w.shape, w.dtype)}
        elif set(own) != there:
            order = read_json(file.header.get("order", "[]"), filepath)     # other names may stand for the same weights in the same order
            if sorted(order) != sorted(there) or [w.shape for w in own.values()] != [file.shapes[n][0] for n in order]:
                raise ValueError(f"{filepath}: {_difference(own, there)}\n  skip_mismatch=True loads what fits")
            own = dict(zip(order, own.values()))
        values = file.read(own)
        for name, w in own.items():
            w.assign(values[name])


def model_to_bytes(model):
    """(what save_model writes, the classes and functions that are not fastdl's): for copies and pickles."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, model.name)
        save_model(model, path)
        with open(path, "rb") as file:
            return file.read(), own_objects(model)


def model_from_bytes(data, custom_objects):
    """The model of model_to_bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model")
        with open(path, "wb") as file:
            file.write(data)
        return load_model(path, custom_objects)


# -- names of tensors --

def weights_by_path(model):
    """{"weights/" + names of attributes or layers down to the weight: Parameter}, in the order of model.weights."""
    found, seen = {}, set()
    for path, layer in _walk(model, "", set()):
        names = {id(value): name for name, value in layer._tracked() if isinstance(value, Parameter)}
        for w in layer._own_weights():
            if id(w) not in seen:
                seen.add(id(w))
                found["weights/" + path + (w.name if any(w is own for own in layer._weights) else names[id(w)])] = w
    return found


def _order(model):
    return write_json(list(weights_by_path(model)), model.name)


def _seeds(model):
    return {f"seeds/{path}{name}": value.state for path, layer in _walk(model, "", set()) for name, value in layer._tracked()
            if isinstance(value, SeedGenerator)}


def _walk(layer, path, seen):
    """(path with a slash, layer) of a layer and all inside it, each once."""
    if id(layer) not in seen:
        seen.add(id(layer))
        yield path, layer
        for name, inner in layer._children():
            yield from _walk(inner, f"{path}{name}/", seen)


def _state(model):
    optimizer = getattr(model, "optimizer", None)
    slots = {f"optimizer/{i}": v for i, v in enumerate(optimizer.variables)} if optimizer is not None and optimizer.built else {}
    return {**_seeds(model), **slots}


def _load_optimizer(model, file):
    if not file.of("optimizer/"):
        return
    model.optimizer.build(model.trainable_variables)
    own = {f"optimizer/{i}": v for i, v in enumerate(model.optimizer.variables)}
    if set(own) != set(file.of("optimizer/")):
        raise ValueError(f"{file.path}: the optimizer's state has {len(file.of('optimizer/'))} tensors; {type(model.optimizer).__name__} has {len(own)}")
    values = file.read(own)
    for name, tensor in own.items():
        tensor.assign(values[name])


def _difference(own, there):
    missing, unknown = [n for n in own if n not in there], [n for n in there if n not in own]
    parts = [f"{what} {', '.join(n.removeprefix('weights/') for n in names[:5])}{' …' if len(names) > 5 else ''}"
             for what, names in (("the file lacks", missing), ("the model lacks", unknown)) if names]
    return "its weights are not those of the model: " + "; ".join(parts)


# -- files --

def _write(filepath, tensors, header, overwrite):
    """Write a file beside its place, then move it there: whatever happens, either the old or the new one is whole."""
    from safetensors.numpy import save_file
    filepath = os.fspath(filepath)
    if not overwrite and os.path.exists(filepath):
        raise FileExistsError(f"{filepath} exists; overwrite=True replaces it")
    folder, name = os.path.split(os.path.abspath(filepath))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        save_file({n: t.array for n, t in tensors.items()}, temporary, metadata={"format": FORMAT, **header})
        with open(temporary, "rb+") as f:
            os.fsync(f.fileno())
        os.replace(temporary, filepath)
    except Exception as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if isinstance(error, OSError):
            raise
        raise OSError(f"{filepath} could not be written: {error}") from error
    if hasattr(os, "O_DIRECTORY"):
        directory = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class _File:
    """An open file: .header, .shapes {name: (shape, dtype)} and read."""

    def __init__(self, path, file, nbytes):
        self.path, self.file, self.nbytes = path, file, nbytes
        self.header = file.metadata() or {}
        if self.header.get("format") != FORMAT:
            raise ValueError(f"{path}: is a safetensors file, but not one that fastdl wrote")
        self.shapes = {}
        for name in file.keys():
            about = file.get_slice(name)
            dtype = _DTYPES.get(about.get_dtype())
            if dtype is None:
                raise ValueError(f"{path}: {name} has dtype {about.get_dtype()}, which fastdl does not know")
            self.shapes[name] = tuple(about.get_shape()), dtype

    def of(self, prefix):
        """The names that begin so, in the order of the file."""
        return [name for name in self.shapes if name.startswith(prefix)]

    def read(self, wanted):
        """{name: array} for {name: tensor}, after all names, shapes and dtypes were found to agree."""
        for name, tensor in wanted.items():
            if name not in self.shapes:
                raise ValueError(f"{self.path}: lacks {name}")
            if self.shapes[name] != (tensor.shape, tensor.dtype):
                shape, dtype = self.shapes[name]
                raise ValueError(f"{self.path}: {name.removeprefix('weights/')} has another shape or dtype than the model's"
                                 f"\n  file   {shape} {dtype}\n  model  {tensor.shape} {tensor.dtype}")
        return {name: self.file.get_tensor(name) for name in wanted}


_DTYPES = {"F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64", "U8": "uint8", "BOOL": "bool", "U32": "uint32", "U64": "uint64"}
assert set(_DTYPES.values()) == set(DTYPES.values())


@contextlib.contextmanager
def _opened(filepath):
    from safetensors import SafetensorError, safe_open
    filepath = os.fspath(filepath)
    if not os.path.isfile(filepath):
        raise FileNotFoundError(f"{filepath}: there is no such file")
    try:
        file = safe_open(filepath, framework="numpy")
    except (SafetensorError, ValueError, OSError) as error:
        with open(filepath, "rb") as f:
            kind = {b"PK": "a zip, as Keras writes; fastdl does not read those", b"\x89H": "an HDF5 file; fastdl does not read those",
                    b"\x80\x02": "a pickle; fastdl does not read those"}.get(f.read(2), f"no whole safetensors file ({error})")
        raise ValueError(f"{filepath}: is {kind}") from None
    with file:
        yield _File(filepath, file, os.path.getsize(filepath))


@contextlib.contextmanager
def _blamed(filepath):
    """Whatever goes wrong inside is a ValueError that names the file."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{filepath}: {error}" if isinstance(error, ValueError) else
                         f"{filepath}: what it describes cannot be made: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _budget(nbytes):
    """Weights made inside may take so many bytes together, and are not initialised."""
    before, context.budget = context.budget, nbytes
    try:
        yield
    finally:
        context.budget = before
