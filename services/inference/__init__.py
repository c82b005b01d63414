"""The inference service: models, the backends that run them, and who may use them when."""
