"""What `UNROLL_RUNNER` may name: a module each, whose `load` makes the runner of a model.

A new one is a module here and its name in `app/settings.py`.
"""
