"""Evaluation beside training: every checkpoint is found and evaluated, and training is never delayed.

Training only ever writes files (`training`); a service reads them (`checkpoints`), keeps a journal (`backlog`), runs
every evaluation in a process of its own (`evaluation`) and publishes the results (`learning_curve`). Importing this
package imports nothing else, because training imports it.
"""
