"""``make bench``: what P+ costs."""

from benchmarks import hooks

hooks.main()
