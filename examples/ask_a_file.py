"""Ask about a file: a scripted root model writes the code, a small local model reads the pieces. No key is needed."""

from pathlib import Path

from rlm_kernel import RLM

HERE = Path(__file__).parent


def main() -> None:
    """Print the answer and what it took."""
    rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'ask_a_file.md'}", sub_model="local:smollm2")
    result = rlm.completion("What are the licence's sections about?", HERE.parent / "LICENSE")
    print(result.answer)
    for model, usage in result.usage.items():
        print(f"{model}: {usage.calls} calls, {usage.input_tokens} tokens in, {usage.output_tokens} out")


if __name__ == "__main__":
    main()
