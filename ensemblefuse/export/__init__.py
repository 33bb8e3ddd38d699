"""Export of models to ONNX, which runs without Python."""

from ensemblefuse.export._encoder import export_encoder_onnx
from ensemblefuse.export._export import export_onnx
from ensemblefuse.export._support import onnx_support

__all__ = ["export_encoder_onnx", "export_onnx", "onnx_support"]
