"""The servers Unroll is measured against, one file each; they import neither `app` nor `model`."""
