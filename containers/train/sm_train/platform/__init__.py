"""The machine below: devices, network, signals, the failure file, the user's own script."""
