"""What concepts are asked to do when they are evaluated; ``{}`` is the concept's word."""

REAL = (
    "a photo of a {}",
    "a photo of a {} in the jungle",
    "a photo of a {} on a beach",
    "a photo of a {} in Times Square",
    "a photo of a {} on the moon",
    "a painting of a {} in the style of Monet",
    "an oil painting of a {}",
    "a Marc Chagall painting of a {}",
    "a manga drawing of a {}",
    "a watercolor painting of a {}",
    "a statue of a {}",
    "an app icon of a {}",
    "a sand sculpture of a {}",
    "a colorful graffiti of a {}",
    "two {} on a table",
)
"""For real models: a proxy for the paper's fifteen, of which five are known (a later paper's list)."""

POCKET_EASY = (
    "a photo of a {}",
    "a picture of a {} on a white background",
    "a {} on a grass background",
    "a {} on a night background",
    "a {} on a sand background",
    "a {} on a brick background",
    "a {} on a water background",
    "a {} on a sunset background",
    "a {} in front of a sky background",
    "a photo of a small {} with a grass background",
)
POCKET_HARD = (
    "a red {}",
    "a blue striped {}",
    "a {}, pixel art",
    "a watercolor of a {}",
    "a {} and a yellow car",
    "a {} on a night background, sketch",
)
POCKET = POCKET_EASY + POCKET_HARD
"""For the pocket, in its own vocabulary (tested). The hard third recolours, retextures, restyles, adds an object."""
