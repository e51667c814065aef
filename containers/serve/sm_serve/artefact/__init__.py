"""What lies in the model directory, or on the Hub: files, adapters, sizes."""
