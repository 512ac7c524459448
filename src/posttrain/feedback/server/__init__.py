"""The annotation page: a small server over one ledger. Every handler is a function of a `Call`; `app.py` lists them."""
