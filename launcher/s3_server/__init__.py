"""The S3 that is built in: objects as files and one index, and a server in front of them."""
