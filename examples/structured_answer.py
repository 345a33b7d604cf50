"""Get an answer as an object of a type: the first one does not fit and is mended. No key is needed."""

from pathlib import Path

from pydantic import BaseModel

from rlm_kernel import RLM

HERE = Path(__file__).parent


class Licence(BaseModel):
    """What is asked for."""

    name: str
    version: float
    sections: list[str]


def main() -> None:
    """Print parts of the answer."""
    rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'structured_answer.md'}")
    result = rlm.completion("Which licence is this?", HERE.parent / "LICENSE", answer_type=Licence)
    print(result.value.name, result.value.version, len(result.value.sections))  # type checkers know the type


if __name__ == "__main__":
    main()
