"""The serving container: SageMaker's hosting contract over batching engines."""
