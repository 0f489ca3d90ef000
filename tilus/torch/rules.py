"""All rules: importing this registers them."""

from tilus.torch import (  # noqa: F401
    rules_activations,
    rules_creation,
    rules_elementwise,
    rules_norms,
    rules_products,
    rules_reductions,
    rules_views,
)
