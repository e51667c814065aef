"""An engine in a process of its own: client, worker, the frames between them."""
