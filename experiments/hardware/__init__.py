"""R1-Zero on GSM8K for free and small hardware, one file a machine."""
