"""The shield `injection`: a linear model over the words and letters of a window, and small enough to be here."""
