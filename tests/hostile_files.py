"""Malformed label files made by hand: bytes → where the one error is, and what it says.

A case is the file's name, its bytes, the line of the error (None: the file as a whole), words of the message, and the
files beside it. `labels.txt` lies beside GoEmotions' files.
"""

import gzip
import io
import json
import zipfile
from dataclasses import dataclass, field

LABELS = b"anger\nfear\njoy\n"
GOOD = "a fine text,joy\nno good at all,anger\n"


@dataclass(frozen=True)
class Broken:
    name: str
    content: bytes
    line: int | None
    says: str
    beside: dict[str, bytes] = field(default_factory=dict)
    at: str = ""


def bad(name: str, content: str | bytes, line: int | None, says: str, at: str = "", **beside: str) -> Broken:
    """`at`: the file of the error, where it is another. `labels_txt="…"` lies beside as labels.txt."""
    files = {key.replace("__", "-").replace("_", "."): value.encode() for key, value in beside.items()}
    return Broken(name, content.encode() if isinstance(content, str) else content, line, says, files, at)


def table(body: str, line: int | None, says: str, header: str = "text,label\n") -> Broken:
    return bad("x.csv", header + body, line, says)


def go(body: str, line: int | None, says: str) -> Broken:
    return bad("x.tsv", "so it goes\t1\tx\nand on\t0,2\ty\n" * 20 + body, line, says, labels_txt=LABELS.decode())


def semi(body: str, line: int | None, says: str) -> Broken:
    return bad("x.txt", "so it goes;joy\nand on;anger\n" * 20 + body, line, says)


def lines(body: str, line: int | None, says: str) -> Broken:
    return bad("x.jsonl", '{"text": "so", "labels": ["joy"]}\n{"text": "no", "labels": ["anger"]}\n' + body, line, says)


def array(content: str, line: int | None, says: str) -> Broken:
    return bad("x.json", content, line, says)


def fast(body: str, line: int | None, says: str) -> Broken:
    return bad("x.txt", "__label__joy so it goes\n__label__anger no\n" * 10 + body, line, says)


def listed(cell: str, says: str = "not a list of names or ids") -> Broken:
    quoted = cell.replace('"', '""')
    return table(f'a,"[""joy""]"\nb,"{quoted}"\nc,"[""anger""]"\n', 3, says)


def bare(labels: tuple[str, ...], body: str, line: int, says: str) -> Broken:
    """A table without a header."""
    rows = "".join(f"number {i} goes on,{label}\n" for i, label in enumerate(labels))
    return bad("x.csv", rows + body, line, says, labels_txt=LABELS.decode())


def named(name: str, content: str, line: int | None, says: str) -> Broken:
    """A file of label names that is broken, beside a table of ids."""
    return bad(
        "x.csv", "text,label\na,0\nb,1\n", line, says, at=name, **{name.replace("-", "__").replace(".", "_"): content}
    )


def zipped(members: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


TEXT_FILES = [
    bad("x.csv", b"", None, "the file is empty"),
    bad("x.tsv", b"\n\n\n", None, "the file is empty"),
    bad("x.txt", b" \t \r\n", None, "the file is empty"),
    bad("x.jsonl", b"\xef\xbb\xbf", None, "the file is empty"),
    bad("x.csv", "\u00a0\n\u2003\n", None, "the file is empty"),
    bad("x.csv", b"text,label\nna\xefve,joy\nb,anger\n", 2, "byte 0xef is not UTF-8"),
    bad("x.csv", b"text,label\na,joy\nb,ang\xe9r\n", 3, "byte 0xe9 is not UTF-8"),
    bad("x.csv", b"text,label\na,joy\nb,anger\n\x80", 4, "byte 0x80 is not UTF-8"),
    bad("x.csv", b"text,label\na,joy\n\xc3\n", 3, "byte 0xc3 is not UTF-8"),
    bad("x.csv", b"text,label\n\xed\xa0\x80,joy\n", 2, "byte 0xed is not UTF-8"),
    bad("x.csv", b"text,label\n\xf4\x90\x80\x80,joy\n", 2, "byte 0xf4 is not UTF-8"),
    bad("x.csv", b"text,label\n\xc0\xaf,joy\n", 2, "byte 0xc0 is not UTF-8"),
    bad("x.txt", b"so it goes;joy\nno\xff;anger\n", 2, "byte 0xff is not UTF-8"),
    bad("x.jsonl", b'{"text": "a", "label": "joy"}\n{"text": "\xff", "label": "joy"}\n', 2, "byte 0xff is not UTF-8"),
    bad("x.csv", b"text,label\na\0,joy\n", 2, "a NUL byte"),
    bad("x.tsv", b"a\t1\tx\nb\0\t0\ty\n", 2, "a NUL byte", labels_txt="anger\njoy\n"),
    bad("x.txt", b"a;joy\nb;joy\0\n", 2, "a NUL byte"),
    bad("x.csv", "text,label\na,joy\n".encode("utf-16")[:-1], 2, "byte 0x0a is not UTF-16"),
    bad("x.csv", b"\xff\xfea\0\n\0" + b"\0\xdc" + b"\n\0", 2, "is not UTF-16"),
    bad("x.csv", "text,label\na,joy\n".encode("utf-16-le"), None, "UTF-16"),
    bad("x.csv", "text,label\na,joy\n".encode("utf-16-be"), None, "UTF-16"),
    bad("x.csv", b"\xff\xfe\0\0a\0\0\0\n\0\0\0\xff\xff\xff\xff", 2, "is not UTF-32"),
    bad("x.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None, "a PNG image"),
    bad("x.xls", b"\xd0\xcf\x11\xe0" + b"\0" * 90, None, "an Excel file of the old format"),
    bad("x.csv", b"PK\x03\x04\x14\0\0\0", None, "the zip archive is broken"),
    bad("x.zip", zipped({"a.csv": GOOD, "b.csv": GOOD}), None, "2 files that may be the texts: 'a.csv', 'b.csv'"),
    bad("x.zip", zipped({"a.doc": GOOD}), None, "no file that is read, only 'a.doc'"),
    bad("x.zip", zipped({}), None, "the zip archive is empty"),
    bad("x.zip", zipped({"a.csv": GOOD})[:-30], None, "the zip archive is broken"),
    bad("x.zip", zipped({"a.csv": GOOD}).replace(b"fine", b"fins"), None, "the zip archive is broken: Bad CRC-32"),
    bad("x.zip", zipped({"a.csv": "text,label\na\n"}), 2, "the row has 1 columns"),
    bad("x.zip", zipped({"b.zip": zipped({"a.csv": GOOD})}), None, "a zip archive in an archive"),
    bad("x.csv", bytes(range(256)) * 4, None, "a binary file"),
    bad("x.csv.gz", gzip.compress(b"text,label\na,joy\n" * 9, mtime=0)[:30], None, "the gzip archive is cut short"),
    bad("x.csv", gzip.compress(b"text,label\na,joy\n", mtime=0)[:-1], None, "the gzip archive is cut short"),
    bad("x.csv.gz", b"\x1f\x8b", None, "the gzip archive is cut short"),
    bad("x.csv.gz", b"\x1f\x8b\x08\0" + b"\0" * 40, None, "the gzip archive is broken"),
    bad("x.csv.gz", gzip.compress(b"text,label\na,joy\n", mtime=0) + b"more", None, "the gzip archive is broken"),
    bad("x.csv.gz", gzip.compress(b"", mtime=0), None, "the file is empty"),
    bad("x.csv.gz", gzip.compress(gzip.compress(b"text", mtime=0), mtime=0), None, "gzip archive in an archive"),
    bad("x.csv.gz", gzip.compress(b"text,label\na\n", mtime=0), 2, "the row has 1 columns"),
    bad("x.txt", "just a text\nand one more\n", 1, "each line is a text and nothing else"),
    bad("x.txt", "one\ntwo\nthree\n", 1, "each line is a text and nothing else"),
    bad("x.csv", "1\n2\n3\n", 1, "each line is a text and nothing else"),
]

TABLES = [
    bad("x.csv", "text,label\n", 1, "there are no rows below the header"),
    bad("x.csv", "text,label", 1, "there are no rows below the header"),
    bad("x.csv", "text,anger,joy\n\n\n", 1, "there are no rows below the header"),
    bad("x.csv", "\n\ntext,label\n\n", 3, "there are no rows below the header"),
    table(GOOD + "alone\n", 4, "the row has 1 columns, the header has 2"),
    table(GOOD + "one, two,joy\n", 4, "the row has 3 columns, the header has 2"),
    table(GOOD + ",,,\nwell, well,joy\n", 5, "the row has 3 columns, the header has 2"),
    table('"two\nlines",joy\nalone\n', 4, "the row has 1 columns"),
    table(GOOD + "a;joy\n", 4, "the row has 1 columns"),
    table(GOOD + 'a,"joy\n', 4, "never closed"),
    table(GOOD + '"a,joy\nb,anger\n', 4, "never closed"),
    table(GOOD + '"a" b,joy\n', 4, "not valid CSV"),
    table(GOOD + '"a""",joy"\n"\n', 5, "never closed"),
    table(GOOD + 'a,"joy"x\n', 4, "not valid CSV"),
    bad("x.csv", 'text,"label\na,joy\n', 1, "cannot tell the format"),
    bad("x.csv", "text,label,label\na,joy,joy\n", 1, "names a column twice: label"),
    bad("x.csv", "Text,text,label\na,b,joy\n", 1, "names a column twice: text"),
    bad("x.csv", "text,joy,Joy\na,0,1\n", 1, "names a column twice: joy"),
    bad("x.csv", "id,anger,joy\n1,0,1\n2,1,0\n", 1, "no column 'text'"),
    bad("x.csv", "satz,label\nso,joy\nna,anger\n", 1, "no column 'text'"),
    bad("x.tsv", "satz\tlabel\nso\tjoy\n", 1, "no column 'text'"),
    bad("x.csv", "text,source\na,web\nb,mail\n", 1, "no labels: neither 0/1 columns nor"),
    bad("x.csv", "text\na\nb\n", 1, "no labels"),
    bad("x.csv", "text,id\na,1\nb,2\n", 1, "no labels"),
    bad("x.csv", "text,is_reply,note\na,x,y\n", 1, "no labels"),
    table("a,0,1\nb,2,0\nc,0,0\n", 3, "'2' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,,0\nc,0,0\n", 3, "'' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,yes\nc,0,0\n", 3, "'yes' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,-1\nc,0,0\n", 3, "'-1' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,0.5\nc,0,0\n", 3, "'0.5' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,1.00\nc,0,0\n", 3, "'1.00' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,NaN\nc,0,0\n", 3, "'NaN' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,²\nc,0,0\n", 3, "is neither 0 nor 1", "text,anger,joy\n"),
    table("a,0,1\nb,0,01\nc,0,0\n", 3, "'01' is neither 0 nor 1", "text,anger,joy\n"),
    table("a,joy\nb,\nc,anger\n", 3, "a multi-class row has exactly one label, this one has 0"),
    table("a,joy\nb,joy\n", None, "needs more labels than ['joy']"),
    table('a,joy\nb,"an\nger"\n', 3, "control characters"),
    table("a,joy\nb,an\x1bger\n", 3, "control characters"),
    table("".join(f"t,remark {i}\n" for i in range(1001)), None, "1,001 different labels, which look like texts"),
    bad("x.tsv", "text\tlabel\na\tjoy\nb c\n", 3, "the row has 1 columns"),
    bad("x.tsv", "text\tlabel\na\tjoy\nb\tc\tjoy\n", 3, "the row has 3 columns"),
    bad("x.csv", "text;label\na;joy\nb; c;joy\n", 3, "the row has 3 columns"),
    bad("x.csv", "text|label\na|joy\nb\n", 3, "the row has 1 columns"),
    bad("x.csv", "text,label\r\na,joy\r\nb\r\n", 3, "the row has 1 columns"),
    bad("x.csv", "text,label\ra,joy\rb\r", 3, "the row has 1 columns"),
    bad("x.csv", "\ufefftext,label\na\n", 2, "the row has 1 columns"),
    listed("[joy", "'[joy'"),
    listed("joy]", "it is not a list"),
    listed('["joy", ["anger"]]'),
    listed("[[1, 2]]"),
    listed("['joy', {'a': 1}]"),
    listed("['joy' + 'anger']"),
    listed("[__import__('os').system('true')]"),
    listed("['joy',, 'anger']"),
    listed("[, 'joy']"),
    listed("['joy", "it is not a list"),
    listed("['joy']]"),
    listed("[None]"),
    listed("['joy'] ['anger']"),
    listed("[" * 5000 + "]" * 5000),
    listed("['" + "x" * 30_000 + "']", "30,004 characters"),
    bad(
        "x.csv",
        "text,id,rater_id,anger,joy\na,1,1,0,1\nb,1,2,0,1\n",
        3,
        "the id '1' has another text in line 2",
    ),
    bad("x.csv", "text,id,rater_id,anger,joy\na,1,1,0,1\na,1,2,0,x\n", 3, "neither 0 nor 1"),
    bad(
        "x.csv",
        "text,id,rater_id,example_very_unclear,anger,joy\na,1,1,False,0,1\na,1,2,perhaps,0,1\n",
        3,
        "'perhaps' is neither true nor false",
    ),
]

LINES = [
    go("no tab\n", 41, "there is no tab here"),
    go("I have\t5\t1\tx\n", 41, "here are 4 cells"),
    go("a\t1\tx\t\n", 41, "here are 4 cells"),
    go("a\t3\tx\n", 41, "label id '3' is not one of 0 to 2"),
    go("a\t-1\tx\n", 41, "label id '-1'"),
    go("a\tjoy\tx\n", 41, "label id 'joy'"),
    go("a\t1.5\tx\n", 41, "label id '1.5'"),
    go("a\t0;2\tx\n", 41, "label id '0;2'"),
    go("a\t²\tx\n", 41, "label id '²'"),
    go("a\t0x1\tx\n", 41, "label id '0x1'"),
    go("\n\na\t0,9\tx\n", 43, "label id '9'"),
    go(f"a\t{'9' * 5000}\tx\n", 41, "is not one of 0 to 2"),
    go("a\t1,\x0b7\tx\n", 41, "label id '7'"),
    go('"a\nb"\t1\tx\n', 41, "there is no tab here"),
    semi("no delimiter\n", 41, "one of them is missing"),
    semi("no label;\n", 41, "a multi-class row has exactly one label, this one has 0"),
    semi("no label; \t\n", 41, "a multi-class row has exactly one label, this one has 0"),
    semi("both;joy,anger\nno label; \t\n", 42, "one of them is missing"),
    semi("\n\nand so\n", 43, "one of them is missing"),
    semi("joy\n", 41, "one of them is missing"),
    bad("x.txt", "Phrase;Feeling\na;joy\nb;anger\nc;joy\n", 1, "the first line looks like a header"),
    bad("x.txt", "a;joy\nb;joy\n", None, "needs more labels than ['joy']"),
    bad("x.txt", "a;0\nb;1\nc;7\n", 3, "label id '7' is not one of 0 to 2", labels_txt=LABELS.decode()),
    fast("__label__ no name\n", 21, "__label__ has no name here"),
    fast("__label__joy __label__ x\n", 21, "__label__ has no name here"),
    bad("x.txt", "__label__ a\n__label__ b\n", 1, "no line has a label"),
    bad("x.txt", "__label__joy a\n__label__joy b\n", None, "needs more labels than ['joy']"),
    bad("x.txt", "__label__0 a\n__label__5 b\n", 2, "label id '5'", labels_txt=LABELS.decode()),
    bare(("joy", "anger", "joy", "anger") * 4, "x y\n", 17, "the row has 1 columns, the first has 2"),
    bare(('"[1]"', '"[0, 2]"'), 'no,"[7]"\n', 3, "label id '7'"),
    bare(('"[1]"', '"[0, 2]"'), 'no,"[0"\n', 1, "no column 'text'"),
]

JSON = [
    lines("\n\nnot json\n", 5, "not valid JSON: Expecting value"),
    lines('{"text": "a", "labels": ["joy"]\n', 3, "not valid JSON"),
    lines('{"text": "a", "labels": ["joy",]}\n', 3, "not valid JSON"),
    lines("{'text': 'a', 'labels': ['joy']}\n", 3, "not valid JSON"),
    lines('{"text": "a\tb", "labels": []}\n', 3, "Invalid control character"),
    lines('{"text": "\\x41", "labels": []}\n', 3, "Invalid \\escape"),
    lines('{"text": "a", "labels": []} {"text": "b", "labels": []}\n', 3, "something follows the object"),
    lines('{"text": "a", "labels": []},\n', 3, "something follows the object: ','"),
    lines('["a", "joy"]\n', 3, "a row is a JSON object, this is ['a', 'joy']"),
    lines('"a"\n', 3, "a row is a JSON object"),
    lines("null\n", 3, "a row is a JSON object, this is None"),
    lines("17\n", 3, "a row is a JSON object, this is 17"),
    lines('{"text": "a", "lables": ["joy"]}\n', 3, "there is no key 'labels', which other rows have"),
    lines('{"text": "a"}\n', 3, "there is no key 'labels'"),
    lines('{"labels": ["joy"]}\n', 3, "there is no text"),
    lines('{"text": null, "labels": ["joy"]}\n', 3, "there is no text"),
    lines('{"text": 5, "labels": ["joy"]}\n', 3, "the text is 5"),
    lines('{"text": ["a"], "labels": ["joy"]}\n', 3, "the text is ['a']"),
    lines('{"text": "a", "labels": [["joy"]]}\n', 3, "a label is a name or an id, not ['joy']"),
    lines('{"text": "a", "labels": [null]}\n', 3, "a label is a name or an id, not None"),
    lines('{"text": "a", "labels": [true]}\n', 3, "a label is a name or an id, not True"),
    lines('{"text": "a", "labels": [0.5]}\n', 3, "a label is a name or an id, not 0.5"),
    lines('{"text": "a", "labels": {"joy": 2}}\n', 3, "the share of 'joy' is a number from 0 to 1, not 2"),
    lines('{"text": "a", "labels": {"joy": "1"}}\n', 3, "the share of 'joy' is a number from 0 to 1"),
    lines('{"text": "a", "labels": {"joy": -0.1}}\n', 3, "the share of 'joy' is a number from 0 to 1"),
    lines('{"text": "a", "text": "b", "labels": []}\n', 3, "the key 'text' occurs twice"),
    lines('{"Text": "a", "labels": []}\n', 3, "has two spellings"),
    lines('{"text": "\\ud83d", "labels": []}\n', 3, "half of a character"),
    lines('{"text": "a", "labels": ["\\udc00"]}\n', 3, "half of a character"),
    lines('{"text": "a", "labels": [NaN]}\n', 3, "NaN is not a JSON number"),
    lines('{"text": "a", "x": -Infinity, "labels": []}\n', 3, "-Infinity is not a JSON number"),
    lines('{"text": "a", "labels": ' + "[" * 100_000 + "\n", 3, "not valid JSON"),
    lines('{"text": "a", "labels": [' + "9" * 5000 + "]}\n", 3, "a number too long"),
    lines('{"text": "a", "labels": [99999999999999999999]}\n', 3, "a label is a name or an id"),
    lines('{"text": "a", "labels": ["' + "\\n" + 'joy\\ny"]}\n', 3, "control characters"),
    bad("x.jsonl", '{"text": "a", "anger": 0, "joy": 1}\n{"text": "b", "anger": 0}\n', 2, "the cell is empty"),
    bad(
        "x.jsonl",
        '{"text": "a", "anger": 0, "joy": 1}\n{"text": "b", "anger": 0, "joy": 2}\n',
        2,
        "2 is neither 0 nor 1",
    ),
    bad(
        "x.jsonl", '{"text": "a", "anger": 0, "joy": 1}\n{"text": "b", "anger": 0, "joy": [1]}\n', 2, "neither 0 nor 1"
    ),
    bad("x.jsonl", "{}\n{}\n", 1, "there are no objects with keys"),
    bad("x.jsonl", '{"satz": "a", "label": "joy"}\n', 1, "no key 'text'"),
    bad("x.jsonl", '{"text": "a", "source": "web"}\n', 1, "no labels"),
    bad("x.jsonl", "text,label\na,joy\n", 1, "not valid JSON"),
    array("[", 1, "the file ends where the array continues or ends"),
    array("[]", 1, "there are no objects with keys"),
    array("[\n\n]\n", 1, "there are no objects with keys"),
    array('[\n{"text": "a", "label": "joy"}\n', 2, "the file ends where the array continues or ends"),
    array('[\n{"text": "a", "label": "joy"},\n]\n', 3, "not valid JSON: Expecting value"),
    array(
        '[\n{"text": "a", "label": "joy"}\n{"text": "b", "label": "fear"}\n]', 3, "where the array continues or ends"
    ),
    array('[\n{"text": "a", "label": "joy"},\n{"text": "b",\n "label": fear}\n]', 4, "not valid JSON"),
    array('[\n{"text": "a", "label": "joy"}\n]\n[]', 3, "the array continues or ends"),
    array('[{"text": "a", "label": "joy"},\n\n"b"]', 3, "a row is a JSON object, this is 'b'"),
    array('{"text": ["a", "b"], "label": ["joy", "fear"]}', 1, "a list for each column"),
    array('{\n"text": "a"\n}', 1, "no labels"),
    array('{\n"text": "a",\n"labels": [}', 3, "not valid JSON"),
    array('{\n"data": [\n{"text": "a", "label": "joy"},\n{"text": "b"}]}', 4, "there is no key 'label'"),
    array('{\n"data": [{"text": "a", "label": "joy"}]', 2, "not valid JSON"),
    array('{"data": [{"text": "a", "label": "joy"}]}\n[]', 2, "a row is a JSON object"),
    array(json.dumps("text"), 1, "a row is a JSON object"),
]

PARQUET = [
    bad("x.parquet", b"", 1, "not a valid Parquet file"),
    bad("x.parquet", b"PAR1", 1, "not a valid Parquet file"),
    bad("x.parquet", b"PAR1" + b"\0" * 20 + b"PAR1", 1, "not a valid Parquet file"),
    bad("x.parquet", b"PAR1\x15\x04\x15\xf0" + b"\xff" * 60 + b"\xff\xff\xff\x7fPAR1", 1, "not a valid Parquet file"),
    bad("x.csv", b"PAR1\x15\x04\x15\xf0\0\0PAR1", 1, "not a valid Parquet file"),
    bad("x.parquet", "text,label\na,joy\n", 1, "not a valid Parquet file"),
    bad("x.parquet.gz", gzip.compress(b"PAR1\0PAR1", mtime=0), 1, "not a valid Parquet file"),
]

NAMES = [
    named("labels.txt", "anger\nanger\n", 2, "the label 'anger' occurs twice"),
    named("labels.txt", "", None, "the file is empty"),
    named("labels.json", "{", 1, "not valid JSON"),
    named("labels.json", '{"anger": 0,\n "joy": 1,}', 2, "not valid JSON"),
    named("labels.json", "{}", 1, "not a dictionary of label ids"),
    named("labels.json", "[]", 1, "not a dictionary of label ids"),
    named("labels.json", "17", 1, "not a dictionary of label ids"),
    named("labels.json", '{"anger": 0, "joy": 0}', 1, "two labels have the id 0"),
    named("labels.json", '{"0": "joy", "1": "joy"}', None, "the label 'joy' occurs twice"),
    named("labels.json", '{"anger": true, "joy": 1}', 1, "not a dictionary of label ids"),
    named("labels.json", '{"anger": -1, "joy": 1}', 1, "not a dictionary of label ids"),
    named("labels.json", '{"anger": 0.5, "joy": 1}', 1, "not a dictionary of label ids"),
    named("labels.json", '{"anger": [0], "joy": 1}', 1, "not a dictionary of label ids"),
    named("labels.json", '["anger", 1]', 1, "not a dictionary of label ids"),
    named("labels.json", "[" * 100_000, 1, "not valid JSON"),
    named("emotion-dict.json", '{"anger": "x"}', 1, "not a dictionary of label ids"),
    bad("x.csv", "text,label\na,0\nb,3\n", 3, "label id '3' is not one of 0 to 1", labels_json='{"a": 0, "b": 1}'),
    bad("x.csv", "text,label\na,1\nb,0\n", 3, "label id '0' is not one of 1 to 2", labels_json='{"a": 1, "b": 2}'),
    bad("x.csv", "text,label\na,1\nb,2\n", 3, "label id '2' is not one of 1, 5", labels_json='{"a": 1, "b": 5}'),
]

BROKEN = [*TEXT_FILES, *TABLES, *LINES, *JSON, *PARQUET, *NAMES]
