"""Jobs that run and end: training, tuning, processing; started, followed, stopped."""
