"""Training of variants, second levels and fold classifier."""
