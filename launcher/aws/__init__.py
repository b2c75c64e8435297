"""The local AWS endpoint: SageMaker and SageMaker Runtime on one port with S3, and a few services that clients need."""
