"""Using a trained network: images in, labels, attention pictures and ONNX out."""
