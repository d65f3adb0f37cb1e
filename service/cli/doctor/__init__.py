"""``python -m service doctor``: one file per thing that is checked, and how findings are collected and printed."""
