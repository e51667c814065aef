"""What an endpoint does: series of its metrics, alarms, captured requests, drift, the report."""
