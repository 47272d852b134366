"""One network and its training, given a configuration.

Importing this package (and `model.config`) does not import torch: a worker's
parent process, which only talks to the database, stays small.
"""
