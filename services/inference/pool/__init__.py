"""Models with several endpoints: which one is asked, when another is, and which are left alone."""
