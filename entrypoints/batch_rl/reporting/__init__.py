"""What a job leaves for people: metric files, plots, event files, log lines."""
