"""Dtype policies under the names that Keras gives them here."""

from .dtype_policies import DTypePolicy, dtype_policy, set_dtype_policy

Policy, global_policy, set_global_policy = DTypePolicy, dtype_policy, set_dtype_policy
