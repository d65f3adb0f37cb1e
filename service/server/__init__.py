"""How uvicorn is run: the process, its workers, and the deadlines and bounds that its protocol lacks."""
