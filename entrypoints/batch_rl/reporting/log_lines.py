"""The log lines of an episode, in Coach's words: metric definitions of notebooks read numbers out of them."""

from datetime import datetime


def now() -> str:
    """Return the time as the log lines show it."""
    return datetime.now().strftime("%Y-%m-%d %H:%M:%S")


def episode_line(phase: str, *, episode: int, reward: float, exploration: float, steps: int, updates: int) -> str:
    """Return the line of an episode of ``phase``: Heatup, Training or Testing."""
    return (
        f"{phase}> {now()}, Name=main_level/agent, Worker=0, Episode={episode}, Total reward={reward:g}, "
        f"Exploration={exploration:g}, Steps={steps}, Training iteration={updates}"
    )


def evaluation_line(success_rate: float, mean_reward: float) -> str:
    """Return the line that ends an evaluation."""
    return f"## agent: Finished evaluation phase. Success rate = {success_rate:g}, Avg Total Reward = {mean_reward:.2f}"
