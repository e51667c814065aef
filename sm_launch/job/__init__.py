"""The job: job.yaml, and what follows from it without asking anybody."""
