"""The machine below: the driver's CUDA, a read-only disk, a process that starts anew."""
