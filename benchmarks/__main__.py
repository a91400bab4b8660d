"""``make bench``: what P+ costs, in generation and in training."""

from benchmarks import hooks, xti_step

hooks.main()
xti_step.main([])
