"""Played episodes as animated GIFs, under the names that Coach gives them."""

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from batch_rl.acting.rollout import Player
from batch_rl.data.episodes import Episode
from batch_rl.errors import PresetError, install_command
from batch_rl.files import write_atomically

EVERY_STEPS, FRAME_MILLISECONDS = 2, 40  # about the speed of a clock for the classic environments, 50 steps a second


def check_rendering(name: str) -> None:
    """Refuse to draw episodes where something is missing for it, before any is played.

    Raises:
        PresetError: naming what is missing.
    """
    try:
        import PIL.Image  # noqa: F401 - found out here, and not after all episodes
        import pygame  # noqa: F401
    except ImportError as error:
        raise PresetError(
            f"evaluation.gifs needs {error.name}, which is not installed here. Run as a process, and "
            f"install it there: {install_command('gif')}; or set evaluation.gifs to 0."
        ) from error
    if "rgb_array" not in Player(name, 0, 0, time_limit=True).environment.metadata.get("render_modes", []):
        raise PresetError(f"evaluation.gifs: '{name}' cannot be drawn; set it to 0.")


def write_gifs(folder: Path, name: str, seed: int, episodes: Sequence[Episode]) -> list[Path]:
    """Play episodes 0, 1, ... again, action by action, and write what they looked like.

    Args:
        folder: made if it is not there.
        name, seed: of the environment that they were played in by ``play_episodes`` or ``play_steps``.
        episodes: the first ones.
    """
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, episode in enumerate(episodes):
        player = Player(name, seed, number, time_limit=True, render_mode="rgb_array")
        player.reset()
        frames = [player.environment.render()]
        for step, action in enumerate(episode.actions.tolist(), start=1):
            player.step(action)
            if step % EVERY_STEPS == 0 or step == len(episode.actions):
                frames.append(player.environment.render())
        player.environment.close()
        images = [Image.fromarray(frame).convert("P", palette=Image.Palette.ADAPTIVE, colors=32) for frame in frames]
        animation = io.BytesIO()
        images[0].save(
            animation, format="GIF", save_all=True, append_images=images[1:], duration=FRAME_MILLISECONDS, loop=0
        )
        time = datetime.now().strftime("%Y-%m-%d-%H-%M-%S")
        paths.append(folder / f"{time}_episode-{number + 1}_score-{episode.total_reward:g}.gif")
        _write(paths[-1], animation.getvalue())
    return paths


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
