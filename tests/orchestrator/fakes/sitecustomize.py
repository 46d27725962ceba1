"""Loaded by every Python process of a test that has this folder on PYTHONPATH: the engine becomes the fake one."""

from fake_trainer import open_fake_sampler

from eval import engines

engines.open_sampler = open_fake_sampler
