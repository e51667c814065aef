"""Training container code: what `train` runs under the SageMaker training toolkit."""
