"""The pages that results are written to: tables, pictures, and what was measured on what."""
