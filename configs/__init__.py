"""Presets, installed as `rlnorm.configs`; each holds only what differs from the defaults."""
