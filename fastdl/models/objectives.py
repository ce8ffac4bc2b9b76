"""What compile was given: the losses and metrics of a model's outputs, and their sums during an epoch."""

from .. import losses as losses_module, metrics as metrics_module
from ..structure import leaves


class Objectives:
    """Losses and metrics by output.

    loss, metrics, weighted_metrics, loss_weights are as in compile: one for all outputs, a list by output, or a dict by
    the outputs' names.
    """

    def __init__(self, loss, loss_weights, metrics, weighted_metrics):
        self.given = loss, loss_weights, metrics, weighted_metrics
        self.built, self.wants_targets = False, any(given not in (None, [], {}) for given in (loss, metrics, weighted_metrics))
        self.total = metrics_module.Mean(name="loss")
        self.of_outputs, self.metrics = [], []

    def build(self, names, y_true, y_pred):
        """Resolve names, now that the outputs and targets are known. names: of the outputs."""
        loss, weights, metrics, weighted = self.given
        n = len(y_pred)
        self.losses = [None if one is None else losses_module.get(one) for one in by_output(loss, names, n, "loss")]
        self.weights = [1.0 if w is None else float(w) for w in by_output(weights, names, n, "loss_weights")]
        self.names = names
        self.metrics, taken = [], {}
        for given, is_weighted in (metrics, False), (weighted, True):
            for i, some in enumerate(_metrics_by_output(given, names, n)):
                for m in some:
                    m = metrics_module.resolve(m, _shape(y_true, i), y_pred[i].shape) if not hasattr(m, "update_state") else m
                    output = f"{names[i]}_" if n > 1 else ""
                    wanted = [f"{output}{m.name}", *[f"{output}weighted_{m.name}"] * is_weighted]
                    self.metrics.append((i, m, is_weighted, _free_name(wanted, taken)))
        if n > 1 and sum(one is not None for one in self.losses) > 1:
            self.of_outputs = [(i, metrics_module.Mean(name=f"{names[i]}_loss")) for i, one in enumerate(self.losses) if one is not None]
        self.built = True

    def all(self):
        """Every metric by its name in the logs."""
        found = {"loss": self.total}
        found.update((m.name, m) for _, m in self.of_outputs)
        if self.built:
            found.update((name, m) for _, m, _, name in self.metrics)
        return found

    def loss(self, y_true, y_pred, sample_weight, extra):
        """The sum to minimise: losses by output times their weights, plus the `extra` losses of layers. Lists by output of tensors in."""
        total, self.by_output = None, {}
        for i, (one, weight) in enumerate(zip(self.losses, self.weights)):
            if one is None:
                continue
            value = one(y_true[i], y_pred[i]) if sample_weight[i] is None else one(y_true[i], y_pred[i], sample_weight=sample_weight[i])
            self.by_output[i] = value
            if weight != 1.0:
                value = value * weight
            total = value if total is None else total + value
        for value in extra:
            total = value if total is None else total + value
        if total is None:
            raise ValueError("compile: no loss was given, and no layer adds one; give compile(loss=…)")
        return total

    def update(self, loss, y_true, y_pred, sample_weight, batch):
        """Add a batch to the running totals."""
        self.total.update_state(loss, sample_weight=batch)
        for i, mean in self.of_outputs:
            mean.update_state(self.by_output[i], sample_weight=batch)
        for i, m, weighted, _ in self.metrics:
            if isinstance(m, metrics_module.Mean) and type(m) is metrics_module.Mean:
                m.update_state(y_pred[i])
            elif weighted and sample_weight[i] is not None:
                m.update_state(y_true[i], y_pred[i], sample_weight=sample_weight[i])
            else:
                m.update_state(y_true[i], y_pred[i])

    def reset(self):
        """Begin the totals anew."""
        for m in self.all().values():
            m.reset_state()

    def logs(self):
        """The running values as a dict of floats, by name as in Keras."""
        return {name: m.value() if hasattr(m, "value") else float(m.result()) for name, m in sorted(self.all().items())}

    def listed(self):
        """The running values in the order of the metrics; without a list where there is only one."""
        if not self.of_outputs and not self.metrics:
            return self.total.value()
        values = [m.value() if hasattr(m, "value") else float(m.result()) for m in self.all().values()]
        return values[0] if len(values) == 1 else values

    def variables(self):
        """The tensors that hold the totals."""
        return [v for m in self.all().values() for v in m.variables]


def _free_name(wanted, taken):
    """The first of the wanted names that is not taken, else the last with a number, as Keras counts them. taken: {name: how often}."""
    name = next((name for name in wanted if name not in taken), wanted[-1])
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}_{taken[name] - 1}"


def _shape(y_true, i):
    return None if y_true[i] is None else y_true[i].shape


def by_output(given, names, n, what):
    """What was given for all outputs, as a list or as a dict, as a list by output."""
    if isinstance(given, dict):
        unknown = set(given) - set(names)
        if unknown:
            raise ValueError(f"{what}: names {sorted(unknown)}; the outputs are {names}")
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != n:
            raise ValueError(f"{what}: has {len(given)} entries, the model {n} outputs")
        return list(given)
    return [given] * n


def _metrics_by_output(given, names, n):
    if given is None:
        return [[]] * n
    if isinstance(given, dict):
        return [_listed(one) for one in by_output(given, names, n, "metrics")]
    if n > 1 and isinstance(given, (list, tuple)) and any(isinstance(m, (list, tuple)) or m is None for m in given):
        return [_listed(one) for one in by_output(given, names, n, "metrics")]
    if n > 1 and len(leaves(list(given))) == n:
        return [[m] for m in given]
    return [_listed(given)] + [[]] * (n - 1) if n == 1 else [list(given)] * n


def _listed(one):
    return [] if one is None else list(one) if isinstance(one, (list, tuple)) else [one]
