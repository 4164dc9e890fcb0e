"""Options of what trains: the same explanation wherever they stand, and what Fabric says is kept back."""

from __future__ import annotations

import logging

import pytest

from uptake.cli.main import app
from uptake.cli.options_training import given, hush_fabric


def test_only_named_options_change_a_preset():
    assert given(steps=3, seed=0, window=None, body_only=False) == {"steps": 3, "seed": 0, "body_only": False}


def test_fabric_says_no_more_than_warnings():
    logger = logging.getLogger("lightning_fabric")
    before = logger.level
    try:
        logger.setLevel(logging.INFO)
        hush_fabric()
        assert not logger.isEnabledFor(logging.INFO) and logger.isEnabledFor(logging.WARNING)
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    "verb", ["train", "pretrain lesiontracer", "pretrain petct_mae", "finetune", "probe", "label-curve"]
)
def test_every_option_of_what_trains_is_explained(verb):
    command = app
    for word in verb.split():
        command = command[word]
    silent = [a.names[0] for a in command.assemble_argument_collection(parse_docstring=True) if not a.parameter.help]
    assert not silent
