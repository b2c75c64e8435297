"""The stages of a job with hosts, a class each, in the order of the job."""
