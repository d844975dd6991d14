"""The doing part: who is at the door, receiving, dispatching."""
