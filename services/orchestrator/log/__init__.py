"""The turn log: the events of each turn as they were released, to resume, fetch and audit turns from."""
