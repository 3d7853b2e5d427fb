"""Training jobs: a queue in the store, a detached runner for each job, launchers, and what the page asks of them.

The app is never the parent of training: it can die and come back, and finds its jobs as they are.
"""
