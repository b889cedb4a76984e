"""Training of variants, refiner and fold classifier."""
