"""Rewards: functions of (records, texts) that give one number for each text."""
