"""Pure forward functions, their configs and partition tables."""
