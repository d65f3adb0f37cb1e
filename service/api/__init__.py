"""Inbound HTTP. Only this folder, app.py and lifespan.py use Starlette."""
