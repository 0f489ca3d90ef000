"""How PTX calls the scopes of memory operations."""

from __future__ import annotations

PTX_SCOPES = {"block": "cta", "cluster": "cluster", "device": "gpu", "system": "sys"}
