"""The exported folder: SavedModel and manifest, whole or not at all."""
