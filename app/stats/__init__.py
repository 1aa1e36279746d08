"""What the workers of a service count, in one file that all of them share."""
