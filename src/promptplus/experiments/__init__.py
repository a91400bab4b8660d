"""The studies, one file for each subject: what layers decide, where they look, and what trained rows can do."""
