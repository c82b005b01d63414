"""Text classifiers from files: ONNX and scikit-learn."""
