"""Ask several questions in one session: variables and conversation stay. No key is needed."""

from pathlib import Path

from rlm_kernel import RLM

HERE = Path(__file__).parent


def main() -> None:
    """Print the answers."""
    rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'chat.md'}")
    with rlm.session(HERE.parent / "LICENSE") as session:
        for question in ("How many sections does the licence have?", "Which of them is the longest?"):
            print(session.ask(question).answer)


if __name__ == "__main__":
    main()
