"""Ask something else where an earlier run had come to: its cells run again, and it is not paid for again."""

from pathlib import Path

from rlm_kernel import RLM

HERE = Path(__file__).parent


def main() -> None:
    """Print both answers, and what the second one took."""
    scripts = HERE / "scripts"
    run = RLM(f"scripted:{scripts / 'chat.md'}").completion("How many sections are there?", HERE.parent / "LICENSE")
    print(run.answer)
    fork = RLM(f"scripted:{scripts / 'fork_a_run.md'}", f"scripted:{scripts / 'fork_a_run.md'}").fork(
        run.recording, at=1, question="Which of them is the shortest?"
    )
    print(fork.answer)
    print(f"calls: {sum(usage.calls for usage in fork.usage.values())}")


if __name__ == "__main__":
    main()
