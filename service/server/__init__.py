"""Runs uvicorn: the process, its workers, and the deadlines and limits that uvicorn's protocol lacks."""
