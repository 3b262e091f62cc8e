"""The language model: what it is, its training, and the integers that code text.

config.py, model_config.py, export_config.py, presets.py, configs/   models and runs, as data
train.py, build.py, golf.py                                          the commands

data/         corpora and tokenizers to shards of tokens
floats/       the graph in torch
training/     what the loop of train.py is made of
conversion/   from floats to integers, and back
integers/     the same graph in exact integers, on a CPU (docs/NUMERICS.md)
gpu/          the same integers with torch and Triton (docs/GPU.md)
"""
