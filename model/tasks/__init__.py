"""What to forecast from which table: TOML files, and what reads them."""
