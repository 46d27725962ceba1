"""What identifies a training: `Recipe` bears identity, `Resources` never does.

The sections of `Recipe` are the Hydra groups of `experiments/`: `algorithm.clip_low` in a YAML is
`recipe.algorithm.clip_low` here, and the keys of the group `recipe/` are Recipe's own plain fields.
Ranges are checked in `__post_init__`; combinations that mean nothing are rejected there too.
"""

from trainers.recipe.algorithm import Algorithm
from trainers.recipe.recipe import Data, Model, Recipe
from trainers.recipe.resources import Resources
from trainers.recipe.selection import Selection

__all__ = ["Algorithm", "Data", "Model", "Recipe", "Resources", "Selection"]
