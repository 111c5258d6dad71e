"""Text-to-image GANs with contrastive learning, in JAX."""
__version__ = '0.1.0'
