"""Big Interview's Partner API."""
