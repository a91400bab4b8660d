"""How well pictures match what was asked: judges that look at them, metrics that count."""
