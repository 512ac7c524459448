"""Pure tensor formulas that two or more methods share. Each returns values per example and never reduces over a batch."""
