"""Instruction and answer from a model's text, in four languages: exactly one of each marker, in order, both with content; else nothing."""

from __future__ import annotations

import re

MARKS = {
    "question": r"Instruction|Question|Инструкция|Вопрос|指令|问题",
    "answer": r"Response|Answer|Réponse|Ответ|回答|答案",
}
_LINE = r"^[ \t]*(?:#+[ \t]*)?[*_]{{0,2}}(?:{})[*_]{{0,2}}[ \t]*[:：]?[*_]{{0,2}}[ \t]*"
_QUESTION = re.compile(_LINE.format(MARKS["question"]), re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(_LINE.format(MARKS["answer"]), re.IGNORECASE | re.MULTILINE)


def parse_instruction_response(text: str) -> tuple[str, str] | None:
    """(instruction, answer), or None.

    >>> parse_instruction_response("Instruction: Name a fruit.\\nResponse: Pear.")
    ('Name a fruit.', 'Pear.')
    >>> parse_instruction_response("**指令**：说出一种水果。\\n**回答**：梨。")
    ('说出一种水果。', '梨。')
    """
    asked, said = list(_QUESTION.finditer(text)), list(_ANSWER.finditer(text))
    if len(asked) != 1 or len(said) != 1 or asked[0].start() > said[0].start():
        return None
    question, answer = text[asked[0].end() : said[0].start()].strip(), text[said[0].end() :].strip()
    return (question, answer) if question and answer else None
