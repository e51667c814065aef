"""Where a job runs: the target, its session, and how files get there."""
