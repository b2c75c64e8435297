"""Processing jobs: a program over data, with folders in and folders out."""
