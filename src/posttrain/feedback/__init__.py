"""Human feedback: the preference ledger, its queues, the annotation page, agreement, and labels with error bars.

A side room: it works with groups and connections, never with a trainer. `jobs/annotate.py` and its neighbours join it to the rest.
"""
