"""One turn: shields beside the model, release, account."""
