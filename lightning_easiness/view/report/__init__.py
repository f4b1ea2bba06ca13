"""The report: what a record shows, as one HTML page that needs no network."""
