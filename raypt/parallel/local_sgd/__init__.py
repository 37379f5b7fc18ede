"""Local SGD with an outer optimizer (DiLoCo, Douillard et al. 2023): workers meet every so many steps."""
