"""The host project's app: what it stores, shows, and does with the vendors' events."""
