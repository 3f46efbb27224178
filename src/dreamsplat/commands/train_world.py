"""`dreamsplat train-world`: train the bundled models, or continue training them."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from dreamsplat.commands.flags import flag_errors_in_one_line


def train_world(arguments: Sequence[str]) -> int:
    """`dreamsplat train-world`: train a bundled model for a session, and print the path of its weights."""
    from dreamsplat.world.training.session import ImageTraining, VolumeTraining, train_image, train_volume

    with flag_errors_in_one_line("train-world"):
        args = tyro.extras.subcommand_cli_from_dict(
            {"image": ImageTraining, "volume": VolumeTraining},
            args=arguments,
            prog="dreamsplat train-world",
            description="Train a bundled model, or continue its training: image (2D) or volume (3D).",
            config=(tyro.conf.OmitArgPrefixes,),
        )
    print(train_image(args) if isinstance(args, ImageTraining) else train_volume(args))
    return 0
