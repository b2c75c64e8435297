"""The queues of AWS Batch for training jobs: which service job is next, and who starts it."""
