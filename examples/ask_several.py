"""Ask about several contexts, each a variable of its own: a text, and a table from a CSV file. No key is needed."""

import tempfile
from pathlib import Path

from rlm_kernel import RLM, Contexts, Table

HERE = Path(__file__).parent
REPORT = "Orders by city: Oslo had 12, Lima had 7."


def main() -> None:
    """Print the answer."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "orders.csv"
        table.write_text("city,total\n" + "Oslo,5\n" * 11 + "Lima,4\n" * 7)
        about = Contexts(report=REPORT, orders=Table(table))
        rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'ask_several.md'}")
        print(rlm.completion("Where do report and orders differ?", about).answer)


if __name__ == "__main__":
    main()
