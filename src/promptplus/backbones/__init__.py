"""Kinds of denoisers: U-Nets, and diffusion transformers with a cross-attention layer in every block."""
