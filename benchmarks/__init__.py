"""How fast Turnlog is, each figure beside its baseline in the same run; imports anything, is imported by nothing."""
