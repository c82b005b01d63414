"""The edge: what the world calls. It trusts nothing from outside and decides nothing about content."""
