"""What a run that fails looks like: errors are classes, and a failing cell is something the model can mend."""

import tempfile
from pathlib import Path

from rlm_kernel import RLM
from rlm_kernel.errors import ContextNotFound, ScriptExhausted

SCRIPT = """
--- turn ---
```repl
print(1 / 0)
```
--- turn ---
```repl
print("mended, but without an answer")
```
"""


def main() -> None:
    """Print two failures, each with its message."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.md"
        script.write_text(SCRIPT)
        rlm = RLM(model=f"scripted:{script}")
        for context in (Path(folder) / "no-such-file.txt", "some text"):
            try:
                rlm.completion("Why?", context)
            except (ContextNotFound, ScriptExhausted) as error:
                print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
