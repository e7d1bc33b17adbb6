"""Evaluation beside training: find checkpoints, evaluate each on the cluster, keep a learning curve, block nobody.

Training only ever writes files (`client`); a service reads them and runs every evaluation in a process of its own
(`service`, `evaluate`). Importing this package imports nothing else, because training imports it.
"""
