"""Ask about a JSON value, with limits of one's own. No key is needed."""

from pathlib import Path

from rlm_kernel import RLM
from rlm_kernel.config import Settings
from rlm_kernel.types import JSON

HERE = Path(__file__).parent
ORDERS: JSON = [
    {"city": ("Oslo", "Rome", "Lima")[number % 3], "total": number % 50 + number % 3} for number in range(9000)
]


def main() -> None:
    """Print the answer."""
    settings = Settings(model=f"scripted:{HERE / 'scripts' / 'ask_a_value.md'}", memory=512 * 2**20, cell_timeout=20)
    print(RLM(settings=settings).completion("Which city has the highest total?", ORDERS).answer)


if __name__ == "__main__":
    main()
