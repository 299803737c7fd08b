"""One self-contained HTML page from plain data: no script, no request, pictures inside."""
