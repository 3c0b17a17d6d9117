"""Bodies of scoring requests: valid, odd and broken ones, for each model."""

import io
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


class Body(NamedTuple):
    """A request's body and Content-Type."""

    name: str
    content: bytes
    media_type: str = JSON


def texts(media_type: str, *contents: str) -> list[Body]:
    return [Body(content, content.encode("utf-8", "surrogatepass"), media_type) for content in contents]


def values(*given: str) -> list[Body]:
    """Values of `a` in each format of JSON, beside a valid `b` and `c`."""
    bodies: list[Body] = []
    for value in given:
        bodies += texts(
            JSON,
            f'{{"dataframe_split": {{"columns": ["a", "b", "c"], "data": [[{value}, 1, 2.5]]}}}}',
            f'{{"dataframe_records": [{{"a": {value}, "b": 1, "c": 2.5}}]}}',
            f'{{"instances": [{{"a": {value}, "b": 1, "c": 2.5}}]}}',
            f'{{"inputs": [{{"a": {value}, "b": 1, "c": 2.5}}]}}',
            f'{{"inputs": {{"a": [{value}, 1.5], "b": [1, 1], "c": [2.5, 0]}}}}',
        )
    return bodies


LAYOUTS = texts(
    JSON,
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[0.5, -1, 2], [1, 2, 3]]}}',
    '{"dataframe_split": {"data": [[0.5, -1, 2], [1, 2, 3]], "columns": ["a", "b", "c"], "index": [7, "x"]}}',
    '{"dataframe_split": {"index": null, "columns": ["c", "a", "b"], "data": [[0.5, -1, 2], [1, 2, 3]]}}',
    '{"dataframe_split": {"columns": ["x", "c", "a", "b"], "data": [[{}, 0.5, -1, 2], [[1, "t"], 1, 2, 3]]}}',
    '{"dataframe_split": {"columns": ["a", "b"], "data": [[0.5, -1]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "b", "c"], "data": [[0.5, -1, 2, 3]]}}',
    '{"dataframe_split": {"columns": ["x", "x", "a", "b", "c"], "data": [[0, 0, 0.5, -1, 2]]}}',
    '{"dataframe_split": {"data": [[0.5, -1, 2]]}}',
    '{"dataframe_split": {"columns": null, "data": [[0.5, -1, 2]]}}',
    '{"dataframe_split": {"columns": [0, 1, 2], "data": [[0.5, -1, 2]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": []}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], [4, 5]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2], [4, 5]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3, 4]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [1, 2, 3]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3], 4]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": 5}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": "x"}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": {"a": [1], "b": [2], "c": [3]}}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [{"a": 1, "b": 2, "c": 3}]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[[1], 2, 3]]}}',
    '{"dataframe_split": {"columns": "abc", "data": [[1, 2, 3]]}}',
    '{"dataframe_split": {"columns": 5, "data": [[1, 2, 3]]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]], "dtype": "float"}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]], "index": [1, 2]}}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]], "index": 5}}',
    '{"dataframe_split": [[1, 2, 3]]}',
    '{"dataframe_split": "x"}',
    '{"dataframe_split": null}',
    '{"dataframe_split": {}}',
    '{"dataframe_records": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2, "c": 3}]}',
    '{"dataframe_records": [{"c": 0.5, "a": -1, "b": 2}, {"b": 1, "c": 2, "a": 3}]}',
    '{"dataframe_records": [{"c": 0.5, "a": -1, "x": {"y": []}, "b": 2}]}',
    '{"dataframe_records": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2}]}',
    '{"dataframe_records": [{"a": 0.5, "b": -1, "c": 2}, {}]}',
    '{"dataframe_records": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2, "c": 3, "x": 4}]}',
    '{"dataframe_records": [{"a": 0.5, "b": -1}]}',
    '{"dataframe_records": [{"A": 0.5, "b": -1, "c": 1}]}',
    '{"dataframe_records": [{"a": 1, "a": 2, "b": 1, "c": 2.5}]}',
    '{"dataframe_records": [{}]}',
    '{"dataframe_records": []}',
    '{"dataframe_records": [5]}',
    '{"dataframe_records": ["x"]}',
    '{"dataframe_records": [null]}',
    '{"dataframe_records": [[1, 2, 3]]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}, 5]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}, [1]]}',
    '{"dataframe_records": {"a": [1], "b": [2], "c": [3]}}',
    '{"dataframe_records": {"a": 1, "b": 2, "c": 3}}',
    '{"dataframe_records": 5}',
    '{"dataframe_records": null}',
    '{"instances": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2, "c": 3}]}',
    '{"instances": [{"c": 0.5, "a": -1, "b": 2, "x": "y"}]}',
    '{"instances": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2}]}',
    '{"instances": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2, "c": 3, "x": 4}]}',
    '{"instances": [{"a": 0.5, "b": -1}]}',
    '{"instances": [{"a": [0.5], "b": [-1], "c": [2]}]}',
    '{"instances": [{"a": [0.5, [1]], "b": [-1], "c": [2]}]}',
    '{"instances": [{"a": 0.5, "b": -1, "c": {"d": 1}}]}',
    '{"instances": [{"a": 0.5, "b": -1, "c": 2}, 5]}',
    '{"instances": [5, {"a": 0.5, "b": -1, "c": 2}]}',
    '{"instances": {"a": [0.5, 1], "b": [1, 2], "c": [1, 2]}}',
    '{"instances": {"a": [0.5, 1], "b": [1, 2], "c": [1]}}',
    '{"instances": {"a": 0.5, "b": 1, "c": 1}}',
    '{"instances": [[0.5, -1, 2], [1, 2, 3]]}',
    '{"instances": [[1, 2, 3], [1, 2, 16777217]]}',
    '{"instances": [[0.5, -1, 2], [1, 2]]}',
    '{"instances": [[0.5, -1], [1, 2]]}',
    '{"instances": [[[0.5, -1, 2], [1, 2, 3]]]}',
    '{"instances": [["x", -1, 2]]}',
    '{"instances": [["1.5", -1, 2]]}',
    '{"instances": [[null, -1, 0.1]]}',
    '{"instances": [[NaN, -1, 0.1], [Infinity, 2, 3]]}',
    '{"instances": [[true, -1, 0.1]]}',
    '{"instances": [[true, false, true]]}',
    '{"instances": [0.5, -1, 2]}',
    '{"instances": []}',
    '{"instances": [[]]}',
    '{"instances": 5}',
    '{"instances": "x"}',
    '{"instances": null}',
    '{"instances": {}}',
    '{"inputs": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2, "c": 3}]}',
    '{"inputs": [{"b": 0.5, "c": -1, "a": 2, "x": [1]}]}',
    '{"inputs": [{"a": 0.5, "b": -1, "c": 2}, {"a": 1, "b": 2}]}',
    '{"inputs": [{"a": 0.5, "b": -1}]}',
    '{"inputs": [{"a": [0.5], "b": [-1], "c": [2]}]}',
    '{"inputs": [{"a": 0.5, "b": -1, "c": 2}, 5]}',
    '{"inputs": {"a": [0.5, 1], "b": [1, 2], "c": [1, 2]}}',
    '{"inputs": {"c": [0.5, 1], "b": [1, 2], "a": [1, 2], "x": [3, 4]}}',
    '{"inputs": {"a": [0.5, 1], "b": [1, 2], "c": [1]}}',
    '{"inputs": {"a": [0.5, 1], "b": [1, 2]}}',
    '{"inputs": {"a": [0.5, 1], "b": 1, "c": 2}}',
    '{"inputs": {"a": [], "b": [], "c": []}}',
    '{"inputs": {"a": 0.5, "b": 1, "c": null}}',
    '{"inputs": {"a": [[0.5], [1]], "b": [[1], [2]], "c": [[1], [2]]}}',
    '{"inputs": {"a": [[0.5], 1], "b": [1, 2], "c": [1, 2]}}',
    '{"inputs": {"a": {"0": 1}, "b": {"0": 1}, "c": {"0": 1}}}',
    '{"inputs": [[0.5, -1, 2], [1, 2, 3]]}',
    '{"inputs": [[0.1, -1, 2], ["x", 2, 3]]}',
    '{"inputs": [0.5, -1, 2]}',
    '{"inputs": []}',
    '{"inputs": {}}',
    '{"inputs": 5}',
    '{"inputs": "x"}',
    '{"inputs": true}',
)
"""Every format, its columns and rows in every order, number and nesting."""

BROKEN = texts(
    JSON,
    "", " ", "{", "[]", "[[1, 2, 3]]", "5", '"x"', "null", "{}", '{"a": 1}', "not JSON", '{"inputs": [1,]}',
    "{'inputs': [1]}", '{"inputs": [[1, 2, 3]]', '{"inputs": [[01, 2, 3]]}', '{"inputs": [[.5, 2, 3]]}',
    '{"inputs": [[1, 2, 3]]} x', '{"inputs": [[1, 2, 3]]}{}', '{"inputs": [[1, 2, +3]]}', '{"inputs": [[1, 2, nan]]}',
    '{"inputs": {"a": 1, "b": 2, "c": 3}, "instances": [[1, 2, 3]]}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}, "dataframe_records": []}',
    '{"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}, "x": [1, {"y": NaN}]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}], "dataframe_records": [{"a": 2, "b": 2, "c": 3}]}',
    '{"dataframe_records": 5, "dataframe_records": [{"a": 2, "b": 2, "c": 3}]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}], "params": {"x": 1}}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}], "params": 5}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}], "params": null}',
    '{"params": {"x": 1}}',
    '{"inputs": {"a": 1, "b": 2, "c": 3}, "params": [1]}',
    '{"Inputs": {"a": 1, "b": 2, "c": 3}}',
    '{"dataframe_records": [{"\\u0061": 1, "b": 2, "c": 3}]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3, "\\ud800": "\\ud800"}]}',
    '{"dataframe_records": [{"a": 1, "b": 2, "c": 3, "ü": "ü\\u0000"}]}',
    '{"dataframe_split": {"columns": ["a", "b", "c", "\\ud800"], "data": [[1, 2, 3, 4]]}}',
    '\ufeff{"dataframe_records": [{"a": 1, "b": 2, "c": 3}]}',
    '\t\r\n {"dataframe_records": [{"a": 1, "b": 2, "c": 3}]} \n',
)  # fmt: skip
UNREADABLE = [
    Body("UTF-16", '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}]}'.encode("utf-16")),
    Body("invalid UTF-8", b'{"dataframe_records": [{"a": 1, "b": 2, "c": 3, "x": "\xff"}]}'),
    Body("Latin-1", '{"dataframe_records": [{"a": 1, "b": 2, "c": 3, "ü": 1}]}'.encode("latin-1")),
    Body("nested by 100", b'{"instances": ' + b"[" * 100 + b"1" + b"]" * 100 + b"}"),
    Body("nested by 100,000", b'{"instances": ' + b"[" * 100_000 + b"1" + b"]" * 100_000 + b"}"),
    Body("5,000 digits", b'{"dataframe_records": [{"a": ' + b"1" * 5000 + b', "b": 2, "c": 3}]}'),
    Body("400 digits", b'{"dataframe_records": [{"a": ' + b"1" * 400 + b', "b": 2, "c": 3}]}'),
]

CONTENT_TYPES = (
    "application/json; charset=utf-8", "application/json;charset=UTF-8", "application/json; charset=latin-1",
    "application/json; charset=", "application/json;", "application/json; version=1",
    "application/json; charset=utf-8; x=1", 'application/json; charset="utf-8"', "Application/JSON",
    "application/json; Charset=utf-8", "text/json", "text/plain", "application/x-www-form-urlencoded",
    " application/json ", "application/json, text/csv", "text/csv; charset=utf-8", "text/csv; header=present",
    "application/octet-stream", "multipart/form-data; boundary=x", "*/*",
)  # fmt: skip
VALID = '{"dataframe_records": [{"a": 1, "b": 2, "c": 3}]}'
TYPES = [Body(kind, VALID.encode(), kind) for kind in CONTENT_TYPES]

NUMBERS = (
    "1", "-0.0", "0.1", "1e-320", "1e300", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "null", "true", "false",
    "9007199254740993", "18446744073709551616", "123456789012345678901234567890", '"1.5"', '" 2 "', '"1e3"', '"x"',
    '""', '"nan"', '"Infinity"', '"1_0"', "[]", "[1]", "{}", '{"x": 1}', "0.1234567890123456789",
)  # fmt: skip

TABLES = texts(
    CSV,
    "a,b,c\n0.5,-1,2\n1,2,3\n", "c,a,b\n0.5,-1,2\n1,2,3\n", "a,b,c\r\n0.5,-1,2\r\n", "a,b,c\n0.5,-1,2",
    "\na,b,c\n\n1,2,3\n\n", ",a,b,c\n0,0.5,-1,2\n1,1,2,3\n", "Unnamed: 0,a,b,c\n0,0.5,-1,2\n",
    "a,b,c,x\n0.5,-1,2,text\n", "x,a,b,c\n2020-01-01,1,2,3\n", "a,b\n0.5,-1\n", "a,b,c\n", "", "\n", "x\n1\n",
    "a,a,b,c\n1,2,3,4\n", "x,x,a,b,c\n9,9,1,2,3\n", '"a","b","c"\n"0.5","-1","2"\n', "a,b,c\n,,\n", 'a,b,c\n"",1,2\n',
    "a,b,c\nnan,NaN,NA\n", "a,b,c\nnull,None,N/A\n", "a,b,c\ninf,-inf,1\n", "a,b,c\nInfinity,1e400,1\n",
    "a,b,c\nx,1,2\n", "a,b,c\n1;2;3\n", "a;b;c\n1;2;3\n", "a,b,c\n 1 , 2,3\n", "a,b,c\n1,2,true\n", "a,b,c\n1,2\n",
    "a,b,c\n1,2,3,4\n", "a,b,c\n0,1,2,3\n1,4,5,6\n", "\ufeffa,b,c\n1,2,3\n", 'a,b,c,x\n1,2,3,"two\nlines"\n',
    'a,b,c,x\n1,2,3,"say ""hi"""\n', "a,b,c\n1,2,3\n\n\n", "A,b,c\n1,2,3\n", "a ,b,c\n1,2,3\n", "a,b,c\n1e3,+2,-.5\n",
    "a,b,c\n0x1A,1,1\n", "a,b,c\n1_000,1,1\n", 'a,b,c\n"1,5",1,1\n', "a,b,c\n1.5,1,#N/A\n", "0,1,2\n1,2,3\n",
    "x,y,z\n1,2,3\n", "a,b,c\n9007199254740993,1,1\n", "a,b,c\n1,2,true\n2,3,4\n",
)  # fmt: skip
LATIN = Body("CSV in Latin-1", "a,b,c,x\n1,2,3,ü\n".encode("latin-1"), CSV)
LATIN_NAME = Body("CSV with a name in Latin-1", "a,b,c,ü\n1,2,3,4\n".encode("latin-1"), CSV)


def with_index() -> list[Body]:
    """What `to_csv`, `to_parquet` and `to_json` of pandas write, index and all."""
    rows = pd.DataFrame({"a": [0.5, np.nan], "b": [-1.0, 2.0], "c": [2.0, 3.5]}, index=[3, 7])
    bodies = [
        Body("to_csv", str(rows.to_csv()).encode(), CSV),
        Body("to_csv, index named", str(rows.to_csv(index_label="id")).encode(), CSV),
        Body("to_json, split", b'{"dataframe_split": ' + rows.to_json(orient="split").encode() + b"}"),
        Body("to_json, records", b'{"dataframe_records": ' + rows.to_json(orient="records").encode() + b"}"),
    ]
    for name, kept in {
        "to_parquet": rows,
        "to_parquet, index named": rows.rename_axis("id"),
        "to_parquet, no index": rows.reset_index(drop=True),
        "to_parquet, other order": rows[["c", "b", "a"]],
        "to_parquet, a column of text more": rows.assign(x="text"),
        "to_parquet, a column less": rows[["a", "b"]],
        "to_parquet, no rows": rows.iloc[:0],
    }.items():
        bodies.append(Body(name, kept.to_parquet(), PARQUET))
    return bodies


def parquet(name: str, **columns: Any) -> Body:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return Body(name, sink.getvalue(), PARQUET)


def files() -> list[Body]:
    """Parquet files with columns of other types than double, and what is no Parquet file."""
    one = pa.array([1.5, 2.5])
    return [
        parquet("int64", a=pa.array([1, 2]), b=one, c=one),
        parquet("int64 of 0 and 1", a=pa.array([1, 0]), b=one, c=one),
        parquet("int32", a=pa.array([1, 2], pa.int32()), b=one, c=one),
        parquet("float32", a=pa.array([0.1, 2], pa.float32()), b=one, c=one),
        parquet("bool", a=pa.array([True, False]), b=one, c=one),
        parquet("text", a=pa.array(["1", "2"]), b=one, c=one),
        parquet("nulls", a=pa.array([None, 2.0]), b=one, c=one),
        parquet("infinity", a=pa.array([float("inf"), 2.0]), b=one, c=one),
        parquet("type null", a=pa.array([None, None]), b=one, c=one),
        Body("no file", b"PAR1 nothing", PARQUET),
        Body("empty file", b"", PARQUET),
        Body("JSON as Parquet", VALID.encode(), PARQUET),
    ]


def whole_values() -> list[Body]:
    """Values for columns of whole numbers, booleans and float32."""
    usual = {"a": "3", "b": "-2", "c": "true", "d": "0.1"}
    odd = {
        "a": (
            *NUMBERS, "2.0", "2.5", "-1.5", "9007199254740992", "9223372036854775807", "9223372036854775808", '"7"',
            '"2.0"',
        ),
        "b": ("2.0", "2.5", "2147483647", "2147483648", "-2147483649", "NaN", "null", "true", '"7"', '"x"', "1e10"),
        "c": ("false", "0", "1", "1.0", "0.0", "2", "null", "NaN", '"true"', '"x"', '""', "[]", "[1]", "0.5"),
        "d": ("0.1", "16777217", "1e39", "NaN", "null", "true", '"0.1"', "9007199791611905", "-Infinity", '"x"'),
    }  # fmt: skip
    bodies: list[Body] = []
    for name, cases in odd.items():
        for value in cases:
            row = ", ".join(f'"{column}": {value if column == name else cell}' for column, cell in usual.items())
            cells = ", ".join(value if column == name else cell for column, cell in usual.items())
            lists = ", ".join(f'"{column}": [{value if column == name else cell}]' for column, cell in usual.items())
            given = (
                f'{{"dataframe_records": [{{{row}}}]}}',
                f'{{"dataframe_split": {{"columns": ["a", "b", "c", "d"], "data": [[{cells}]]}}}}',
                f'{{"instances": [{{{row}}}]}}',
                f'{{"inputs": [{{{row}}}]}}',
                f'{{"inputs": {{{lists}}}}}',
            )
            bodies += [body._replace(name=f"{name} is {value}: {body.name}") for body in texts(JSON, *given)]
    cells = (
        "1,2,true,0.5", "1,2,True,0.5", "1,2,1,0.5", "1,2,TRUE,", "2.0,2,false,1e39", "2.5,2,false,1", "1,,true,1",
        "1,2,,1", "1,2,yes,1", "9007199254740993,2,true,1",
        "1,2147483648,true,1", "x,2,true,1", "1,2,true,x",
    )  # fmt: skip
    return bodies + texts(CSV, *(f"a,b,c,d\n{line}\n" for line in cells), "a,c,d\n1,true,0.5\n", "a,c,d\n1,true,x\n")


def missing_values() -> list[Body]:
    """Bodies without optional columns, and with one that some rows lack."""
    return texts(
        JSON,
        '{"dataframe_split": {"columns": ["a"], "data": [[1.5]]}}',
        '{"dataframe_split": {"columns": ["a", "c"], "data": [[1.5, null]]}}',
        '{"dataframe_records": [{"a": 1.5, "b": 2}]}',
        '{"dataframe_records": [{"a": 1.5, "b": 2, "c": 3}, {"a": 1, "b": 2}]}',
        '{"dataframe_records": [{"b": 2}]}',
        '{"instances": [{"a": 1.5, "b": 2}]}',
        '{"instances": [{"a": 1.5, "b": 2, "c": 3}, {"a": 1, "b": 2}]}',
        '{"inputs": {"a": [1.5], "c": [1]}}',
        '{"inputs": [{"a": 1.5, "b": 2, "c": 3}, {"a": 1, "b": 2}]}',
    ) + texts(CSV, "a\n1.5\n", "a,c\n1.5,2\n", "b,c\n1.5,2\n", "a,b,c\n1,,\n")


def categories() -> list[Body]:
    given = ('"red"', '"grün"', '"blue:1"', '"pink"', "null", "5", '""', "NaN", "[1]")
    bodies = [body for value in given for body in values(value)]
    return bodies + texts(CSV, *(f"a,b,c\n{cell},1,2.5\n" for cell in ("red", "grün", "pink", "", '"blue:1"', "NA")))


def bodies_of(model: str) -> list[Body]:
    """The bodies for a model."""
    few = LAYOUTS[:4] + LAYOUTS[32:36] + TABLES[:6] + with_index()[:6]
    match model:
        case "doubles":
            return (
                LAYOUTS
                + BROKEN
                + UNREADABLE
                + TYPES
                + values(*NUMBERS)
                + TABLES
                + [LATIN, LATIN_NAME]
                + with_index()
                + files()
            )
        case "integers":
            return whole_values()
        case "optional":
            return few + missing_values()
        case "categories":
            return categories()
        case "tensor" | "unsigned" | "unnamed":
            return (
                texts(JSON, '{"instances": [[1, 2, 3, null]]}')
                + LAYOUTS
                + TABLES[:10]
                + with_index()
                + files()[:8]
                + values("null", '"1.5"', "NaN", "true")
            )
        case "whole tensor" | "unsigned classifier":
            return few + [body for body in LAYOUTS if b": [[" in body.content]
        case "single":
            return LAYOUTS + texts(
                JSON, '{"dataframe_split": {"columns": ["a"], "data": [1, 2.5]}}', '{"inputs": [[1], [2]]}'
            )
        case "planned":
            return texts(
                JSON,
                '{"dataframe_records": [{"income": 1, "rooms": 2, "age": 3}]}',
                '{"dataframe_records": [{"age": 1, "rooms": 2, "income": 3, "x": 1}]}',
                '{"inputs": {"income": [1, 2], "rooms": ["3", 4], "age": [5, 6]}}',
                '{"dataframe_split": {"columns": ["income", "rooms"], "data": [[1, 2]]}}',
                '{"dataframe_records": [{"income": null, "rooms": 2, "age": 3}]}',
                '{"dataframe_records": [{"income": 1, "rooms": NaN, "age": 3}]}',
            ) + texts(CSV, "income,rooms,age\n1,2,3\n", "income,rooms\n1,2\n", "income,rooms\n1,x\n")
        case _:
            return few
