"""The blinded user study: people compare pictures of several methods, and the votes decide."""
