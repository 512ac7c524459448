"""UNIMARC bibliographic records: read, validate, grade, reward, corrupt."""

from posttrain.rewards.unimarc.record import (
    Field,
    Record,
    RecordError,
    control,
    data,
    from_lines,
    from_marcxml,
    from_text,
    read,
    to_lines,
    to_marcxml,
    to_text,
)

__all__ = [
    "Field",
    "Record",
    "RecordError",
    "control",
    "data",
    "from_lines",
    "from_marcxml",
    "from_text",
    "read",
    "to_lines",
    "to_marcxml",
    "to_text",
]
