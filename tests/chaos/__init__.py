"""A host app for the chaos tests: receivers that count, and one that does harm when an event's title says so."""
