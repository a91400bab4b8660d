"""P+ for ComfyUI: a text for each cross-attention layer, and concepts with a row for each layer."""

from .nodes import NAMES as NODE_DISPLAY_NAME_MAPPINGS
from .nodes import NODES as NODE_CLASS_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
