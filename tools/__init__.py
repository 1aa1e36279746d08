"""What those who change Unroll run by hand; nothing of the service or of training needs it."""
