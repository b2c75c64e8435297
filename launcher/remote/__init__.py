"""Jobs that run elsewhere: the requests of AWS, sent to AWS itself or to another machine's local AWS."""
