"""The update rules. Names, arguments, defaults and formulas are those of Keras 3."""

from ..tensor import kernels
from .optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: w -= learning_rate g; with momentum: v = momentum v - learning_rate g, w += v
    (nesterov: w += momentum v - learning_rate g)."""

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=None, clipnorm=None, clipvalue=None,
                 global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, name=None):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, name)
        if not 0 <= momentum <= 1:
            raise ValueError(f"SGD: momentum must lie between 0 and 1, not {momentum}")
        self.momentum, self.nesterov = float(momentum), nesterov

    def slots(self):
        return ("momentum",) if self.momentum else ()

    def update_run(self, parameter, slots, gradient, *, iterations, learning_rate, scale, **sizes):
        """Update one run of numbers."""
        kernels.sgd(parameter, slots[0] if slots else None, gradient, learning_rate, scale,
                    nesterov=int(self.nesterov), momentum=self.momentum, **sizes)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """v = rho v + (1 - rho) g^2, w -= learning_rate g / sqrt(v + epsilon); centered: v less the square of the mean gradient.
    (Hinton, 2012.)"""

    def __init__(self, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, weight_decay=None, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, name=None):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, name)
        self.rho, self.momentum, self.epsilon, self.centered = rho, momentum, epsilon, centered

    def slots(self):
        return ("velocity",) + ("momentum",) * (self.momentum > 0) + ("average_gradient",) * bool(self.centered)

    def update_run(self, parameter, slots, gradient, *, iterations, learning_rate, scale, **sizes):
        """Update one run of numbers."""
        slots = dict(zip(self.slots(), slots))
        kernels.rmsprop(parameter, slots["velocity"], slots.get("momentum"), slots.get("average_gradient"), gradient, learning_rate,
                        scale, rho=self.rho, momentum_rate=self.momentum, epsilon=self.epsilon, **sizes)

    def get_config(self):
        return {**super().get_config(), "rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon, "centered": self.centered}


class Adam(Optimizer):
    """m += (1 - beta_1)(g - m), v += (1 - beta_2)(g^2 - v), w -= alpha m / (sqrt(v) + epsilon) with
    alpha = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t); amsgrad: the largest v so far. (Kingma and Ba, 2014.)"""

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, weight_decay=None, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, name=None):
        super().__init__(learning_rate, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema, ema_momentum,
                         ema_overwrite_frequency, name)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad

    def slots(self):
        return ("momentum", "velocity") + ("velocity_hat",) * bool(self.amsgrad)

    def update_run(self, parameter, slots, gradient, *, learning_rate, iterations, scale, **sizes):
        """Update one run of numbers."""
        momentum, velocity, *hat = slots
        kernels.adam(parameter, momentum, velocity, hat[0] if hat else None, gradient, learning_rate, iterations, scale,
                     beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon, **sizes)

    def update_rows(self, parameter, slots, gradient, *, learning_rate, iterations, **sizes):
        """Update a table."""
        momentum, velocity, *hat = slots
        arrays, of_rows = gradient
        kernels.adam_of_rows(parameter, momentum, velocity, hat[0] if hat else None, *arrays, learning_rate, iterations, size=of_rows["size"],
                             inner=of_rows["inner"], count=of_rows["count"], beta_1=self.beta_1, beta_2=self.beta_2, epsilon=self.epsilon, **sizes)

    def get_config(self):
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "amsgrad": self.amsgrad}


class AdamW(Adam):
    """Adam with weight decay: w -= learning_rate weight_decay w before each update. (Loshchilov and Hutter, 2019.)"""

    def __init__(self, learning_rate=0.001, weight_decay=0.004, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, clipnorm=None,
                 clipvalue=None, global_clipnorm=None, use_ema=False, ema_momentum=0.99, ema_overwrite_frequency=None, name=None):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, clipnorm, clipvalue, global_clipnorm, use_ema,
                         ema_momentum, ema_overwrite_frequency, name)
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, not None")
