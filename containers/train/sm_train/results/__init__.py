"""What a job leaves: scores, the artefact and its export, the report."""
