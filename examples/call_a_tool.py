"""Offer a function of your own to the cells: it runs here, on the host, and only it does. No key is needed."""

from pathlib import Path

from rlm_kernel import RLM, ToolError

HERE = Path(__file__).parent
DEGREES = {"Oslo": -3.5, "Rome": 14.0, "Lima": 9.0}


def temperature(city: str) -> float:
    """Return today's temperature of a city, in degrees Celsius."""
    if city not in DEGREES:
        raise ToolError(f"there is no weather station in {city}")
    return DEGREES[city]


def main() -> None:
    """Print the answer."""
    rlm = RLM(model=f"scripted:{HERE / 'scripts' / 'call_a_tool.md'}", tools=[temperature])
    print(rlm.completion("How warm is it where the letter was written?", "Lima, in March. Dear friend, …").answer)


if __name__ == "__main__":
    main()
