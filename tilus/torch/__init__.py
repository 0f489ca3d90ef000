"""tilus for PyTorch: ``torch.compile(model, backend="tilus")``. This imports torch, which ``import tilus`` does not."""

from torch._dynamo import list_backends, register_backend

from tilus.torch.backend import backend
from tilus.torch.custom import custom_op
from tilus.torch.explain import explain
from tilus.torch.patterns import replace

if "tilus" not in list_backends(None):  # where the package is installed, it is among the entry points
    register_backend(backend, name="tilus")

__all__ = ["backend", "custom_op", "explain", "replace"]
