"""All rules: importing this registers them."""

from tilus.torch import (  # noqa: F401
    rules_activations,
    rules_attention,
    rules_convolution,
    rules_creation,
    rules_elementwise,
    rules_integers,
    rules_moves,
    rules_norms,
    rules_ordering,
    rules_pooling,
    rules_products,
    rules_random,
    rules_reductions,
    rules_scans,
    rules_scatter,
    rules_views,
    rules_windows,
)
