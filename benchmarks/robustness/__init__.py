"""What the service does under load, under attack, and when parts of it fail: run by hand."""
