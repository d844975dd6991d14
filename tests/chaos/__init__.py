"""A host app for the chaos tests: receivers that count, and one that misbehaves if the event's title asks for it."""
