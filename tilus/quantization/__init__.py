"""Quantisation of weights on the host: numbers to codes of a narrow type with scales and zero points, and back."""

from tilus.quantization.formats import (
    QuantFormat,
    mxfp4,
    mxfp6e2m3,
    mxfp6e3m2,
    mxfp8e4m3,
    mxfp8e5m2,
    mxint8,
    nvfp4,
    qlora,
)
from tilus.quantization.quantize import dequantize, gptq, quantize
from tilus.quantization.quantized import Quantized
from tilus.quantization.weights import load_weights, save_weights

__all__ = [
    "QuantFormat", "Quantized", "dequantize", "gptq", "load_weights", "mxfp4", "mxfp6e2m3", "mxfp6e3m2", "mxfp8e4m3",
    "mxfp8e5m2", "mxint8", "nvfp4", "qlora", "quantize", "save_weights",
]
