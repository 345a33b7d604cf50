"""`Asked`: a question that can be asked, and what its answer has to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm_kernel.errors import EmptyQuestion

if TYPE_CHECKING:
    from rlm_kernel.assembly.answers import SchemaAnswer, TypedAnswer


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with text in it; `check` is None where any text may be the answer."""

    question: str
    check: TypedAnswer[Any] | SchemaAnswer | None = None

    @classmethod
    def of(cls, question: str, answer_type: Any = None) -> Asked:
        """Raise `EmptyQuestion`, and `ConfigError` for an `answer_type` that is neither a type nor a JSON schema."""
        if not question.strip():
            raise EmptyQuestion("the question is empty: say what you want to know about the context")
        if answer_type is None or answer_type is str:
            return cls(question)
        # The libraries that check take a while to import, and most questions need none.
        from rlm_kernel.assembly.answers import SchemaAnswer, TypedAnswer  # noqa: PLC0415

        return cls(
            question, SchemaAnswer(answer_type) if isinstance(answer_type, Mapping) else TypedAnswer(answer_type)
        )
