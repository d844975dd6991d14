"""Template tags for host projects."""
