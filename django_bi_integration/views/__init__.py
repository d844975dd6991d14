"""HTTP in, HTTP out; what to do is decided elsewhere."""
