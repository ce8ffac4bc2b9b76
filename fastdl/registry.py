"""Things that are known by name and saved as {"class_name", "config"}: one table for each kind of them."""

import re


def snake_case(name):
    """GlorotUniform -> glorot_uniform, KLDivergence -> kl_divergence."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


class Configured:
    """Base of things that the arguments of their constructor describe."""

    def get_config(self):
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config):
        """One of these arguments."""
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


class Registry:
    """The classes of one kind, by their own names and by short ones.

    kind      what they are, as messages call it
    base      the class of all of them
    classes   those that can be had by name, and saved
    names     {short name: class}, beside the class names in snake_case
    wanted    what get takes beside names, for its message
    wrapped   callable -> what stands for it; without it, as it is
    """

    def __init__(self, kind, base, classes, names=None, wanted="", wrapped=None):
        self.kind, self.base, self.wanted, self.wrapped = kind, base, wanted, wrapped
        self.classes = {c.__name__: c for c in classes}
        self.names = {**{snake_case(name): c for name, c in self.classes.items()}, **(names or {})}

    def get(self, identifier):
        """One of this kind from its name, its class, its serialised form, a function that does its work, or itself; None stays None."""
        if identifier is None or isinstance(identifier, self.base):
            return identifier
        if isinstance(identifier, dict):
            return self.deserialize(identifier)
        if isinstance(identifier, str):
            found = self.classes.get(identifier) or self.names.get(identifier.lower())
            if found:
                return found()
        elif isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        elif callable(identifier):
            return self.wrapped(identifier) if self.wrapped else identifier
        raise ValueError(f"{self.kind}: {identifier!r} is not known\n  wanted: {self.wanted}, or one of {', '.join(sorted(self.names))}")

    def serialize(self, value):
        """{"class_name", "config"}: what deserialize makes an equal one of; None stays None."""
        if value is None:
            return None
        if self.classes.get(type(value).__name__) is not type(value):
            raise ValueError(f"{value!r} cannot be saved; only a {self.kind} of fastdl can")
        return {"class_name": type(value).__name__, "config": value.get_config()}

    def deserialize(self, config):
        """What serialize described."""
        if config["class_name"] not in self.classes:
            raise ValueError(f"{self.kind} {config['class_name']!r} is not known\n  wanted: one of {', '.join(self.classes)}")
        return self.classes[config["class_name"]].from_config(config["config"])
