"""The shield service: what may pass, and what becomes of the rest."""
