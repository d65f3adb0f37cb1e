"""Inbound HTTP: the only folder, with app.py, that knows Starlette."""
