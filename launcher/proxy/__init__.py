"""``launcher exec``: programs written for real AWS reach the local one by AWS's own names, and the real one never."""
