"""Rows: from files and the Hub, through formats and cells, to splits."""
