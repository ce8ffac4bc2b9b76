"""In what layers compute and keep their weights."""

KNOWN = {"float32": ("float32", "float32"), "float64": ("float64", "float64"), "mixed_bfloat16": ("bfloat16", "float32")}


class DTypePolicy:
    """The dtypes of a layer, by name: "float32", "float64" or "mixed_bfloat16".

    Under "mixed_bfloat16" the operands of the products of dense, convolutional and recurrent layers and of attention's projections,
    and of their gradients, are rounded to bfloat16 as they are multiplied. Sums, weights, all other functions, and the tensors between
    layers, are float32, and so are attention's scores, depthwise convolutions, the state's products of GRU and SimpleRNN, and products
    that bfloat16 does not make faster: dense layers of few units and convolutions of few channels.
    """

    def __init__(self, name=None):
        self.name = "float32" if name is None else name
        if self.name not in KNOWN:
            raise ValueError(f"no dtype policy {name!r}\n  known are {', '.join(KNOWN)}")
        self.compute_dtype, self.variable_dtype = KNOWN[self.name]

    quantization_mode = None

    def get_config(self):
        """The arguments that make this policy again."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config):
        """The policy that get_config described."""
        return cls(**config)

    def __eq__(self, other):
        return isinstance(other, DTypePolicy) and self.name == other.name

    def __hash__(self):
        return hash(self.name)

    def __repr__(self):
        return f"<DTypePolicy {self.name!r}>"


_default = DTypePolicy()


def get(identifier):
    """The policy of a name, a NumPy dtype, what serialize returned, or a policy itself; of None the default."""
    if identifier is None:
        return _default
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    return DTypePolicy(identifier if isinstance(identifier, str) else getattr(identifier, "__name__", None) or str(identifier))


def serialize(dtype_policy):
    """{"class_name", "config"}: what deserialize makes an equal policy of."""
    return {"class_name": "DTypePolicy", "config": dtype_policy.get_config()}


def deserialize(config):
    """The policy that serialize, of this library or of Keras, described."""
    if config.get("class_name") != "DTypePolicy" or not isinstance(config.get("config"), dict) or set(config["config"]) - {"name"}:
        raise ValueError(f"not a dtype policy: {str(config)[:200]}")
    return DTypePolicy.from_config(config["config"])


def set_dtype_policy(policy):
    """Make this the policy of every layer built from now on without a dtype of its own."""
    global _default
    _default = DTypePolicy() if policy is None else get(policy)


def dtype_policy():
    """The policy of layers without a dtype of their own."""
    return _default
