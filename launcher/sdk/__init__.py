"""What users call, by the names of the SageMaker Python SDK."""
